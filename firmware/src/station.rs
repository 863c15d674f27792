//! The loop of a pump's image: starts the pump on its memory, then serves its two serial ports for
//! as long as there is power. The board file beside it moves bytes, reads the counter and sleeps;
//! everything with an `if` is here and runs on a laptop too (`tests/station.rs`).
//!
//! Ticks come from the board's counter or, where the provisioning says so, from the rig
//! ([`crate::rig`]). Wall time for the serial line is always the counter's.

use crate::board::{Board, NvError, SECTOR, Sensors};
use crate::front::{Front, Panel};
use crate::line::Line;
use crate::pad::PadKey;
use crate::provisioning::{self, Given, Pace};
use crate::pump::{Input, Pump, StartError, StartFailed};
use crate::rig::{self, Done, FromRig, Health, Kept, LineState, NotStarted, Seen, ToRig};
use crate::watchdog::SERVE_MS;
use core::cell::RefCell;
use protocol::event::BootReason;
use protocol::time::Uptime;

/// The longest sleep: the watchdog is served at least so often.
const NAP_MS: u64 = 250;
const _: () = assert!(2 * NAP_MS <= SERVE_MS, "in time for the watchdog");
/// Bytes of the line that are taken in one turn, so that a flood leaves time for the pump.
const LINE_BYTES_A_TURN: usize = 256;
/// Where the line's bytes found no room at once, the interrupt that says so is not waited for
/// longer than this.
const LINE_FULL_MS: u64 = 20;

/// All that the loop asks of a board.
pub trait Hardware {
    /// Bytes of non-volatile memory: a journal's, then [`provisioning::SECTORS`] more.
    fn nv_size(&self) -> u32;
    /// As [`Board::nv_read`].
    ///
    /// # Errors
    /// As there.
    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError>;
    /// As [`Board::nv_write`].
    ///
    /// # Errors
    /// As there.
    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError>;
    /// As [`Board::nv_erase`].
    ///
    /// # Errors
    /// As there.
    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError>;
    /// The key that [`Self::sign`] signs with from now on.
    fn set_secret(&mut self, secret: &[u8; 32]);
    /// Ed25519 over `message`.
    fn sign(&mut self, message: &[u8]) -> [u8; 64];
    /// As [`Board::failed_parts`].
    fn failed_parts(&self) -> u8;
    /// Why the board started by itself; none where the supply came.
    fn reset_by(&self) -> Option<BootReason>;
    /// Since the board started.
    fn uptime(&self) -> Uptime;
    /// The next byte that the rig sent.
    fn rig_take(&mut self) -> Option<u8>;
    /// Gives a byte to the rig, which always takes it.
    fn rig_put(&mut self, byte: u8);
    /// The next byte that came over the line.
    fn line_take(&mut self) -> Option<u8>;
    /// Gives a byte to the line; false where there is no room now.
    fn line_put(&mut self, byte: u8) -> bool;
    /// Sleeps until a byte comes, the line has room again, or it is this late. False where the
    /// power goes.
    fn rest(&mut self, until: Uptime) -> bool;
    /// As [`Board::watchdog_test`].
    fn watchdog_test(&mut self) -> bool;
    /// As [`Board::watchdog_feed`].
    fn watchdog_feed(&mut self);
    /// Stack in use at most, and bytes from the line that found no room.
    fn fares(&self) -> (u32, u32);
}

/// The pump's board: what is measured and moved is the rig's, the rest is the hardware's.
pub struct RigBoard<H>(RefCell<Inner<H>>);

struct Inner<H> {
    hardware: H,
    deframer: rig::Deframer,
    paced: bool,
    seen: Option<Seen>,
}

impl<H> core::fmt::Debug for RigBoard<H> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RigBoard")
    }
}

impl<H: Hardware> Inner<H> {
    #[inline(never)]
    fn send(&mut self, message: &ToRig) {
        if let Some(frame) = rig::encode(message) {
            for byte in frame.as_bytes() {
                self.hardware.rig_put(*byte);
            }
        }
    }

