//! The terminal taken and given back, and the signals that end it.

use super::Error;
use crossterm::{cursor, execute, style, terminal};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

static TAKEN: AtomicBool = AtomicBool::new(false);
static PANICKED: AtomicBool = AtomicBool::new(false);

type Hook = Box<dyn Fn(&std::panic::PanicHookInfo<'_>) + Sync + Send>;

/// The terminal, while it is ours. Dropping it gives it back; a panic in any thread gives it back
/// before its message is printed.
pub(super) struct Screen {
    hook: Arc<Hook>,
}

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        let hook: Arc<Hook> = Arc::new(std::panic::take_hook());
        let before = Arc::clone(&hook);
        PANICKED.store(false, Ordering::SeqCst);
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::SeqCst);
            Self::give_back();
            before(info);
        }));
        let screen = Self { hook };
        Self::enter()?;
        Ok(screen)
    }

    pub(super) fn enter() -> io::Result<()> {
        terminal::enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
    }

    pub(super) fn panicked() -> bool {
        PANICKED.load(Ordering::SeqCst)
    }

    fn give_back() {
        if TAKEN.swap(false, Ordering::SeqCst) {
            let _ = terminal::disable_raw_mode();
            if writer_is_done() {
                let end = terminal::EndSynchronizedUpdate;
                let leave = terminal::LeaveAlternateScreen;
                let _ = execute!(io::stdout(), end, style::ResetColor, leave, cursor::Show);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        Self::give_back();
        if !thread::panicking() {
            let hook = Arc::clone(&self.hook);
            std::panic::set_hook(Box::new(move |info| hook(info)));
        }
    }
}

/// A picture is on its way to the terminal.
pub(super) static WRITING: AtomicBool = AtomicBool::new(false);

/// Waits for the writer, but not for a terminal that takes nothing. Says whether it is done.
pub(super) fn writer_is_done() -> bool {
    for _ in 0..50 {
        if !WRITING.load(Ordering::SeqCst) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Who asks us to end, and whether we were stopped and go on.
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    continued: Arc<AtomicBool>,
    ours: Vec<signal_hook::SigId>,
}

/// Set while nobody runs a dashboard: signals have their default effect.
static DEFAULTS: OnceLock<Arc<AtomicBool>> = OnceLock::new();

impl Stop {
    pub(super) fn new(theirs: Option<Arc<AtomicBool>>) -> Result<Self, Error> {
        use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
        use signal_hook::flag;
        let continued = Arc::new(AtomicBool::new(false));
        let mut ours = Vec::new();
        let id = flag::register(SIGCONT, Arc::clone(&continued)).map_err(Error::Take)?;
        ours.push(id);
        if let Some(asked) = theirs {
            return Ok(Self {
                asked,
                continued,
                ours,
            });
        }
        let asked = Arc::new(AtomicBool::new(false));
        let signals = [SIGTERM, SIGHUP, SIGINT];
        let first_time = DEFAULTS.get().is_none();
        let defaults = DEFAULTS.get_or_init(Arc::default);
        defaults.store(false, Ordering::SeqCst);
        for signal in signals {
            if first_time {
                let set = Arc::clone(defaults);
                flag::register_conditional_default(signal, set).map_err(Error::Take)?;
            }
            let id = flag::register(signal, Arc::clone(&asked)).map_err(Error::Take)?;
            ours.push(id);
        }
        Ok(Self {
            asked,
            continued,
            ours,
        })
    }

    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn continued(&self) -> bool {
        self.continued.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for id in self.ours.drain(..) {
            signal_hook::low_level::unregister(id);
        }
        if let Some(defaults) = DEFAULTS.get() {
            defaults.store(true, Ordering::SeqCst);
        }
    }
}
