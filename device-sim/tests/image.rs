//! The pump's real image in QEMU, against the same program as a library. `./test.sh` builds the
//! image and runs these; by hand: `firmware/scripts/build.sh mps2`, then
//! `cargo test -p device-sim --test image -- --ignored`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helper functions of a test stop it where they fail"
)]

mod bedside;
mod common;

use bedside::Gateway;
use device_sim::clock::Wall;
use device_sim::fault::{Fault, What};
use device_sim::patient::kind::Kind;
use device_sim::qemu::{self, Qemu, Started};
use device_sim::run::{Manners, Remote, run};
use device_sim::scenario::Scenario;
use device_sim::setup::Setup;
use device_sim::sim::{Journaled, Simulation};
use firmware::acts::Act;
use firmware::program::Program;
use firmware::provisioning::{Given, Pace, given_to_sector};
use firmware::pump::Input;
use firmware::rig::{Deframer, Done, FromRig, Seen, ToRig, encode};
use protocol::event::{Body, BootReason, Key, Purpose, StopReason, decode};
use protocol::frame::{Deframer as LineDeframer, Piece, decode_from_pump, encode_to_pump};
use protocol::message::{Ack, FromPump, Heartbeat, Resume, TimeRequest, ToPump};
use protocol::time::Uptime;
use protocol::units::{FlowRate, Volume};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const HOUR: u64 = 3_600_000;

/// What the stack may need at most, bytes.
const STACK_MAX: u32 = 36_864;

fn image() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(qemu::IMAGE)
}

/// The same trial on the image, its memory in this folder.
fn on_image(setup: &Setup, folder: &Path) -> Setup {
    let mut setup = setup.clone();
    setup.image = Some(image());
    setup.memory = Some(folder.join("image.nv"));
    setup
}

/// The same trial on the library, its memory in this folder.
fn on_library(setup: &Setup, folder: &Path) -> Setup {
    let mut setup = setup.clone();
    setup.memory = Some(folder.join("library.nv"));
    setup
}

/// The flash that a pump left, without what else is in its file.
fn flash(folder: &Path, name: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(folder.join(name)).unwrap();
    bytes.truncate(usize::try_from(device_sim::board::FLASH_SIZE).unwrap());
    bytes
}

fn bodies(journal: &[Journaled]) -> Vec<Body> {
    journal
        .iter()
        .map(|event| decode(&event.raw).unwrap().1)
        .collect()
}

/// Lives the trial on both and holds all bytes of both memories against each other.
fn same_on_both(name: &str, setup: &Setup, until_ms: u64) -> Vec<Journaled> {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Simulation::new(on_library(setup, folder.path())).unwrap();
    library.step_until(until_ms);
    let wall = Wall::start();
    let mut image = Simulation::new(on_image(setup, folder.path())).unwrap();
    image.step_until(until_ms);
    assert_eq!(image.broken(), None, "{name}");
    let (wanted, seen) = (library.journal(), image.journal());
    let differs = wanted.iter().zip(&seen).position(|(w, s)| w != s);
    if let Some(at) = differs {
        panic!(
            "{name}, event {at}: the library has {:?}, the image {:?}",
            decode(&wanted[at].raw).unwrap(),
            decode(&seen[at].raw).unwrap(),
        );
    }
    assert_eq!(wanted.len(), seen.len(), "{name}");
    assert!(wanted.len() > 10, "{name}: {} events", wanted.len());
    assert_eq!(library.refused, image.refused, "{name}");
    let health = image.health().unwrap();
    println!(
        "{name}: {} events in {} ms, stack high-water {} of {STACK_MAX} bytes",
        seen.len(),
        wall.uptime().as_millis(),
        health.stack_high_water
    );
    assert!(health.stack_high_water <= STACK_MAX, "{health:?}");
    assert_eq!(health.rig_bad_frames, 0);
    drop((library, image));
    assert!(
        flash(folder.path(), "library.nv") == flash(folder.path(), "image.psram"),
        "{name}: the memories differ beyond the events"
    );
    wanted
}

