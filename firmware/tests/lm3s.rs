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

mod emulated;

use emulated::{Board, LOOKS, lm3s, lm3s_folder};
use firmware::acts::Act;
use firmware::face::Face;
use firmware::provisioning::Pace;
use firmware::pump::Input;
use firmware::rig::{FromRig, Health, ToRig};
use firmware::screen::{HEIGHT, Screen, WIDTH, draw};
use firmware::watchdog::TIMEOUT_MS;
use protocol::event::{AlarmCode, Body, BootReason, Condition, Purpose};
use protocol::units::FlowRate;
use std::time::Duration;

/// What the stack may need at most, bytes.
const STACK_MAX: u32 = 40_960;
/// 2026-01-01T06:59:50Z: the day's first question is ten seconds away.
const BEFORE_SEVEN: u64 = 1_767_250_790_000;

impl Board {
    fn key(&mut self, name: &str, down: bool) {
        self.command(&format!(
            "{{\"execute\":\"input-send-event\",\"arguments\":{{\"events\":[{{\"type\":\"key\",\
             \"data\":{{\"down\":{down},\"key\":{{\"type\":\"qcode\",\"data\":\"{name}\"}}}}}}]}}}}"
        ));
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
    let folder = lm3s_folder("ten", Pace::Counter);
    let mut board = lm3s(&folder);
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
    let mut board = lm3s(&folder);
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
    let folder = lm3s_folder("hangs", Pace::Rig);
    let mut board = lm3s(&folder);
    board.starts_after(None);
    // As long as nobody asks for anything it is well, for longer than its watchdog waits.
    std::thread::sleep(Duration::from_millis(2 * TIMEOUT_MS));
    assert_eq!(board.face().alarms, []);
    // It asks and is not answered.
    let (tick_ms, seen) = (600_000, None);
    assert_eq!(board.ask(&FromRig::Wake { tick_ms, seen }), ToRig::Look);
    board.starts_after(Some(BootReason::Watchdog));
    let reasons = board.reasons();
    assert_eq!(reasons, [BootReason::PowerOn, BootReason::Watchdog]);
}