    #[inline(never)]
    fn receive(&mut self) -> Option<FromRig> {
        while let Some(byte) = self.hardware.rig_take() {
            if let Some(message) = self.deframer.push(byte) {
                return Some(message);
            }
        }
        None
    }

    /// Asks what the sensors say and waits for the answer. A rig that does not answer is a board
    /// whose sensors hang: the watchdog, which is not fed here, ends it.
    #[inline(never)]
    fn look(&mut self) -> Seen {
        if let Some(seen) = self.seen {
            return seen;
        }
        if !self.paced {
            return Seen {
                sensors: NOTHING_MEASURED,
                ..Seen::default()
            };
        }
        self.send(&ToRig::Look);
        loop {
            if let Some(FromRig::Seen(seen)) = self.receive() {
                self.seen = Some(seen);
                return seen;
            }
            let nap = self.hardware.uptime() + NAP_MS;
            if !self.hardware.rest(nap) {
                return Seen::default();
            }
        }
    }
}

/// A board without a rig measures nothing.
const NOTHING_MEASURED: Sensors = Sensors {
    pressure_mbar: None,
    upstream_blocked: false,
    measured_reservoir_nl: None,
    air: false,
    door_open: false,
    battery_percent: 100,
    battery_minutes: 7 * 24 * 60,
};

impl<H: Hardware> RigBoard<H> {
    /// A board without a rig, until its provisioning says that there is one.
    pub fn new(hardware: H) -> Self {
        Self(RefCell::new(Inner {
            hardware,
            deframer: rig::Deframer::default(),
            paced: false,
            seen: None,
        }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner<H>) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    fn uptime(&self) -> Uptime {
        self.0.borrow().hardware.uptime()
    }
}

// Called from everywhere in the pump: inlined, they would be most of an image.
impl<H: Hardware> Board for RigBoard<H> {
    #[inline(never)]
    fn nv_size(&self) -> u32 {
        let all = self.0.borrow().hardware.nv_size();
        all.saturating_sub(provisioning::SECTORS * SECTOR)
    }

    #[inline(never)]
    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        self.0.borrow().hardware.nv_read(at, into)
    }

    #[inline(never)]
    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
        self.0.get_mut().hardware.nv_write(at, bytes)
    }

    #[inline(never)]
    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
        self.0.get_mut().hardware.nv_erase(sector)
    }

    #[inline(never)]
    fn motor_advance(&mut self, microsteps: u32) {
        let inner = self.0.get_mut();
        inner.seen = None;
        if inner.paced {
            inner.send(&ToRig::Motor { microsteps });
        }
    }

    #[inline(never)]
    fn encoder(&self) -> u64 {
        self.with(Inner::look).encoder
    }

    #[inline(never)]
    fn sensors(&self) -> Sensors {
        self.with(Inner::look).sensors
    }

    #[inline(never)]
    fn keys_down(&self) -> u16 {
        self.with(Inner::look).keys_down
    }

    #[inline(never)]
    fn failed_parts(&self) -> u8 {
        self.0.borrow().hardware.failed_parts()
    }

    #[inline(never)]
    fn watchdog_test(&mut self) -> bool {
        self.0.get_mut().hardware.watchdog_test()
    }

    #[inline(never)]
    fn watchdog_feed(&mut self) {
        self.0.get_mut().hardware.watchdog_feed();
    }

    #[inline(never)]
    fn sign(&mut self, message: &[u8]) -> [u8; 64] {
        self.0.get_mut().hardware.sign(message)
    }

    #[inline(never)]
    fn own_clock_utc_ms(&self) -> Option<u64> {
        self.with(Inner::look).own_clock_utc_ms
    }

    #[inline(never)]
    fn set_own_clock(&mut self, utc_ms: u64) {
        let inner = self.0.get_mut();
        inner.seen = None;
        if inner.paced {
            inner.send(&ToRig::OwnClock { utc_ms });
        }
    }
}

/// Runs a pump on this hardware until its power goes.
pub fn run<H: Hardware>(hardware: H) {
    serve(hardware, |_, _| None);
}