/// Stories of the pump alone whose faults a rig can make: all but those inside the memory, which
/// is the image's own and of one size.
fn stories() -> Vec<Scenario> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .filter(|path| path.file_stem().is_some_and(|name| name != "faults"))
        .collect();
    files.sort();
    let inside = |fault: &Fault| {
        matches!(
            fault.what,
            What::WornFlash
                | What::FlashRot(_)
                | What::PowerCut {
                    after_bytes: Some(_),
                    ..
                }
        )
    };
    let texts = files.iter().map(|f| std::fs::read_to_string(f).unwrap());
    texts
        .map(|text| Scenario::parse(&text).unwrap())
        .filter(|story| story.bedside.is_none() && story.flash_size.is_none())
        .filter(|story| !story.faults.iter().any(inside))
        .collect()
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn every_story_leaves_the_same_bytes_on_the_image_as_on_the_library() {
    let stories = stories();
    assert!(stories.len() >= 12, "{}", stories.len());
    for story in stories {
        let setup = common::setup(Kind::Responder, story.seed, 1).in_scenario(&story);
        same_on_both(&story.name, &setup, story.baseline_ms + story.therapy_ms);
    }
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn a_patients_trial_with_a_power_cut_leaves_the_same_bytes_on_the_image_as_on_the_library() {
    let mut setup = common::setup(Kind::Withdrawal, 41, 1);
    setup.faults = vec![Fault {
        at_ms: 30 * HOUR + 1_234,
        for_ms: Some(90_000),
        what: What::PowerCut {
            after_bytes: None,
            warned: false,
        },
    }];
    let journal = same_on_both("withdrawal", &setup, 49 * HOUR);
    let bodies = bodies(&journal);
    let starts = bodies.iter().filter(|b| matches!(b, Body::PoweredOn(_)));
    assert_eq!(starts.count(), 2);
    assert!(bodies.iter().any(|b| matches!(b, Body::TrialClosed(_))));
}

/// A small generator with a seed: `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn hostile(random: &mut Random) -> Vec<u8> {
    let any = random.next();
    let message = match any % 6 {
        0 => ToPump::Ack(Ack {
            through_seq: any >> 8,
        }),
        1 => ToPump::Ack(Ack {
            through_seq: u64::MAX,
        }),
        2 => ToPump::Resume(Resume {
            last_contiguous_seq: any >> 40,
            want_hello: any & 256 != 0,
            want_manifest: any & 512 != 0,
        }),
        3 => ToPump::TimeRequest(TimeRequest {
            id: u32::try_from(any >> 32).unwrap(),
        }),
        _ => {
            let len = any % 600;
            return (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
        }
    };
    encode_to_pump(&message).unwrap().as_bytes().to_vec()
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn a_hostile_gateway_leaves_every_motor_command_and_every_byte_of_the_images_memory_alone() {
    let seed = 77;
    println!("seed {seed}");
    let until_ms = 34 * HOUR;
    let lived = |noise: bool| {
        let folder = tempfile::tempdir().unwrap();
        let setup = common::setup(Kind::Responder, 9, 1);
        let mut sim = Simulation::new(on_image(&setup, folder.path())).unwrap();
        let mut random = Random(seed);
        let (wall, mut heard, mut sent) = (Wall::start(), 0, 0);
        let mut echo = Vec::new();
        for minute in 0..until_ms / 60_000 {
            sim.step_until(minute * 60_000);
            if noise {
                let mut bytes = hostile(&mut random);
                // What the pump itself said comes back as well.
                bytes.append(&mut echo);
                sim.handle_bytes(wall.uptime(), &bytes);
                sent += bytes.len();
                echo = sim.poll_bytes(wall.uptime());
                heard += echo.len();
            }
        }
        assert_eq!(sim.broken(), None);
        assert_eq!(sim.heard(), noise, "the line was heard where there is one");
        let health = sim.health().unwrap();
        println!("sent {sent}, heard {heard}, {health:?}");
        assert!(health.stack_high_water <= STACK_MAX);
        if noise {
            assert!(sent > 100_000 && heard > 10_000 && health.line_bad_frames > 100);
        }
        let truth = sim.patient().clone();
        drop(sim);
        (flash(folder.path(), "image.psram"), format!("{truth:?}"))
    };
    let (quiet, noisy) = (lived(false), lived(true));
    assert!(quiet.0 == noisy.0, "the memory differs");
    assert_eq!(quiet.1, noisy.1, "what reached the patient differs");
}

/// A rig of the test's own, that answers what it likes.
struct Rig {
    stream: UnixStream,
    deframer: Deframer,
    bytes: Vec<u8>,
    _line: UnixStream,
    qemu: Qemu,
}

impl Rig {
    fn start(memory: &Path) -> Self {
        let Started { qemu, line, rig } = Qemu::start(&image(), memory).unwrap();
        rig.set_read_timeout(Some(core::time::Duration::from_mins(1)))
            .unwrap();
        Self {
            stream: rig,
            deframer: Deframer::default(),
            bytes: Vec::new(),
            _line: line,
            qemu,
        }
    }

    fn send(&mut self, message: &FromRig) {
        let frame = encode(message).unwrap();
        self.stream.write_all(frame.as_bytes()).unwrap();
    }

    fn receive(&mut self) -> ToRig {
        loop {
            let mut bytes = core::mem::take(&mut self.bytes).into_iter();
            while let Some(byte) = bytes.next() {
                if let Some(message) = self.deframer.push(byte) {
                    self.bytes = bytes.collect();
                    return message;
                }
            }
            let mut room = [0; 512];
            let n = self.stream.read(&mut room).unwrap();
            assert!(n > 0, "the image is gone");
            self.bytes = room[..n].to_vec();
        }
    }

    fn done(&mut self) -> Done {
        match self.receive() {
            ToRig::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self) -> Done {
        self.send(&FromRig::Start {
            reason: BootReason::PowerOn,
            tick_ms: 0,
            seen: Some(Seen::default()),
        });
        self.done()
    }

    fn body(&mut self, seq: u64) -> Body {
        self.send(&FromRig::Event { seq });
        match self.receive() {
            ToRig::Event(Some(kept)) => {
                let raw = protocol::event::Raw::parse(&kept.raw).unwrap().0;
                decode(&raw).unwrap().1
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn an_image_whose_sensors_hang_is_reset_by_its_watchdog_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("pump.psram");
    let setup = common::setup(Kind::Responder, 2, 1);
    let provision = setup.provision().unwrap();
    assert!(qemu::provision(&memory, &setup.keys, &provision).unwrap());
    let mut rig = Rig::start(&memory);
    assert_eq!(rig.receive(), ToRig::Ready { reset: None });
    let first = rig.begin();
    assert_eq!(first.boot, 1);
    let tests = (1..=first.last_seq).map(|seq| rig.body(seq));
    let passed = tests
        .filter(|body| matches!(body, Body::SelfTest(test) if test.passed))
        .count();
    assert_eq!(passed, 1, "the watchdog's own test is one of it");
    // As long as nobody asks for anything the image is well, for longer than its watchdog waits.
    let wall = Wall::start();
    while wall.uptime() < Uptime::from_millis(2 * firmware::watchdog::TIMEOUT_MS) {
        rig.send(&FromRig::Time { tick_ms: 1 });
        assert!(matches!(rig.receive(), ToRig::Line(_)));
        device_sim::clock::rest(100);
    }
    // It asks for its sensors and is never answered.
    rig.send(&FromRig::Wake {
        tick_ms: 60_000,
        seen: None,
    });
    assert_eq!(rig.receive(), ToRig::Look);
    let reset = Some(BootReason::Watchdog);
    assert_eq!(rig.receive(), ToRig::Ready { reset });
    // What the board knows comes before what the rig says of the supply.
    let second = rig.begin();
    assert_eq!(second.boot, 2);
    let fresh: Vec<Body> = (first.last_seq + 1..=second.last_seq)
        .map(|seq| rig.body(seq))
        .collect();
    assert!(
        matches!(fresh[0], Body::PoweredOn(on) if on.reason == BootReason::Watchdog),
        "{fresh:?}"
    );
    assert!(
        fresh
            .iter()
            .any(|body| matches!(body, Body::SelfTest(test) if test.passed))
    );
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn arithmetic_that_fails_on_the_image_is_no_wrong_number_but_a_reset_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("pump.psram");
    let setup = common::setup(Kind::Responder, 2, 1);
    let mut provision = setup.provision().unwrap();
    provision.program = Program::constant(FlowRate::from_nanoliters_per_hour(100_000));
    // A pump stroke of ten billion liters, as no pharmacy writes it: when the next motor command is
    // due does not fit in 64 bits.
    provision.calibration.stroke = Volume::from_nanoliters(u64::MAX / 2);
    assert!(qemu::provision(&memory, &setup.keys, &provision).unwrap());
    let mut rig = Rig::start(&memory);
    assert_eq!(rig.receive(), ToRig::Ready { reset: None });
    let first = rig.begin();
    rig.send(&FromRig::Input {
        tick_ms: 1,
        input: Input::Act(Act::Start {
            purpose: Purpose::Therapy,
            until: None,
        }),
        seen: Some(Seen::default()),
    });
    let reset = Some(BootReason::Fault);
    assert_eq!(rig.receive(), ToRig::Ready { reset });
    let second = rig.begin();
    assert_eq!(second.boot, first.boot + 1);
    let fresh: Vec<Body> = (first.last_seq + 1..=second.last_seq)
        .map(|seq| rig.body(seq))
        .collect();
    let said = |body: &Body| matches!(body, Body::PoweredOn(on) if on.reason == BootReason::Fault);
    assert!(fresh.iter().any(said), "{fresh:?}");
    let started = |body: &Body| matches!(body, Body::InfusionStarted(_));
    assert!(fresh.iter().any(started), "it came so far: {fresh:?}");
}

/// The messages of a line, each with the wall time at which its last byte was read.
fn heard_on(line: &mut UnixStream, for_ms: u64) -> Vec<(Uptime, FromPump)> {
    let (wall, mut deframer, mut heard) = (Wall::start(), LineDeframer::default(), Vec::new());
    line.set_read_timeout(Some(core::time::Duration::from_millis(100)))
        .unwrap();
    let mut room = [0; 512];
    while wall.uptime() < Uptime::from_millis(for_ms) {
        let Ok(n) = line.read(&mut room) else {
            continue;
        };
        assert!(n > 0, "the image is gone");
        for byte in &room[..n] {
            if let Some(Piece::Bytes(frame)) = deframer.push(*byte) {
                heard.push((wall.uptime(), decode_from_pump(frame).unwrap()));
            }
        }
    }
    heard
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn an_image_without_a_rig_takes_its_ticks_from_its_own_counter_at_the_pace_of_the_wall() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("pump.psram");
    let setup = common::setup(Kind::Responder, 2, 1);
    let provision = setup.provision().unwrap();
    assert!(qemu::provision(&memory, &setup.keys, &provision).unwrap());
    // Who the pump is, once more: on its own.
    let given = given_to_sector(&Given {
        secret: setup.keys.seed(),
        pace: Pace::Counter,
        provision,
    });
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&memory)
        .unwrap();
    file.write_all_at(&given.unwrap(), u64::from(device_sim::board::FLASH_SIZE))
        .unwrap();
    for boot in 1..=2_u32 {
        let Started {
            qemu: _alive,
            mut line,
            rig,
        } = Qemu::start(&image(), &memory).unwrap();
        // Nobody is at the second port.
        drop(rig);
        let resume = ToPump::Resume(Resume {
            last_contiguous_seq: 0,
            want_hello: true,
            want_manifest: false,
        });
        line.write_all(encode_to_pump(&resume).unwrap().as_bytes())
            .unwrap();
        let heard = heard_on(&mut line, 12_000);
        let beats: Vec<(Uptime, Heartbeat)> = heard
            .iter()
            .filter_map(|(at, message)| match message {
                FromPump::Heartbeat(beat) => Some((*at, *beat)),
                _ => None,
            })
            .collect();
        let (Some((from, first)), Some((to, last))) = (beats.first(), beats.last()) else {
            panic!("no heartbeat: {heard:?}");
        };
        let (wall_ms, ticks) = (to.millis_since(*from), last.tick_ms - first.tick_ms);
        println!("start {boot}: {ticks} ticks in {wall_ms} ms of the wall");
        assert!(beats.len() >= 6, "one each second: {beats:?}");
        // What holds up this process or the emulator holds up a message by less than that.
        assert!(ticks.abs_diff(wall_ms) < 1_500, "{ticks} in {wall_ms} ms");
        assert!(
            beats
                .iter()
                .all(|(_, beat)| beat.boot == boot && !beat.infusing)
        );
        // It starts as every pump does, and its proof holds up to the start's checkpoint.
        let bodies: Vec<Body> = heard
            .iter()
            .filter_map(|(_, message)| match message {
                FromPump::Event { raw, head, .. } if head.boot == boot => {
                    Some(decode(raw).unwrap().1)
                }
                _ => None,
            })
            .collect();
        let of = |wanted: fn(&Body) -> bool| bodies.iter().any(wanted);
        assert!(of(
            |b| matches!(b, Body::PoweredOn(on) if on.reason == BootReason::PowerOn)
        ));
        assert!(
            of(|b| matches!(b, Body::SelfTest(test) if test.passed)),
            "{bodies:?}"
        );
        assert!(of(|b| matches!(b, Body::Checkpoint(_))), "{bodies:?}");
    }
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn a_killed_image_goes_on_from_its_memory_and_nothing_is_left_of_the_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let setup = on_image(&common::setup(Kind::Responder, 12, 1), folder.path());
    let (mut before, mut now_ms) = (Vec::new(), 26 * HOUR);
    for boot in 1..=4_u32 {
        let mut sim = Simulation::new(setup.clone()).unwrap();
        now_ms += 20 * 60_000;
        sim.step_until(now_ms);
        assert_eq!(sim.broken(), None, "boot {boot}, at {} ms", sim.now_ms());
        let journal = sim.journal();
        assert_eq!(journal.last().unwrap().raw.head().unwrap().boot, boot);
        let older: Vec<_> = journal.iter().map(|e| (e.raw.clone(), e.tag)).collect();
        assert!(older.starts_with(&before), "boot {boot}");
        assert!(older.len() > before.len());
        if boot > 1 {
            let stopped = bodies(&journal[before.len()..]).into_iter().any(
                |b| matches!(b, Body::InfusionStopped(s) if s.reason == StopReason::PowerLost),
            );
            assert!(stopped, "boot {boot}");
        }
        before = older;
    }
    let memory = folder.path().join("pump.psram");
    let keys = common::keys();
    qemu::provision(&memory, &keys, &setup.provision().unwrap()).unwrap();
    let mut rig = Rig::start(&memory);
    let pid = rig.qemu.pid().unwrap();
    let alive = || Path::new(&format!("/proc/{pid}/exe")).exists();
    assert!(alive());
    rig.qemu.kill();
    assert!(!alive());
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn three_days_of_the_image_come_through_the_port_within_five_minutes() {
    // A day of baseline and two of therapy.
    let setup = common::setup(Kind::Responder, 21, 2);
    let mut library = Simulation::new(setup.clone()).unwrap();
    library.step_until(100 * HOUR);
    let wanted: Vec<_> = library
        .journal()
        .into_iter()
        .map(|event| (event.raw, event.tag))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let setup = on_image(&setup, folder.path());
    let link = folder.path().join("pump");
    let (remote, path) = (Remote::new(), link.clone());
    let hand = remote.clone();
    let manners = Manners {
        speed: 1_000_000,
        patience_ms: None,
    };
    let thread = std::thread::spawn(move || run(setup, &path, manners, &hand, |_| {}).unwrap());
    let mut gateway = Gateway::new(&link);
    while !remote.progress().done() {
        gateway.round();
        let progress = remote.progress();
        assert!(!thread.is_finished(), "{progress:?}");
        assert!(gateway.wall.uptime().as_millis() < 300_000, "{progress:?}");
    }
    println!(
        "{} events of {:.1} days in {} s of the wall",
        gateway.events.len(),
        remote.progress().days(),
        gateway.wall.uptime().as_millis() / 1_000
    );
    remote.stop();
    thread.join().unwrap();
    assert_eq!(gateway.events, wanted);
    assert!(!gateway.manifest.is_empty());
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn a_key_press_at_the_image_becomes_an_event_that_its_face_shows() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = on_image(&common::setup(Kind::Responder, 5, 1), folder.path());
    setup.quiet_patient = true;
    let mut sim = Simulation::new(setup).unwrap();
    sim.step_until(10_000);
    for key in [Key::Digit7, Key::Confirm] {
        sim.press(key, 150);
        let until = sim.now_ms() + 1_000;
        sim.step_until(until);
    }
    assert_eq!(sim.broken(), None);
    let scored = bodies(&sim.journal())
        .iter()
        .any(|body| matches!(body, Body::PainScore(score) if score.score == 7 && score.confirmed));
    assert!(scored);
    let face = sim.face();
    assert!(
        face.lines.iter().any(|l| l.starts_with("✓ Saved.")),
        "{face:?}"
    );
}

#[test]
fn a_missing_image_names_the_command_that_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = qemu::check(&folder.path().join("mps2.elf")).unwrap_err();
    assert!(
        error.to_string().contains("firmware/scripts/build.sh mps2"),
        "{error}"
    );
}
