//! The loop of an image without the image: it runs here over channels, with a rig at their other
//! end, and leaves the same memory as the library that is called directly.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helper functions of a test stop it where they fail"
)]

mod common;

use common::{HOUR, MINUTE, MemoryBoard, act, begin, formatted, press, provision, run_to, start};
use firmware::acts::Act;
use firmware::board::{Board, NvError, SECTOR};
use firmware::face::Face;
use firmware::front::Panel;
use firmware::pad::PadKey;
use firmware::provisioning::{self, FormatOrder, Given, Pace, given_to_sector, order_to_sector};
use firmware::pump::{Input, StartError};
use firmware::rig::{Deframer, Done, FromRig, NotStarted, Seen, ToRig, encode};
use firmware::screen::{Screen, draw};
use firmware::station::{Hardware, run, run_with_panel};
use protocol::event::{BootReason, CloseReason, Key};
use protocol::keys::KeyPair;
use protocol::time::Uptime;
use std::cell::Cell;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const SECTORS: u32 = 200;

/// A board in a thread: its memory, its ports, a clock that goes on by a millisecond a nap.
struct Bench {
    nv: Arc<Mutex<MemoryBoard>>,
    keys: KeyPair,
    from_rig: Receiver<u8>,
    peeked: Option<u8>,
    to_rig: Sender<u8>,
    clock_ms: Cell<u64>,
    feeds: Arc<Mutex<u64>>,
    front: Arc<Mutex<Front>>,
}

/// Presses that come and go between two looks, and what the display shows.
#[derive(Default)]
struct Front {
    moved: Vec<PadKey>,
    shown: Option<Screen>,
}

impl Panel for Bench {
    fn moved(&mut self, key: PadKey) -> bool {
        let moved = &mut self.front.lock().unwrap().moved;
        let place = moved.iter().position(|k| *k == key);
        place.map(|p| moved.remove(p)).is_some()
    }
    fn is_down(&self, _: PadKey) -> bool {
        false
    }
    fn show(&mut self, screen: &Screen) {
        self.front.lock().unwrap().shown = Some(screen.clone());
    }
}

impl Hardware for Bench {
    fn nv_size(&self) -> u32 {
        self.nv.lock().unwrap().nv_size()
    }
    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        self.nv.lock().unwrap().nv_read(at, into)
    }
    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
        self.nv.lock().unwrap().nv_write(at, bytes)
    }
    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
        self.nv.lock().unwrap().nv_erase(sector)
    }
    fn set_secret(&mut self, secret: &[u8; 32]) {
        self.keys = KeyPair::from_seed(*secret);
    }
    fn sign(&mut self, message: &[u8]) -> [u8; 64] {
        self.keys.sign(message).0
    }
    fn failed_parts(&self) -> u8 {
        0
    }
    fn reset_by(&self) -> Option<BootReason> {
        None
    }
    fn uptime(&self) -> Uptime {
        Uptime::from_millis(self.clock_ms.get())
    }
    fn rig_take(&mut self) -> Option<u8> {
        self.peeked.take().or_else(|| self.from_rig.try_recv().ok())
    }
    fn rig_put(&mut self, byte: u8) {
        // Where nobody listens any more, the test is over.
        let _ = self.to_rig.send(byte);
    }
    fn line_take(&mut self) -> Option<u8> {
        None
    }
    fn line_put(&mut self, _: u8) -> bool {
        true
    }
    fn rest(&mut self, until: Uptime) -> bool {
        self.clock_ms
            .set(until.as_millis().max(self.clock_ms.get() + 1));
        if self.peeked.is_none() {
            match self.from_rig.recv() {
                Ok(byte) => self.peeked = Some(byte),
                Err(_) => return false,
            }
        }
        true
    }
    fn watchdog_test(&mut self) -> bool {
        true
    }
    fn watchdog_feed(&mut self) {
        *self.feeds.lock().unwrap() += 1;
    }
    fn fares(&self) -> (u32, u32) {
        (0, 0)
    }
}

