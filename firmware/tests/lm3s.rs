//! The second board in QEMU: a person types ten on its five keys, and each dot of a photograph of its
//! display is compared with what the face is drawn as. `./test.sh` builds the image and runs this; by
//! hand: `firmware/scripts/build.sh lm3s`, then `cargo test -p firmware --test lm3s -- --ignored`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helper functions of a test stop it where they fail"
)]

use firmware::acts::Act;
use firmware::board::SECTOR;
use firmware::face::Face;
use firmware::program::Program;
use firmware::provision::{Limits, Provision};
use firmware::provisioning::{self, FormatOrder, Given, Pace};
use firmware::pump::Input;
use firmware::rig::{Deframer, FromRig, Health, Seen, ToRig, encode};
use firmware::screen::{HEIGHT, Screen, WIDTH, draw};
use firmware::watchdog::TIMEOUT_MS;
use protocol::event::{AlarmCode, Body, BootReason, Condition, Purpose, Raw, decode};
use protocol::keys::KeyPair;
use protocol::message::Source;
use protocol::units::{Concentration, FlowRate, Volume};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Of the EEPROM.
const MEMORY_LEN: usize = 64 * 1024;
/// Looks, a fiftieth of a second apart, before something counts as not coming.
const LOOKS: u32 = 3_000;
/// What the stack may need at most, bytes.
const STACK_MAX: u32 = 40_960;
/// 2026-01-01T06:59:50Z: the day's first question is ten seconds away.
const BEFORE_SEVEN: u64 = 1_767_250_790_000;

fn provision() -> Provision {
    let nl = Volume::from_nanoliters;
    let limits = Limits {
        bolus: nl(50_000),
        lockout_ms: 600_000,
        max_1h: nl(700_000),
        max_4h: nl(2_400_000),
        max_24h: nl(12_000_000),
    };
    Provision::new(
        Source::new("EP-0777").unwrap(),
        KeyPair::from_seed([7; 32]).public(),
        b"{\"schema\":\"thecal.manifest/1\",\"trial_id\":\"T-0001\"}",
        limits,
        Program::constant(FlowRate::from_nanoliters_per_hour(80_000)),
        Concentration::from_micrograms_per_milliliter(500),
    )
    .unwrap()
}

/// A folder with an EEPROM as a pharmacy hands it out; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, pace: Pace) -> Self {
        let name = format!("thecal-lm3s-{name}-{}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        let _ = std::fs::remove_dir_all(&folder.0);
        std::fs::create_dir(&folder.0).unwrap();
        std::fs::write(folder.memory(), memory(pace)).unwrap();
        folder
    }

    fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn memory(pace: Pace) -> Vec<u8> {
    let keys = KeyPair::from_seed([7; 32]);
    let given = Given {
        secret: keys.seed(),
        pace,
        provision: provision(),
    };
    let order = FormatOrder {
        tag_secret: keys.tag_secret(),
    };
    let mut bytes = vec![0xFF; MEMORY_LEN];
    let behind = MEMORY_LEN - usize::try_from(provisioning::SECTORS * SECTOR).unwrap();
    let sector = provisioning::SECTOR_LEN;
    let given = provisioning::given_to_sector(&given).unwrap();
    bytes[behind..behind + sector].copy_from_slice(&given);
    let order = provisioning::order_to_sector(&order).unwrap();
    bytes[behind + sector..].copy_from_slice(&order);
    bytes
}