/// As [`run`], on a board that has keys and a display of its own.
pub fn run_with_panel<H: Hardware + Panel>(hardware: H) {
    let mut front = Front::default();
    serve(hardware, |station, pump| {
        station.serve_front(pump, &mut front)
    });
}

/// `front` has its turn after all else, and says when it is next due.
fn serve<H: Hardware>(
    hardware: H,
    mut front: impl FnMut(&Station, &mut Pump<RigBoard<H>>) -> Option<Uptime>,
) {
    // Borrowed and not taken out: a pump is large, and a copy of it is stack.
    let mut begun = begin(RigBoard::new(hardware));
    let (pump, start) = match &mut begun {
        Begun::Assembled {
            pump: Ok(pump),
            start,
        } => (pump, *start),
        Begun::Assembled {
            pump: Err(failed), ..
        } => return refuse(&failed.board, NotStarted::Memory(failed.error)),
        Begun::Refused(board, why) => return refuse(board, *why),
        Begun::PowerGone => return,
    };
    if let Err(error) = go_on(pump, start.reason) {
        return refuse(pump.board(), NotStarted::Memory(error));
    }
    let mut station = Station {
        line: Line::new(pump.board().uptime(), pump),
        out: [0; 64],
        out_len: 0,
        out_sent: 0,
        paced: start.paced,
        tick_ms: start.tick_ms,
        granted_ms: start.tick_ms,
    };
    if start.paced {
        answer(pump, None);
    }
    loop {
        station.turn(pump);
        let due = front(&station, pump);
        let until = station.next_wake(pump);
        let until = due.map_or(until, |due| until.min(due));
        if !pump.board().with(|inner| inner.hardware.rest(until)) {
            return;
        }
    }
}

/// Why a pump starts, and from which tick on.
#[derive(Clone, Copy)]
struct Start {
    paced: bool,
    reason: BootReason,
    tick_ms: u64,
}

/// How a start ended.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and no heap to put it"
)]
enum Begun<H> {
    Assembled {
        pump: Result<Pump<RigBoard<H>>, StartFailed<RigBoard<H>>>,
        start: Start,
    },
    Refused(RigBoard<H>, NotStarted),
    PowerGone,
}

/// What is given is held only here: the pump has its own of it.
#[inline(never)]
fn begin<H: Hardware>(mut board: RigBoard<H>) -> Begun<H> {
    // A zero before the first frame ends what a reset may have cut.
    board.with(|inner| inner.hardware.rig_put(0));
    let who = board.nv_size();
    let read = provisioning::read_given(&|at, into| board.nv_read(who.saturating_add(at), into));
    // Borrowed: with a manifest in it, it is large too.
    let given = match &read {
        Ok(Some(given)) => given,
        Ok(None) => return Begun::Refused(board, NotStarted::NotProvisioned),
        Err(error) => return Begun::Refused(board, NotStarted::Memory((*error).into())),
    };
    if let Err(error) = prepare(&mut board, given) {
        return Begun::Refused(board, NotStarted::Memory(error));
    }
    let paced = given.pace == Pace::Rig;
    let reset = board.with(|inner| inner.hardware.reset_by());
    let (mut reason, mut tick_ms) = (reset.unwrap_or(BootReason::PowerOn), 0);
    if paced {
        let Some((said, at_ms)) = wait_for_start(&board, reset) else {
            return Begun::PowerGone;
        };
        // What the board knows of itself comes before what the rig says of the supply.
        (reason, tick_ms) = (reset.unwrap_or(said), at_ms);
    }
    Begun::Assembled {
        pump: Pump::assemble(board, &given.provision, tick_ms),
        start: Start {
            paced,
            reason,
            tick_ms,
        },
    }
}

/// The pump knows again what its journal holds, and journals that it started.
#[inline(never)]
fn go_on<H: Hardware>(pump: &mut Pump<RigBoard<H>>, reason: BootReason) -> Result<(), StartError> {
    let recall = pump.recall()?;
    pump.begin(reason, &recall);
    Ok(())
}