/// The rig: it has the plant, and asks and answers.
struct Rig {
    plant: MemoryBoard,
    to: Sender<u8>,
    from: Receiver<u8>,
    deframer: Deframer,
    /// Says what the sensors say with each request, or waits to be asked.
    tells: bool,
    looks: u32,
}

impl Rig {
    fn seen(&self) -> Seen {
        Seen {
            encoder: self.plant.encoder(),
            sensors: self.plant.sensors(),
            keys_down: self.plant.keys_down(),
            own_clock_utc_ms: self.plant.own_clock_utc_ms(),
        }
    }

    fn told(&self) -> Option<Seen> {
        self.tells.then(|| self.seen())
    }

    fn send(&self, message: &FromRig) {
        for byte in encode(message).unwrap().as_bytes() {
            self.to.send(*byte).unwrap();
        }
    }

    fn receive(&mut self) -> ToRig {
        loop {
            let byte = self.from.recv().unwrap();
            if let Some(message) = self.deframer.push(byte) {
                return message;
            }
        }
    }

    fn ask(&mut self, message: &FromRig) -> ToRig {
        self.send(message);
        loop {
            match self.receive() {
                ToRig::Motor { microsteps } => self.plant.motor_advance(microsteps),
                ToRig::OwnClock { utc_ms } => self.plant.set_own_clock(utc_ms),
                ToRig::Look => {
                    self.looks += 1;
                    self.send(&FromRig::Seen(self.seen()));
                }
                answer => return answer,
            }
        }
    }