/// The board in QEMU. Dropped, its power is cut.
struct Board {
    qemu: Child,
    qmp: BufReader<UnixStream>,
    rig: UnixStream,
    deframer: Deframer,
    folder: PathBuf,
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn accept(listener: &UnixListener, qemu: &mut Child) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..LOOKS {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            let patience = Some(Duration::from_mins(1));
            stream.set_read_timeout(patience).unwrap();
            return stream;
        }
        assert_eq!(qemu.try_wait().unwrap(), None, "qemu-system-arm ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("qemu-system-arm does not open its ports");
}

impl Board {
    fn start(folder: &Folder) -> Self {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pump/lm3s.elf");
        assert!(
            image.is_file(),
            "there is no image; run: firmware/scripts/build.sh lm3s"
        );
        let at = |name: &str| folder.0.join(name).display().to_string();
        let listen = |name: &str| {
            let _ = std::fs::remove_file(at(name));
            UnixListener::bind(at(name)).unwrap()
        };
        let (rig, qmp) = (listen("rig"), listen("qmp"));
        let mut command = Command::new("qemu-system-arm");
        command.args(["-M", "lm3s6965evb", "-display", "none", "-monitor", "none"]);
        command.args(["-chardev", &format!("socket,id=rig,path={}", at("rig"))]);
        // Nobody is at the line: a socket that is not read would hold the board up.
        command.args(["-serial", "null", "-serial", "chardev:rig"]);
        command.args(["-qmp", &format!("unix:{}", at("qmp"))]);
        let memory = folder.memory();
        let drive = format!("if=none,id=ee,format=raw,file={}", memory.display());
        command.args(["-drive", &drive, "-device"]);
        command.arg("at24c-eeprom,bus=i2c,address=0x50,rom-size=65536,drive=ee");
        command.arg("-kernel").arg(&image);
        command.stdin(Stdio::null());
        let mut qemu = command.spawn().expect("qemu-system-arm is installed");
        let qmp = accept(&qmp, &mut qemu);
        let rig = accept(&rig, &mut qemu);
        let mut board = Self {
            qemu,
            qmp: BufReader::new(qmp),
            rig,
            deframer: Deframer::default(),
            folder: folder.0.clone(),
        };
        board.command("{\"execute\":\"qmp_capabilities\"}");
        // What is said to it before its ports are open is lost: a zero is the first that it says.
        let mut first = [1];
        board.rig.read_exact(&mut first).unwrap();
        assert_eq!(first, [0]);
        board
    }

    /// Gives QEMU a command and waits until it was carried out.
    fn command(&mut self, json: &str) {
        writeln!(self.qmp.get_mut(), "{json}").unwrap();
        let mut answer = String::new();
        loop {
            answer.clear();
            assert!(self.qmp.read_line(&mut answer).unwrap() > 0, "{json}");
            assert!(!answer.contains("\"error\""), "{json}: {answer}");
            if answer.contains("\"return\"") {
                return;
            }
        }
    }

    fn key(&mut self, name: &str, down: bool) {
        self.command(&format!(
            "{{\"execute\":\"input-send-event\",\"arguments\":{{\"events\":[{{\"type\":\"key\",\
             \"data\":{{\"down\":{down},\"key\":{{\"type\":\"qcode\",\"data\":\"{name}\"}}}}}}]}}}}"
        ));
    }

    fn send(&mut self, message: &FromRig) {
        let frame = encode(message).unwrap();
        self.rig.write_all(frame.as_bytes()).unwrap();
    }

    fn receive(&mut self) -> ToRig {
        let mut byte = [0];
        loop {
            self.rig.read_exact(&mut byte).unwrap();
            if let Some(message) = self.deframer.push::<ToRig>(byte[0]) {
                return message;
            }
        }
    }

    fn ask(&mut self, message: &FromRig) -> ToRig {
        self.send(message);
        self.receive()
    }

    fn act(&mut self, act: Act) {
        let input = Input::Act(act);
        let message = FromRig::Input {
            tick_ms: 0,
            input,
            seen: None,
        };
        match self.ask(&message) {
            ToRig::Done(done) => assert_eq!(done.refused, None, "{act:?}"),
            other => panic!("{other:?}"),
        }
    }

    fn face(&mut self) -> Face {
        match self.ask(&FromRig::Face { tick_ms: 0 }) {
            ToRig::Face(face) => face,
            other => panic!("{other:?}"),
        }
    }

    fn health(&mut self) -> Health {
        match self.ask(&FromRig::Health) {
            ToRig::Health(health) => health,
            other => panic!("{other:?}"),
        }
    }

    fn events(&mut self) -> Vec<Body> {
        let mut all = Vec::new();
        for seq in 1.. {
            match self.ask(&FromRig::Event { seq }) {
                ToRig::Event(Some(kept)) => {
                    let raw = Raw::parse(&kept.raw).unwrap().0;
                    all.push(decode(&raw).unwrap().1);
                }
                ToRig::Event(None) => return all,
                other => panic!("{other:?}"),
            }
        }
        all
    }