/// Makes the board this pump's, and formats its memory where that was ordered and not yet done.
#[inline(never)]
fn prepare<H: Hardware>(board: &mut RigBoard<H>, given: &Given) -> Result<(), StartError> {
    board.with(|inner| {
        inner.hardware.set_secret(&given.secret);
        inner.paced = given.pace == Pace::Rig;
    });
    let order = board.nv_size().saturating_add(SECTOR);
    let ordered =
        provisioning::read_order(&|at, into| board.nv_read(order.saturating_add(at), into))?;
    if let Some(ordered) = ordered {
        if !Pump::is_formatted(board, &given.provision)? {
            Pump::format(board, &given.provision, &ordered.tag_secret)?;
        }
        board.nv_erase(order / SECTOR)?;
    }
    Ok(())
}

/// Says that it is ready until the rig says start: why, and from which tick. None where power goes.
fn wait_for_start<H: Hardware>(
    board: &RigBoard<H>,
    reset: Option<BootReason>,
) -> Option<(BootReason, u64)> {
    board.with(|inner| {
        inner.send(&ToRig::Ready { reset });
        loop {
            if let Some(FromRig::Start {
                reason,
                tick_ms,
                seen,
            }) = inner.receive()
            {
                inner.seen = seen;
                return Some((reason, tick_ms));
            }
            let nap = inner.hardware.uptime() + NAP_MS;
            if !inner.hardware.rest(nap) {
                return None;
            }
        }
    })
}

/// Does nothing any more, and says why to a rig that asks for anything.
fn refuse<H: Hardware>(board: &RigBoard<H>, why: NotStarted) {
    board.with(|inner| {
        inner.send(&ToRig::NotStarted(why));
        loop {
            while inner.receive().is_some() {
                inner.send(&ToRig::NotStarted(why));
            }
            let nap = inner.hardware.uptime() + NAP_MS;
            if !inner.hardware.rest(nap) {
                return;
            }
        }
    });
}

/// Tells the rig how the pump stands.
fn answer<H: Hardware>(pump: &Pump<RigBoard<H>>, refused: Option<crate::acts::Refused>) {
    let done = Done {
        next_wake_ms: pump.next_wake(),
        last_seq: pump.last_seq(),
        boot: pump.boot(),
        closed: pump.closed(),
        refused,
    };
    say(pump, &ToRig::Done(done));
}

fn say<H: Hardware>(pump: &Pump<RigBoard<H>>, message: &ToRig) {
    pump.board().with(|inner| inner.send(message));
}

/// What a running image keeps beside its pump.
struct Station {
    line: Line,
    out: [u8; 64],
    out_len: usize,
    out_sent: usize,
    paced: bool,
    /// For the line: it may run ahead of what the pump was told, while nothing is due.
    tick_ms: u64,
    /// What is due until then was done.
    granted_ms: u64,
}

impl Station {
    /// Everything there is to do now.
    fn turn<H: Hardware>(&mut self, pump: &mut Pump<RigBoard<H>>) {
        while let Some(message) = pump.board().with(Inner::receive) {
            self.take(pump, &message);
        }
        if !self.paced {
            self.tick_ms = pump.board().uptime().as_millis();
            self.granted_ms = self.tick_ms;
        }
        pump.handle_time(self.granted_ms);
        self.line.turn(pump.board().uptime(), pump);
        self.serve_line(pump);
        pump.serve_watchdog(self.line.turns());
    }

