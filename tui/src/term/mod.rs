//! Takes the terminal and gives it back: after `q`, a signal or a panic alike.
//!
//! Four threads. One stamps what comes in with the time of its receipt; one reads keys; one
//! writes, and is the only one that a terminal can hold up; this one never waits for the screen:
//! it keeps the model, and draws the newest picture when the last one is out.

mod take;
mod threads;

use self::take::{Screen, Stop, WRITING, writer_is_done};
use self::threads::{
    Clock, Input, LOOK, spawn_key_reader, spawn_line_reader, spawn_stamper, spawn_writer,
};
use crate::app::{App, Effect, Exit, Setup};
use crate::bed::BedKey;
use crate::feed::{self, Event, Incoming};
use crate::lines::Lines;
use crate::screens::view;
use crate::theme::{Palette, Theme};
use crate::widgets::banner::FLASH_MS;
use crossterm::{queue, style, terminal};
use protocol::hex::PublicKey;
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::DashAlive;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// The least time between two pictures.
const FRAME_MS: u64 = 33;
/// A picture that is not out after this long makes the display behind.
const BEHIND_MS: u64 = 2_000;
/// Between two heartbeats.
const HEARTBEAT_MS: u64 = 5_000;
/// The machine slept where the trial's clock is ahead of ours by more than this.
const SLEPT_MS: u64 = 5_000;
/// The most that is taken in before drawing.
const BURST: usize = 4_096;

/// What the dashboard needs to know.
pub struct Options {
    /// The site, for the status line.
    pub site: String,
    /// This dashboard, for its heartbeat.
    pub id: String,
    /// Beds that are expected before anything is heard of them; may be empty.
    pub beds: Vec<BedKey>,
    /// The caller's trial clock.
    pub trial_now: Box<dyn Fn() -> Timestamp + Send>,
    /// How many times faster than the wall that clock runs; 1 is real time.
    pub speed: u32,
    /// Whose payloads are taken.
    pub trust: Box<dyn Fn(&PublicKey) -> bool + Send>,
    /// Colours. See [`choose_palette`].
    pub palette: Palette,
    /// Keep to ASCII characters.
    pub ascii: bool,
    /// Sentences on stdout instead of a screen.
    pub lines: bool,
    /// Set by the caller's own handling of signals. Without it TERM, HUP and INT are taken here,
    /// and have their default effect again afterwards.
    pub stop: Option<Arc<AtomicBool>>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("site", &self.site)
            .field("id", &self.id)
            .field("beds", &self.beds)
            .field("speed", &self.speed)
            .field("palette", &self.palette)
            .field("ascii", &self.ascii)
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}