    /// A photograph of the display.
    fn photograph(&mut self) -> Picture {
        let file = self.folder.join("screen.ppm");
        let path = file.display();
        self.command(&format!(
            "{{\"execute\":\"screendump\",\"arguments\":{{\"filename\":\"{path}\"}}}}"
        ));
        Picture::parse(&std::fs::read(&file).unwrap())
    }

    /// Waits until the face is as wanted, and the display shows just it, dot by dot.
    fn until_shown(&mut self, what: &str, offered: u8, wanted: impl Fn(&Face) -> bool) {
        let mut last = None;
        for _ in 0..LOOKS {
            let face = self.face();
            let picture = self.photograph();
            let screen = draw(&face, Some(offered));
            if wanted(&face) && picture.shows(&screen) {
                return;
            }
            last = Some((face, picture, screen));
            std::thread::sleep(Duration::from_millis(20));
        }
        let (face, picture, screen) = last.unwrap();
        panic!(
            "{what}: {face:?}\nwanted\n{screen:?}\nseen\n{}",
            picture.text()
        );
    }

    /// Presses a key and lets it go.
    fn press(&mut self, name: &str) {
        for down in [true, false] {
            self.key(name, down);
            // Asked after the line changed, the first answer's turn ends with a look at the lines.
            self.face();
            self.face();
        }
    }
}

/// A PPM of bytes, as QEMU writes it.
struct Picture {
    width: usize,
    height: usize,
    dots: Vec<[u8; 3]>,
}

impl Picture {
    fn parse(ppm: &[u8]) -> Self {
        let mut rest = ppm;
        let mut words = Vec::new();
        while words.len() < 4 {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap();
            words.push(String::from_utf8(rest[..end].to_vec()).unwrap());
            rest = &rest[end + 1..];
        }
        assert_eq!((words[0].as_str(), words[3].as_str()), ("P6", "255"));
        let (width, height) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        let dots: Vec<[u8; 3]> = rest
            .chunks_exact(3)
            .map(|c| c.try_into().unwrap())
            .collect();
        assert_eq!(dots.len(), width * height);
        Self {
            width,
            height,
            dots,
        }
    }

    /// How bright a dot of the display is; each is drawn as a square, which must be of one color.
    fn brightness(&self, x: usize, y: usize) -> u8 {
        let scale = self.width / WIDTH;
        let first = self.dots[y * scale * self.width + x * scale];
        for (dx, dy) in (0..scale).flat_map(|dx| (0..scale).map(move |dy| (dx, dy))) {
            let at = (y * scale + dy) * self.width + x * scale + dx;
            assert_eq!(self.dots[at], first, "at {x} {y}");
        }
        first.into_iter().max().unwrap()
    }

    fn shows(&self, screen: &Screen) -> bool {
        assert_eq!(self.width * HEIGHT, self.height * WIDTH, "two to one");
        (0..HEIGHT).all(|y| {
            (0..WIDTH).all(|x| match self.brightness(x, y) {
                0 => !screen.dot(x, y),
                200..=255 => screen.dot(x, y),
                _ => false,
            })
        })
    }

