//! Power fails at every byte that the pump writes, in a run that does a little of everything; after
//! each, everything the pump had answered for is there, nothing is there twice or torn, and the
//! chain holds with its tags.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "helper functions of a test stop it where they fail"
)]

mod common;

use common::{
    Change, HOUR, MINUTE, MemoryBoard, SIX, act, after, begin, bodies, check_chain, events_of,
    formatted, kinds, nl, press, provision, rate, run_to, secret, set_sensors, start,
};
use firmware::acts::Act;
use firmware::pump::{Pump, StartError};
use proptest::prelude::*;
use protocol::event::{Body, BootReason, CloseReason, Key, Raw, decode};
use protocol::hex::Tag;
use protocol::units::Concentration;

/// A story in steps; each is called with the pump and done when it returns.
type Step = fn(&mut Pump<MemoryBoard>);

const FIRST_START: &[Step] = &[
    |p| {
        act(
            p,
            10,
            Act::SetClock {
                utc_ms: SIX,
                offset_min: 60,
            },
        );
    },
    |p| begin(p, 1_000),
    |p| press(p, 2_000, &[Key::Digit1, Key::Digit0, Key::Confirm]),
    |p| press(p, 9_000, &[Key::Bolus]),
    |p| run_to(p, 3 * MINUTE),
    |p| press(p, 4 * MINUTE, &[Key::Bolus]),
    |p| set_sensors(p, 5 * MINUTE, |s| s.door_open = true),
    |p| set_sensors(p, 6 * MINUTE, |s| s.door_open = false),
    |p| act(p, 7 * MINUTE, Act::ChangeRate(rate(300_000))),
    |p| {
        let (volume, concentration) = (
            nl(10_000_000),
            Concentration::from_micrograms_per_milliliter(1_000),
        );
        act(
            p,
            8 * MINUTE,
            Act::ChangeReservoir {
                volume,
                concentration,
            },
        );
    },
    |p| begin(p, 9 * MINUTE),
    |p| run_to(p, 12 * MINUTE),
];

const SECOND_START: &[Step] = &[
    |p| begin(p, 1_000),
    |p| press(p, 2_000, &[Key::Digit7, Key::Confirm]),
    |p| act(p, MINUTE, Act::Stop),
    |p| run_to(p, HOUR + 1_000),
    |p| act(p, HOUR + 2_000, Act::Close(CloseReason::Planned)),
];

/// What the pump had answered for after so many changes of the memory.
struct Promise {
    after_changes: usize,
    last_seq: u64,
}

struct Story {
    /// The memory before it.
    memory: MemoryBoard,
    changes: Vec<Change>,
    promises: Vec<Promise>,
    /// All events at its end.
    events: Vec<(Raw, Tag)>,
}

/// Runs the story on a board that keeps its changes.
fn story(mut board: MemoryBoard) -> Story {
    let memory = board.clone();
    board.changes = Some(Vec::new());
    let mut promises = Vec::new();
    let only_the_start: Step = |_| {};
    for steps in [FIRST_START, SECOND_START] {
        let mut pump = start(board.powered_again());
        for step in core::iter::once(&only_the_start).chain(steps) {
            step(&mut pump);
            promises.push(Promise {
                after_changes: pump.board().changes.as_ref().map_or(0, Vec::len),
                last_seq: pump.last_seq(),
            });
        }
        board = pump.into_board();
    }
    let changes = board.changes.take().unwrap_or_default();
    let events = events_of(&start(board.powered_again()));
    Story {
        memory,
        changes,
        promises,
        events,
    }
}

#[test]
fn power_fails_at_every_byte_and_nothing_that_was_answered_for_is_lost() {
    let story = story(formatted(8));
    let (changes, whole) = (story.changes, story.events);
    assert!(check_chain(&whole).unwrap().closed());
    assert!(changes.len() > 4_000, "{} changes", changes.len());
    let mut memory = story.memory;
    for cut in 0..=changes.len() {
        let mut made = story.promises.iter().rev();
        let made = made.find(|p| p.after_changes <= cut);
        let promised = made.map_or(0, |p| p.last_seq);
        let mut pump = start(memory.clone().powered_again());
        for seq in 1..=promised {
            let place = usize::try_from(seq - 1).unwrap();
            assert_eq!(
                pump.event(seq).as_ref(),
                whole.get(place),
                "cut {cut}, seq {seq}"
            );
        }
        let events = events_of(&pump);
        assert_eq!(
            u64::try_from(events.len()).unwrap(),
            pump.last_seq(),
            "cut {cut}"
        );
        check_chain(&events).unwrap_or_else(|e| panic!("cut {cut}: {e}"));
        assert_eq!(pump.infusing(), None, "cut {cut}");
        if cut % 97 == 0 && !pump.closed() {
            // And it goes on from there to a good end.
            begin(&mut pump, 1_000);
            run_to(&mut pump, 10 * MINUTE);
            act(&mut pump, 11 * MINUTE, Act::Close(CloseReason::Technical));
            let check = check_chain(&events_of(&pump)).unwrap_or_else(|e| panic!("cut {cut}: {e}"));
            assert!(check.closed(), "cut {cut}");
        }
        if let Some(change) = changes.get(cut) {
            memory.nv[change.at] = change.value;
        }
    }
}