/// Why the dashboard could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The terminal could not be taken.
    #[error("cannot take the terminal: {0}")]
    Take(#[source] io::Error),
    /// The terminal could not be written to.
    #[error("cannot write to the terminal: {0}")]
    Write(#[source] io::Error),
    /// A part of the program panicked; the terminal was given back before its message.
    #[error("a part of the program failed, see above")]
    Panicked,
}

/// `asked` where the person asked for one; else no colours where `NO_COLOR` is set, or the
/// terminal has none.
pub fn choose_palette(asked: Option<Palette>) -> Palette {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let plain_terminal = || {
        let term = std::env::var("TERM").unwrap_or_default();
        term == "dumb" || term.starts_with("vt")
    };
    match asked {
        Some(palette) => palette,
        None if set("NO_COLOR") || plain_terminal() => Palette::Mono,
        None => Palette::Ansi16,
    }
}

/// Runs the dashboard until somebody ends it. `heartbeat` is called now and then and must return
/// at once.
///
/// # Errors
/// Where the terminal cannot be taken or written to, and after a panic anywhere.
pub fn run(
    options: Options,
    incoming: Receiver<Incoming>,
    heartbeat: impl FnMut(DashAlive),
) -> Result<Exit, Error> {
    // crossterm would turn every colour into a full reset under NO_COLOR, and bold and reverse
    // with it; the palette is chosen before and knows of NO_COLOR.
    style::force_color_output(true);
    let stop = Stop::new(options.stop.clone())?;
    let over = Arc::new(AtomicBool::new(false));
    let (inbox, inputs) = mpsc::channel();
    let clock = Clock::start();
    let screen = if options.lines {
        None
    } else {
        Some(Screen::take().map_err(Error::Take)?)
    };
    spawn_stamper(incoming, inbox.clone(), clock, over.clone());
    if options.lines {
        spawn_line_reader(inbox.clone());
    } else {
        spawn_key_reader(inbox.clone(), over.clone());
    }
    let writer = spawn_writer(inbox).map_err(Error::Take)?;
    let done = Loop::new(options, clock, writer, heartbeat).run(&inputs, &stop, screen.as_ref());
    over.store(true, Ordering::Relaxed);
    drop(screen);
    done
}

struct Loop<H> {
    app: App,
    options: Options,
    clock: Clock,
    writer: Sender<Vec<u8>>,
    heartbeat: H,
    lines: Lines,
    on_screen: Option<Buffer>,
    writing_since: Option<Uptime>,
    drawn_at: Uptime,
    drawn_tick: u64,
    beaten_at: Option<Uptime>,
    looked: Now,
    dirty: bool,
}

impl<H: FnMut(DashAlive)> Loop<H> {
    fn new(options: Options, clock: Clock, writer: Sender<Vec<u8>>, heartbeat: H) -> Self {
        let now = Now {
            uptime: clock.uptime(),
            utc: (options.trial_now)(),
        };
        let setup = Setup {
            site: options.site.clone(),
            beds: options.beds.clone(),
            speed: options.speed,
            theme: Theme::new(options.palette, options.ascii),
        };
        Self {
            app: App::new(setup, now),
            options,
            clock,
            writer,
            heartbeat,
            lines: Lines::default(),
            on_screen: None,
            writing_since: None,
            drawn_at: Uptime::ZERO,
            drawn_tick: u64::MAX,
            beaten_at: None,
            looked: now,
            dirty: true,
        }
    }

    fn now(&self) -> Now {
        Now {
            uptime: self.clock.uptime(),
            utc: (self.options.trial_now)(),
        }
    }

    fn run(
        mut self,
        inputs: &Receiver<Input>,
        stop: &Stop,
        screen: Option<&Screen>,
    ) -> Result<Exit, Error> {
        if screen.is_some() {
            self.resize();
        }
        loop {
            if stop.asked() {
                self.last_words();
                return Ok(Exit::Interrupted);
            }
            if Screen::panicked() {
                return Err(Error::Panicked);
            }
            if stop.continued() && screen.is_some() {
                let _ = Screen::enter();
                self.on_screen = None;
                self.dirty = true;
            }
            if let Some(exit) = self.take(inputs)? {
                self.last_words();
                return Ok(exit);
            }
            let now = self.now();
            self.notice_sleep(now);
            self.beat(now);
            if screen.is_some() {
                self.draw(now);
            } else {
                self.speak(now);
            }
        }
    }

    /// Waits a frame for something to come, and takes all that came.
    fn take(&mut self, inputs: &Receiver<Input>) -> Result<Option<Exit>, Error> {
        let wait = if self.dirty {
            FRAME_MS
        } else {
            LOOK.as_millis().try_into().unwrap_or(100)
        };
        let first = match inputs.recv_timeout(Duration::from_millis(wait)) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Panicked),
        };
        let burst: Vec<_> = std::iter::once(first)
            .chain(inputs.try_iter().take(BURST))
            .collect();
        let burst = feed::conflate(burst, |input| match input {
            Input::Incoming(_, incoming) => Some(incoming),
            Input::Key(_) | Input::Resize | Input::Quit | Input::Written(_) => None,
        });
        for input in burst {
            let mut now = self.now();
            let event = match input {
                Input::Incoming(at, incoming) => {
                    now.uptime = at;
                    feed::open(incoming, &*self.options.trust)
                }
                Input::Key(key) => Some(Event::Key(key)),
                Input::Quit => return Ok(Some(Exit::Quit)),
                Input::Resize => {
                    self.resize();
                    None
                }
                Input::Written(done) => {
                    done.map_err(Error::Write)?;
                    self.writing_since = None;
                    self.app
                        .display_behind
                        .is_some()
                        .then_some(Event::DisplayBehind(false))
                }
            };
            let Some(event) = event else { continue };
            self.dirty = true;
            let mut effects = self.app.update(now, event).into_iter();
            if let Some(Effect::Leave(exit)) = effects.next() {
                return Ok(Some(exit));
            }
        }
        Ok(None)
    }

    fn resize(&mut self) {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let now = self.now();
        self.app.update(now, Event::Resize(width, height));
        self.on_screen = None;
        self.dirty = true;
    }

    /// Our clock stands still while a machine sleeps; the trial's, where it is the wall's, does
    /// not.
    fn notice_sleep(&mut self, now: Now) {
        let before = std::mem::replace(&mut self.looked, now);
        let trial = u64::try_from(now.utc - before.utc).unwrap_or(0);
        let wall = trial / u64::from(self.options.speed.max(1));
        if wall
            > now
                .uptime
                .millis_since(before.uptime)
                .saturating_add(SLEPT_MS)
        {
            self.app.update(now, Event::Resumed);
            self.dirty = true;
        }
    }

    fn beat(&mut self, now: Now) {
        let stuck = |since| now.uptime.millis_since(since) > BEHIND_MS;
        let behind = self.writing_since.is_some_and(stuck);
        let news = behind && self.app.display_behind.is_none();
        if news {
            self.app.update(now, Event::DisplayBehind(true));
        }
        let due = |at| now.uptime.millis_since(at) >= HEARTBEAT_MS;
        if news || self.beaten_at.is_none_or(due) {
            self.beaten_at = Some(now.uptime);
            (self.heartbeat)(DashAlive {
                id: self.options.id.clone(),
                drawing: !behind,
            });
        }
    }

    /// A picture where something changed, each second, and each half flash.
    fn draw(&mut self, now: Now) {
        let ms = now.uptime.as_millis();
        let tick = if self.app.flashes(now) {
            ms / FLASH_MS
        } else {
            ms / 1_000 * 4
        };
        let due = self.dirty || tick != self.drawn_tick;
        let soon = now.uptime.millis_since(self.drawn_at) < FRAME_MS && self.on_screen.is_some();
        if !due || soon || self.writing_since.is_some() {
            return;
        }
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let area = Rect::new(0, 0, width, height);
        let mut picture = Buffer::empty(area);
        view(&self.app, now, area, &mut picture);
        let before = self.on_screen.take().filter(|b| b.area == area);
        if let Ok(bytes) = frame_bytes(before.as_ref(), &picture) {
            self.send(bytes, now);
        }
        self.on_screen = Some(picture);
        (self.drawn_at, self.drawn_tick, self.dirty) = (now.uptime, tick, false);
    }

    fn speak(&mut self, now: Now) {
        if self.writing_since.is_some() {
            return;
        }
        let mut text = String::new();
        for sentence in self.lines.sentences(&self.app, now) {
            text.push_str(&sentence);
            text.push('\n');
        }
        if !text.is_empty() {
            self.send(text.into_bytes(), now);
        }
        self.dirty = false;
    }

    /// Without a screen nothing that is known goes unsaid at the end.
    fn last_words(&mut self) {
        if self.options.lines && writer_is_done() {
            self.writing_since = None;
            self.speak(self.now());
            writer_is_done();
        }
    }

    fn send(&mut self, bytes: Vec<u8>, now: Now) {
        if bytes.is_empty() {
            return;
        }
        WRITING.store(true, Ordering::SeqCst);
        self.writing_since = Some(now.uptime);
        if self.writer.send(bytes).is_err() {
            WRITING.store(false, Ordering::SeqCst);
        }
    }
}

/// The bytes that turn `before` into `next`, between the marks of a synchronized update; the
/// whole screen where there is no `before`. Empty where nothing changed.
///
/// # Errors
/// None: writing to memory does not fail.
pub fn frame_bytes(before: Option<&Buffer>, next: &Buffer) -> io::Result<Vec<u8>> {
    let blank = Buffer::empty(next.area);
    let changes = before.unwrap_or(&blank).diff(next);
    if before.is_some() && changes.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::with_capacity(16 * 1024);
    queue!(bytes, terminal::BeginSynchronizedUpdate)?;
    if before.is_none() {
        queue!(bytes, terminal::Clear(terminal::ClearType::All))?;
    }
    CrosstermBackend::new(&mut bytes).draw(changes.into_iter())?;
    queue!(bytes, terminal::EndSynchronizedUpdate)?;
    Ok(bytes)
}
