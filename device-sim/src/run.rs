//! A simulated pump at work: joins a [`Simulation`] with a serial line and paces it, in one thread.
//!
//! The trial's clock runs at most `speed` times the wall. It stands still until somebody first
//! asks for events, so that no trial begins unheard, and while more than [`BACKLOG_MAX`] events
//! wait for an acknowledgement by somebody who asked; the pump never knows. What this loop and the line do changes no
//! byte of the journal.

use crate::clock::{Pace, Wall};
use crate::fault::{Change, What};
use crate::line::{self, Pty};
use crate::nurse::NurseEntry;
use crate::setup::Setup;
use crate::sim::{self, Face, Simulation};
use crate::ward::Hand;
use crate::wire::Wire;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use protocol::event::Key;
use protocol::time::Uptime;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Most events that may wait for an acknowledgement while the trial's clock runs.
pub const BACKLOG_MAX: u64 = 256;
/// How long the loop rests where nothing is to be done.
const REST_MS: u64 = 2;
/// Bytes that wait for the line before the pump is asked for more.
const OUT_MAX: usize = 2_048;

/// Why a simulated pump cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The line cannot be made.
    #[error(transparent)]
    Line(#[from] line::Error),
    /// The simulation cannot be made.
    #[error(transparent)]
    Sim(#[from] sim::Error),
    /// The pump answers no more.
    #[error("{0}")]
    Pump(String),
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Trial milliseconds since the origin.
    pub trial_ms: u64,
    /// The newest event.
    pub last_seq: u64,
    /// Acknowledged through.
    pub acked_seq: u64,
    /// Somebody has the line open.
    pub attached: bool,
    /// The trial is closed.
    pub closed: bool,
}

impl Progress {
    /// Days of the trial so far, baseline included.
    pub fn days(&self) -> f64 {
        crate::math::float(self.trial_ms) / 86_400_000.0
    }

    /// Closed, and every event acknowledged.
    pub fn done(&self) -> bool {
        self.closed && self.acked_seq >= self.last_seq
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    trial_ms: AtomicU64,
    last_seq: AtomicU64,
    acked_seq: AtomicU64,
    attached: AtomicBool,
    closed: AtomicBool,
    hands: Mutex<VecDeque<Wanted>>,
    face: Mutex<Option<Face>>,
    wants_face: AtomicBool,
}

#[derive(Clone, Debug)]
enum Wanted {
    Press { key: Key, hold_ms: u32 },
    Hand(Hand),
}

/// A hand on a simulated pump that runs in another thread. Clones are the same hand.
#[derive(Clone, Debug, Default)]
pub struct Remote(Arc<Shared>);

impl Remote {
    /// For a pump that is to be started.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes [`run`] end soon.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }

    /// Presses a key, now.
    pub fn press(&self, key: Key, hold_ms: u32) {
        self.want(Wanted::Press { key, hold_ms });
    }

    /// Does what a nurse does at the pump, now.
    pub fn act(&self, hand: Hand) {
        self.want(Wanted::Hand(hand));
    }

    fn want(&self, wanted: Wanted) {
        let mut hands = self.0.hands.lock().unwrap_or_else(PoisonError::into_inner);
        // A person presses a few keys a second; beyond that it is no person.
        if hands.len() < 4_096 {
            hands.push_back(wanted);
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            trial_ms: self.0.trial_ms.load(Ordering::Relaxed),
            last_seq: self.0.last_seq.load(Ordering::Relaxed),
            acked_seq: self.0.acked_seq.load(Ordering::Relaxed),
            attached: self.0.attached.load(Ordering::Relaxed),
            closed: self.0.closed.load(Ordering::Relaxed),
        }
    }

    /// What the pump's face shows, as of the last round of the loop; `None` before the first.
    pub fn face(&self) -> Option<Face> {
        self.0.wants_face.store(true, Ordering::Relaxed);
        self.0
            .face
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn report(&self, sim: &Simulation, attached: bool) {
        self.0.trial_ms.store(sim.now_ms(), Ordering::Relaxed);
        self.0.last_seq.store(sim.last_seq(), Ordering::Relaxed);
        self.0.acked_seq.store(sim.acked_seq(), Ordering::Relaxed);
        self.0.attached.store(attached, Ordering::Relaxed);
        self.0.closed.store(sim.closed(), Ordering::Relaxed);
        if self.0.wants_face.load(Ordering::Relaxed) {
            let face = Some(sim.face());
            *self.0.face.lock().unwrap_or_else(PoisonError::into_inner) = face;
        }
    }

    fn next(&self) -> Option<Wanted> {
        self.0
            .hands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }
}

/// How a pump is run.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Trial seconds in one second of the wall, at most.
    pub speed: u32,
    /// Begin after so long though nobody asked for events; none: wait for ever.
    pub patience_ms: Option<u64>,
}

/// Runs a simulated pump on a pseudo-terminal at `link` until `remote` says stop. After the close
/// it stays and answers, so that a gateway that comes back finds every event. The nurse's entries
/// go to `on_entry` as they are written.
///
/// # Errors
/// Where the simulation or the line cannot be made.
pub fn run(
    setup: Setup,
    link: &Path,
    manners: Manners,
    remote: &Remote,
    mut on_entry: impl FnMut(NurseEntry),
) -> Result<Progress, Error> {
    let wall = Wall::start();
    let seed = setup.seed;
    let mut sim = Simulation::new(setup)?;
    let mut joint = Joint::new(link, seed)?;
    let mut pace = Pace::new(manners.speed, wall.uptime());
    while !remote.0.stop.load(Ordering::Relaxed) {
        let now = wall.uptime();
        joint.mend(now)?;
        let heard = joint.read_into(&mut sim, now);
        while let Some(wanted) = remote.next() {
            match wanted {
                Wanted::Press { key, hold_ms } => sim.press(key, hold_ms),
                Wanted::Hand(hand) => sim.act(hand),
            }
        }
        let patient = manners.patience_ms.is_none_or(|ms| now.as_millis() < ms);
        let until = sim.now_ms().saturating_add(pace.allowance_ms(now));
        let mut moved = false;
        if sim.heard() {
            while sim.unacknowledged() <= BACKLOG_MAX && sim.step(until) {
                moved = true;
            }
        } else if !patient {
            // Nobody will acknowledge anything, so nothing waits for it.
            while sim.step(until) {
                moved = true;
            }
        }
        for change in sim.take_line_changes() {
            joint.harm(now, change);
        }
        sim.take_entries().into_iter().for_each(&mut on_entry);
        let sent = joint.write_from(&mut sim, now);
        remote.report(&sim, joint.attached());
        if let Some(why) = sim.broken() {
            return Err(Error::Pump(why));
        }
        if !(heard || sent || moved) {
            joint.wait(REST_MS);
        }
    }
    Ok(remote.progress())
}

/// The line with its faults.
struct Joint {
    link: std::path::PathBuf,
    pty: Option<Pty>,
    to_pump: Wire,
    from_pump: Wire,
    waiting: VecDeque<u8>,
    mended_at: Option<Uptime>,
}

impl Joint {
    fn new(link: &Path, seed: u64) -> Result<Self, line::Error> {
        Ok(Self {
            link: link.to_path_buf(),
            pty: Some(Pty::open(link)?),
            to_pump: Wire::new(seed, 1),
            from_pump: Wire::new(seed, 2),
            waiting: VecDeque::new(),
            mended_at: None,
        })
    }

    fn attached(&self) -> bool {
        self.pty.as_ref().is_some_and(Pty::attached)
    }

    fn wait(&self, ms: u64) {
        match &self.pty {
            Some(pty) => pty.wait(ms),
            None => crate::clock::rest(ms),
        }
    }

    fn harm(&mut self, now: Uptime, change: Change) {
        match change.what {
            What::CablePulled => {
                self.pty = None;
                self.waiting.clear();
            }
            What::Silence { from_pump, to_pump } => {
                self.from_pump.set_cut(from_pump);
                self.to_pump.set_cut(to_pump);
            }
            What::BadLine(damage) => {
                self.from_pump.set_damage(damage);
                self.to_pump.set_damage(damage);
            }
            What::Occlusion
            | What::UpstreamOcclusion
            | What::Leak(_)
            | What::Air
            | What::Door
            | What::StuckKey(_)
            | What::Stall
            | What::EncoderSlip(_)
            | What::MotorRuns(_)
            | What::FreeFlow(_)
            | What::ReservoirHolds(_)
            | What::BatteryHolds(_)
            | What::PowerCut { .. }
            | What::ProgramHangs
            | What::LineHangs
            | What::WornFlash
            | What::FlashRot(_)
            | What::OwnClock(_) => return,
        }
        self.mended_at = change.wall_ms.map(|ms| now + ms);
    }

    fn mend(&mut self, now: Uptime) -> Result<(), line::Error> {
        if self.mended_at.is_some_and(|at| at <= now) {
            self.mended_at = None;
            for wire in [&mut self.to_pump, &mut self.from_pump] {
                wire.set_cut(false);
                wire.set_damage(crate::wire::Damage::default());
            }
            if self.pty.is_none() {
                self.pty = Some(Pty::open(&self.link)?);
            }
        }
        Ok(())
    }

    /// Bytes from the line to the pump; true where some came.
    fn read_into(&mut self, sim: &mut Simulation, now: Uptime) -> bool {
        if let Some(pty) = &self.pty {
            let mut buffer = [0; 1_024];
            for _ in 0..16 {
                let n = pty.read(&mut buffer);
                if n == 0 {
                    break;
                }
                self.to_pump
                    .send(now.as_millis(), buffer.get(..n).unwrap_or(&[]));
            }
        }
        let bytes = self.to_pump.receive(now.as_millis());
        sim.handle_bytes(now, &bytes);
        !bytes.is_empty()
    }

    /// Bytes from the pump to the line; true where some went.
    fn write_from(&mut self, sim: &mut Simulation, now: Uptime) -> bool {
        let mut went = false;
        loop {
            if self.waiting.len() < OUT_MAX {
                let fresh = sim.poll_bytes(now);
                self.from_pump.send(now.as_millis(), &fresh);
                self.waiting.extend(self.from_pump.receive(now.as_millis()));
            }
            if self.waiting.is_empty() {
                return went;
            }
            let Some(pty) = &self.pty else {
                self.waiting.clear();
                return went;
            };
            let taken = pty.write(self.waiting.make_contiguous());
            self.waiting.drain(..taken);
            went |= taken > 0;
            if taken == 0 {
                return went;
            }
        }
    }
}