    fn text(&self) -> String {
        let row = |y| (0..WIDTH).map(move |x| if self.brightness(x, y) > 0 { '#' } else { ' ' });
        (0..HEIGHT).flat_map(|y| row(y).chain(['\n'])).collect()
    }
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn ten_is_typed_on_five_keys_and_every_dot_of_the_display_is_as_drawn() {
    let folder = Folder::new("ten", Pace::Counter);
    let mut board = Board::start(&folder);
    board.until_shown("stopped", 0, |face| face.infusing.is_none());
    // In QEMU each line reads as down until it changed once: none of it may count.
    for name in ["up", "down", "left", "right", "ctrl"] {
        board.press(name);
    }
    board.until_shown("nothing typed", 0, |face| {
        face.typed.is_none() && face.message.is_none()
    });
    board.act(Act::SetClock {
        utc_ms: BEFORE_SEVEN,
        offset_min: 0,
    });
    board.act(Act::Start {
        purpose: Purpose::Therapy,
        until: None,
    });
    let rate = FlowRate::from_nanoliters_per_hour(80_000);
    board.until_shown("the rate", 0, |face| {
        face.infusing == Some((Purpose::Therapy, rate))
    });
    board.until_shown("the question", 0, |face| {
        face.asking == Some(Condition::Rest)
    });

    board.press("up");
    board.until_shown("one is offered", 1, |face| face.typed.is_none());
    board.press("right");
    board.until_shown("one is typed", 1, |face| face.typed == Some(1));
    board.press("down");
    board.until_shown("zero is offered", 0, |face| face.typed == Some(1));
    board.press("right");
    board.until_shown("ten is typed", 0, |face| face.typed == Some(10));
    assert!(!board.face().saved, "not before it is kept");
    board.press("ctrl");
    board.until_shown("the tick", 0, |face| face.saved && face.typed.is_none());

    // A key that is held for ten seconds is stuck: an alarm, inverted on the first line.
    let stuck = |face: &Face| {
        face.alarms
            .iter()
            .any(|(code, _)| *code == AlarmCode::KeyStuck)
    };
    board.key("right", true);
    board.until_shown("the alarm", 0, stuck);
    board.key("right", false);
    board.until_shown("no alarm", 0, |face| !stuck(face));

    let health = board.health();
    println!("stack at most {} bytes", health.stack_high_water);
    assert!(health.stack_high_water <= STACK_MAX, "{health:?}");
    assert_eq!(health.rig_bad_frames, 0);
    let events = board.events();
    assert_eq!(scores(&events), [(10, true, true)]);
    let mut tests = events.iter().filter(|b| matches!(b, Body::SelfTest(_)));
    let passed = |b: &Body| matches!(b, Body::SelfTest(test) if test.passed);
    assert!(tests.next().is_some_and(passed), "{events:?}");

    // The power is cut: the memory has it all, and nothing is infused any more.
    drop(board);
    let mut board = Board::start(&folder);
    board.until_shown("stopped after a power cut", 0, |face| {
        face.infusing.is_none()
    });
    let after = board.events();
    assert_eq!(after[..events.len()], events[..]);
    let again = &after[events.len()..];
    assert!(matches!(again[0], Body::PoweredOn(_)), "{again:?}");
}

/// Scores: which, whether confirmed, whether prompted.
fn scores(events: &[Body]) -> Vec<(u8, bool, bool)> {
    let score = |body: &Body| match body {
        Body::PainScore(s) => Some((s.score, s.confirmed, s.prompt_id.is_some())),
        _ => None,
    };
    events.iter().filter_map(score).collect()
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn a_board_whose_sensors_hang_is_reset_by_its_watchdog_and_says_so() {
    let folder = Folder::new("hangs", Pace::Rig);
    let mut board = Board::start(&folder);
    let start = FromRig::Start {
        reason: BootReason::PowerOn,
        tick_ms: 0,
        seen: Some(Seen::default()),
    };
    assert_eq!(board.receive(), ToRig::Ready { reset: None });
    let started = board.ask(&start);
    assert!(matches!(started, ToRig::Done(_)), "{started:?}");
    // As long as nobody asks for anything it is well, for longer than its watchdog waits.
    std::thread::sleep(Duration::from_millis(2 * TIMEOUT_MS));
    assert_eq!(board.face().alarms, []);
    // It asks and is not answered.
    let (tick_ms, seen) = (600_000, None);
    assert_eq!(board.ask(&FromRig::Wake { tick_ms, seen }), ToRig::Look);
    let reset = Some(BootReason::Watchdog);
    assert_eq!(board.receive(), ToRig::Ready { reset });
    let started = board.ask(&start);
    assert!(matches!(started, ToRig::Done(_)), "{started:?}");
    let reasons: Vec<_> = board
        .events()
        .iter()
        .filter_map(|body| match body {
            Body::PoweredOn(on) => Some(on.reason),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [BootReason::PowerOn, BootReason::Watchdog]);
}