#[test]
fn settings_and_the_event_that_brings_them_tell_one_story_at_every_cut() {
    let story = story(formatted(8));
    let (mut memory, changes) = (story.memory, story.changes);
    for cut in 0..=changes.len() {
        let pump = start(memory.clone().powered_again());
        let all = after(&pump, 0);
        let told = all.iter().rev().find_map(|body| match body {
            protocol::event::Body::ProgramChanged(p) => {
                Some((p.revision, p.concentration_mcg_per_ml))
            }
            _ => None,
        });
        let settings = pump.settings();
        let used = (
            settings.revision,
            settings.concentration.as_micrograms_per_milliliter(),
        );
        assert_eq!(used, told.unwrap_or((0, 500)), "cut {cut}");
        if let Some(change) = changes.get(cut) {
            memory.nv[change.at] = change.value;
        }
    }
}

#[test]
fn a_cut_while_formatting_leaves_a_memory_that_says_so() {
    let mut board = MemoryBoard::new(4);
    board.changes = Some(Vec::new());
    let before = board.clone();
    Pump::format(&mut board, &provision(), &secret()).unwrap();
    let total = board.changes.as_ref().unwrap().len();
    // Erasing nine sectors is most of it; the end is where it could go wrong.
    for cut in (0..total).step_by(511).chain(total - 300..total) {
        let mut board = before.clone();
        board.fuse = Some(u64::try_from(cut).unwrap());
        assert!(
            Pump::format(&mut board, &provision(), &secret()).is_err(),
            "cut {cut}"
        );
        let mut board = board.powered_again();
        let failed = Pump::start(&mut board, &provision(), BootReason::PowerOn, 0);
        assert_eq!(
            failed.map_err(|f| f.error).err(),
            Some(StartError::NotFormatted),
            "cut {cut}"
        );
        Pump::format(&mut board, &provision(), &secret()).unwrap();
        check_chain(&events_of(&start(board))).unwrap();
    }
}

#[test]
fn memory_of_another_trial_is_not_taken() {
    let mut board = formatted(4);
    let mut other = provision();
    other.manifest.push(b' ').unwrap();
    let failed = Pump::start(&mut board, &other, BootReason::PowerOn, 0);
    assert_eq!(
        failed.map_err(|f| f.error).err(),
        Some(StartError::OtherTrial)
    );
}

#[test]
fn a_ring_that_turns_over_says_what_it_lost_and_the_rest_is_proven() {
    let mut pump = start(formatted(4));
    begin(&mut pump, 0);
    run_to(&mut pump, 3 * HOUR);
    let held = events_of(&pump);
    assert!((48..=64).contains(&held.len()), "{}", held.len());
    let first = held[0].0.head().unwrap().seq;
    assert_eq!(
        first + u64::try_from(held.len()).unwrap(),
        pump.last_seq() + 1
    );
    let told = after(&pump, 0);
    assert!(kinds(&told).contains(&"journal_lost"));
    // Nothing is called lost that is still there, and the newest word covers all that is not.
    for (raw, _) in &held {
        if let Ok((_, Body::JournalLost(lost))) = decode(raw) {
            assert!(lost.to_seq < first, "{lost:?}, held from {first} on");
        }
    }
    let (said, _) = pump.says_lost(1).unwrap();
    let Ok((_, Body::JournalLost(lost))) = decode(&said) else {
        panic!("{said:?}");
    };
    assert_eq!((lost.from_seq, lost.to_seq), (1, first - 1));
    assert_eq!(pump.says_lost(first), None);
    let before = pump.last_seq();
    let pump = start(pump.into_board().powered_again());
    assert_eq!(pump.last_seq(), before + 4);
    let pair = protocol::keys::KeyPair::from_seed([3; 32]);
    let mut check =
        protocol::chain::ChainCheck::new(common::MANIFEST, pair.public(), Some(&secret()));
    for (raw, tag) in events_of(&pump) {
        let mut finding = check.next(&raw, &tag);
        if matches!(finding, protocol::chain::Finding::Hole { .. }) {
            finding = check.next(&raw, &tag);
        }
        assert!(
            !matches!(finding, protocol::chain::Finding::Broken(_)),
            "{finding:?}"
        );
    }
    assert_eq!(check.proven_through, pump.last_seq());
}