    fn done(&mut self, message: &FromRig) -> Done {
        match self.ask(message) {
            ToRig::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    /// Wakes the pump whenever it is due until then.
    fn run_to(&mut self, mut done: Done, tick_ms: u64) -> Done {
        while done.next_wake_ms <= tick_ms {
            let seen = self.told();
            done = self.done(&FromRig::Wake {
                tick_ms: done.next_wake_ms,
                seen,
            });
        }
        done
    }

    fn input(&mut self, done: Done, tick_ms: u64, input: Input) -> Done {
        self.run_to(done, tick_ms);
        let seen = self.told();
        let done = self.done(&FromRig::Input {
            tick_ms,
            input,
            seen,
        });
        assert_eq!(done.refused, None);
        done
    }

    fn press(&mut self, mut done: Done, tick_ms: u64, keys: &[Key]) -> Done {
        for (n, key) in (0_u64..).zip(keys) {
            for (after, pressed) in [(0, true), (100, false)] {
                let at = tick_ms + n * 200 + after;
                done = self.input(done, at, Input::Key { key: *key, pressed });
            }
        }
        done
    }
}

struct Running {
    rig: Rig,
    nv: Arc<Mutex<MemoryBoard>>,
    feeds: Arc<Mutex<u64>>,
    front: Arc<Mutex<Front>>,
    thread: JoinHandle<()>,
}

fn image(nv: MemoryBoard, tells: bool) -> Running {
    image_of(nv, tells, run)
}

fn image_of(nv: MemoryBoard, tells: bool, run: fn(Bench)) -> Running {
    let nv = Arc::new(Mutex::new(nv));
    let feeds = Arc::new(Mutex::new(0));
    let front = Arc::new(Mutex::new(Front::default()));
    let (to, from_rig) = channel();
    let (to_rig, from) = channel();
    let bench = Bench {
        nv: nv.clone(),
        keys: KeyPair::from_seed([0; 32]),
        from_rig,
        peeked: None,
        to_rig,
        clock_ms: Cell::new(0),
        feeds: feeds.clone(),
        front: front.clone(),
    };
    let thread = std::thread::spawn(move || run(bench));
    let rig = Rig {
        plant: MemoryBoard::new(1),
        to,
        from,
        deframer: Deframer::default(),
        tells,
        looks: 0,
    };
    Running {
        rig,
        nv,
        feeds,
        front,
        thread,
    }
}

/// A memory that nobody formatted, with the two records of a pharmacy behind it.
fn provisioned(ordered: bool) -> MemoryBoard {
    let mut board = MemoryBoard::new(SECTORS + provisioning::SECTORS);
    let at = |sector: u32| usize::try_from((5 + SECTORS + sector) * SECTOR).unwrap();
    let given = Given {
        secret: KeyPair::from_seed([3; 32]).seed(),
        pace: Pace::Rig,
        provision: provision(),
    };
    let given = given_to_sector(&given).unwrap();
    board.nv[at(0)..at(1)].copy_from_slice(&given);
    if ordered {
        let tag_secret = common::secret();
        let order = order_to_sector(&FormatOrder { tag_secret }).unwrap();
        board.nv[at(1)..at(2)].copy_from_slice(&order);
    }
    board
}

fn begun(running: &mut Running) -> Done {
    assert_eq!(running.rig.receive(), ToRig::Ready { reset: None });
    let seen = running.rig.told();
    running.rig.done(&FromRig::Start {
        reason: BootReason::PowerOn,
        tick_ms: 0,
        seen,
    })
}

/// A day at the bed.
fn day_on_the_library() -> MemoryBoard {
    let mut pump = start(formatted(SECTORS));
    begin(&mut pump, 1_000);
    for hour in 1..24 {
        let at = hour * HOUR;
        press(&mut pump, at, &[Key::Digit1, Key::Digit0, Key::Confirm]);
        press(&mut pump, at + 10 * MINUTE, &[Key::Bolus]);
    }
    let utc_ms = common::SIX + 1;
    let offset_min = 60;
    act(&mut pump, 24 * HOUR, Act::SetClock { utc_ms, offset_min });
    act(
        &mut pump,
        24 * HOUR + MINUTE,
        Act::Close(CloseReason::Planned),
    );
    run_to(&mut pump, 24 * HOUR + 2 * MINUTE);
    pump.into_board()
}

fn day_on_the_loop(tells: bool) -> (MemoryBoard, u32, u64) {
    let mut running = image(provisioned(true), tells);
    let mut done = begun(&mut running);
    let rig = &mut running.rig;
    let therapy = Act::Start {
        purpose: protocol::event::Purpose::Therapy,
        until: None,
    };
    done = rig.input(done, 1_000, Input::Act(therapy));
    for hour in 1..24 {
        let at = hour * HOUR;
        done = rig.press(done, at, &[Key::Digit1, Key::Digit0, Key::Confirm]);
        done = rig.press(done, at + 10 * MINUTE, &[Key::Bolus]);
    }
    let utc_ms = common::SIX + 1;
    let offset_min = 60;
    let clock = Act::SetClock { utc_ms, offset_min };
    done = rig.input(done, 24 * HOUR, Input::Act(clock));
    let close = Act::Close(CloseReason::Planned);
    done = rig.input(done, 24 * HOUR + MINUTE, Input::Act(close));
    assert!(done.closed);
    let (looks, commands) = (rig.looks, rig.plant.commands.clone());
    drop(running.rig);
    running.thread.join().unwrap();
    let mut board = running.nv.lock().unwrap().clone();
    board.commands = commands;
    let feeds = *running.feeds.lock().unwrap();
    (board, looks, feeds)
}

#[test]
fn a_day_on_the_loop_leaves_the_memory_and_the_motor_commands_of_a_day_on_the_library() {
    let library = day_on_the_library();
    let journal = usize::try_from((5 + SECTORS) * SECTOR).unwrap();
    for tells in [true, false] {
        let (image, looks, feeds) = day_on_the_loop(tells);
        assert!(image.nv[..journal] == library.nv[..], "tells {tells}");
        assert_eq!(image.commands, library.commands);
        assert!(library.commands.len() > 1_000);
        // Where it is told, it seldom asks: only after the motor moved.
        assert_eq!(looks > 3_000, !tells, "{looks}");
        assert!(feeds > 1_000, "{feeds}");
    }
}

#[test]
fn an_order_to_format_is_carried_out_once() {
    let mut running = image(provisioned(true), true);
    let done = begun(&mut running);
    let done = running
        .rig
        .press(done, MINUTE, &[Key::Digit3, Key::Confirm]);
    assert!(done.last_seq > 3);
    drop(running.rig);
    running.thread.join().unwrap();
    let mut memory = running.nv.lock().unwrap().clone();
    let order = usize::try_from((5 + SECTORS + 1) * SECTOR).unwrap();
    assert!(memory.nv[order..order + 64].iter().all(|b| *b == 0xFF));
    // Power failed before the order was erased: the trial's memory is left alone.
    let again = order_to_sector(&FormatOrder {
        tag_secret: common::secret(),
    });
    memory.nv[order..].copy_from_slice(&again.unwrap());
    let mut running = image(memory, true);
    let after = begun(&mut running);
    assert_eq!(after.boot, 2);
    assert!(after.last_seq > done.last_seq);
}

#[test]
fn a_pump_that_nobody_provisioned_or_formatted_says_so_and_does_nothing() {
    let mut blank = image(MemoryBoard::new(SECTORS), true);
    let wanted = ToRig::NotStarted(NotStarted::NotProvisioned);
    assert_eq!(blank.rig.receive(), wanted);
    let asked = blank.rig.ask(&FromRig::Wake {
        tick_ms: 5,
        seen: None,
    });
    assert_eq!(asked, wanted);

    let mut memory = provisioned(false);
    memory.nv[0] = 0xFF;
    let mut unordered = image(memory, true);
    assert_eq!(unordered.rig.receive(), ToRig::Ready { reset: None });
    let asked = unordered.rig.ask(&FromRig::Start {
        reason: BootReason::PowerOn,
        tick_ms: 0,
        seen: Some(Seen::default()),
    });
    let wanted = ToRig::NotStarted(NotStarted::Memory(StartError::NotFormatted));
    assert_eq!(asked, wanted);
}

/// What a face is to be.
type Wanted = fn(&Face) -> bool;

/// Time passes until the face is as wanted, and the display shows just it.
fn until_shown(running: &mut Running, tick_ms: &mut u64, offered: u8, wanted: Wanted) {
    for _ in 0..100 {
        *tick_ms += 20;
        let (at, seen) = (*tick_ms, running.rig.told());
        running.rig.done(&FromRig::Wake { tick_ms: at, seen });
        let face = match running.rig.ask(&FromRig::Face { tick_ms: at }) {
            ToRig::Face(face) => face,
            other => panic!("{other:?}"),
        };
        let shown = running.front.lock().unwrap().shown.clone();
        if wanted(&face) && shown == Some(draw(&face, Some(offered))) {
            return;
        }
    }
    panic!("not shown by {tick_ms}");
}

#[test]
fn a_board_with_a_front_types_ten_on_its_pad_and_shows_each_step() {
    let mut running = image_of(provisioned(true), true, run_with_panel);
    begun(&mut running);
    let mut tick_ms = MINUTE;
    until_shown(&mut running, &mut tick_ms, 0, |face| face.typed.is_none());
    let steps: [(PadKey, u8, Wanted); 5] = [
        (PadKey::Up, 1, |face| face.typed.is_none()),
        (PadKey::Right, 1, |face| face.typed == Some(1)),
        (PadKey::Down, 0, |face| face.typed == Some(1)),
        (PadKey::Right, 0, |face| face.typed == Some(10)),
        (PadKey::Select, 0, |face| face.saved && face.typed.is_none()),
    ];
    for (key, offered, wanted) in steps {
        running.front.lock().unwrap().moved.push(key);
        until_shown(&mut running, &mut tick_ms, offered, wanted);
    }
}