    fn take<H: Hardware>(&mut self, pump: &mut Pump<RigBoard<H>>, message: &FromRig) {
        match *message {
            FromRig::Wake { tick_ms, seen } => {
                self.grant(pump, tick_ms, seen);
                pump.handle_time(tick_ms);
                answer(pump, None);
            }
            FromRig::Input {
                tick_ms,
                input,
                seen,
            } => {
                self.grant(pump, tick_ms, seen);
                let refused = pump.handle(tick_ms, input).err();
                // What became due by it is done before the answer, or the motor would be told
                // when the rig does not listen for it.
                pump.handle_time(tick_ms);
                answer(pump, refused);
            }
            FromRig::Time { tick_ms } => {
                self.tick_ms = tick_ms;
                let now = pump.board().uptime();
                let state = LineState {
                    acked_seq: pump.last_seq().saturating_sub(self.line.unacknowledged()),
                    monitored: self.line.monitored(now),
                };
                say(pump, &ToRig::Line(state));
            }
            FromRig::Event { seq } => {
                let kept = pump.event(seq).and_then(|(raw, tag)| {
                    let raw = heapless::Vec::from_slice(raw.as_bytes()).ok()?;
                    Some(Kept { raw, tag })
                });
                say(pump, &ToRig::Event(kept));
            }
            FromRig::Face { tick_ms } => {
                let monitored = self.line.monitored(pump.board().uptime());
                say(pump, &ToRig::Face(pump.face(tick_ms, monitored)));
            }
            FromRig::Health => {
                let health = pump.board().with(|inner| {
                    let (stack_high_water, line_dropped) = inner.hardware.fares();
                    Health {
                        stack_high_water,
                        line_dropped,
                        line_bad_frames: self.line.bad_frames,
                        rig_bad_frames: inner.deframer.bad_frames,
                    }
                });
                say(pump, &ToRig::Health(health));
            }
            // Started already, and nothing was asked.
            FromRig::Start { .. } | FromRig::Seen(_) => {}
        }
    }

    /// It is so late now, as the rig says. Where it does not say what the sensors are, they are
    /// asked when they are needed.
    fn grant<H: Hardware>(
        &mut self,
        pump: &mut Pump<RigBoard<H>>,
        tick_ms: u64,
        seen: Option<Seen>,
    ) {
        (self.tick_ms, self.granted_ms) = (tick_ms, tick_ms);
        pump.board_mut().0.get_mut().seen = seen;
    }

    fn serve_line<H: Hardware>(&mut self, pump: &Pump<RigBoard<H>>) {
        let now = pump.board().uptime();
        for _ in 0..LINE_BYTES_A_TURN {
            let Some(byte) = pump.board().with(|inner| inner.hardware.line_take()) else {
                break;
            };
            self.line.bytes_in(now, self.tick_ms, &[byte], pump);
        }
        loop {
            while let Some(byte) = self
                .out
                .get(self.out_sent..self.out_len)
                .and_then(|rest| rest.first())
            {
                if !pump.board().with(|inner| inner.hardware.line_put(*byte)) {
                    return;
                }
                self.out_sent += 1;
            }
            self.out_len = self.line.poll_out(now, self.tick_ms, pump, &mut self.out);
            self.out_sent = 0;
            if self.out_len == 0 {
                return;
            }
        }
    }

    /// Takes the keys on the board's own lines, then shows what became of them.
    #[inline(never)]
    fn serve_front<H: Hardware + Panel>(
        &self,
        pump: &mut Pump<RigBoard<H>>,
        front: &mut Front,
    ) -> Option<Uptime> {
        let tick_ms = self.granted_ms;
        let mut edges: heapless::Vec<_, { 2 * PadKey::ALL.len() }> = heapless::Vec::new();
        pump.board().with(|inner| {
            front.handle_lines(tick_ms, &mut inner.hardware, |key, pressed| {
                // There is room for two edges a key.
                let _ = edges.push((key, pressed));
            });
        });
        for (key, pressed) in edges {
            // Keys are never refused.
            let _ = pump.handle(tick_ms, Input::Key { key, pressed });
        }
        let face = pump.face(tick_ms, self.line.monitored(pump.board().uptime()));
        pump.board()
            .with(|inner| front.show(face, &mut inner.hardware));
        let due = front.next_due().filter(|_| !self.paced)?;
        Some(Uptime::from_millis(due))
    }

    fn next_wake<H: Hardware>(&self, pump: &Pump<RigBoard<H>>) -> Uptime {
        let now = pump.board().uptime();
        let mut until = now + NAP_MS;
        if self.out_sent < self.out_len {
            until = until.min(now + LINE_FULL_MS);
        } else {
            until = until.min(self.line.next_timeout());
        }
        if !self.paced {
            until = until.min(Uptime::from_millis(pump.next_wake()));
        }
        until
    }
}