#[test]
fn a_memory_that_does_not_answer_for_a_while_is_declared_and_delivery_goes_on() {
    let mut pump = start(formatted(8));
    begin(&mut pump, 0);
    run_to(&mut pump, 10 * MINUTE);
    let (last, moved) = (pump.last_seq(), pump.board().commands.len());
    pump.board_mut().failing = true;
    press(&mut pump, 11 * MINUTE, &[Key::Digit5, Key::Confirm]);
    let face = pump.face(11 * MINUTE + 400, true);
    assert!(!face.saved);
    assert_eq!(face.message_text().unwrap(), "Not saved. Tell the staff.");
    run_to(&mut pump, 14 * MINUTE);
    assert_eq!(pump.last_seq(), last);
    assert!(pump.board().commands.len() > moved);
    pump.board_mut().failing = false;
    run_to(&mut pump, 16 * MINUTE);
    let new = after(&pump, last);
    assert_eq!(kinds(&new)[0], "journal_lost");
    assert!(!pump.face(16 * MINUTE, true).saved);
}

#[test]
fn starts_that_are_cut_before_they_sign_do_not_pile_up() {
    // As many changed bytes as let some starts write their first event and none sign it.
    for fuse in (300..2_000).step_by(100) {
        let mut board = formatted(200);
        for _ in 0..120 {
            board = board.powered_again();
            board.fuse = Some(fuse);
            board = match Pump::start(board, &provision(), BootReason::BrownOut, 0) {
                Ok(pump) => pump.into_board(),
                Err(failed) => failed.board,
            };
        }
        let pump = start(board.powered_again());
        let mut unsigned = 0;
        for (_, body) in bodies(&pump) {
            unsigned += 1;
            if matches!(body, Body::Checkpoint(_)) {
                unsigned = 0;
            }
            assert!(
                unsigned < 30,
                "{unsigned} events that nothing signs, fuse {fuse}"
            );
        }
        check_chain(&events_of(&pump)).unwrap();
    }
}

#[test]
fn a_checkpoint_that_found_no_memory_comes_a_minute_later_and_not_an_hour() {
    let mut pump = start(formatted(8));
    run_to(&mut pump, 59 * MINUTE);
    let last = pump.last_seq();
    pump.board_mut().failing = true;
    run_to(&mut pump, 61 * MINUTE);
    pump.board_mut().failing = false;
    run_to(&mut pump, 64 * MINUTE);
    let new = after(&pump, last);
    assert!(kinds(&new).contains(&"checkpoint"), "{:?}", kinds(&new));
}

#[test]
fn a_memory_that_takes_writes_and_keeps_nothing_gets_no_tick_mark() {
    let mut pump = start(formatted(8));
    let last = pump.last_seq();
    pump.board_mut().forgetful = true;
    press(&mut pump, MINUTE, &[Key::Digit5, Key::Confirm]);
    assert!(!pump.face(MINUTE + 400, true).saved);
    assert_eq!(pump.last_seq(), last);
    let alarm = pump.face(MINUTE + 400, true).alarm_text();
    assert_eq!(alarm, Some("Memory fault"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn power_fails_again_and_again_also_while_starting(
        fuses in proptest::collection::vec(0u64..6_000, 1..12),
        sectors in 4u32..7,
    ) {
        let mut board = formatted(sectors);
        let mut promised: Vec<(Raw, Tag)> = Vec::new();
        for fuse in fuses {
            board = board.powered_again();
            board.fuse = Some(fuse);
            board = match Pump::start(board, &provision(), BootReason::BrownOut, 0) {
                Err(failed) => {
                    prop_assert!(failed.board.dead, "{}", failed.error);
                    failed.board
                }
                Ok(mut pump) => {
                    let mut at = 0;
                    while !pump.board().dead && at < 40 * MINUTE {
                        promised = events_of(&pump);
                        at += MINUTE;
                        if pump.infusing().is_none() {
                            let _ = pump.handle(at, firmware::pump::Input::Act(Act::Start {
                                purpose: protocol::event::Purpose::Therapy,
                                until: None,
                            }));
                        }
                        press(&mut pump, at, &[Key::Digit3, Key::Confirm, Key::Bolus]);
                    }
                    pump.into_board()
                }
            };
        }
        let pump = start(board.powered_again());
        let held = events_of(&pump);
        let first = held[0].0.head().unwrap().seq;
        for (raw, tag) in &promised {
            let seq = raw.head().unwrap().seq;
            if seq >= first {
                prop_assert_eq!(pump.event(seq), Some((raw.clone(), *tag)));
            }
        }
        let proven = if first == 1 { check_chain(&held).err() } else { None };
        prop_assert_eq!(proven, None);
        let seqs: Vec<u64> = held.iter().map(|(raw, _)| raw.head().unwrap().seq).collect();
        prop_assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1));
    }
}
