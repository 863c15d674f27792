//! What a patient meets at the pump: questions, keys, what the face says.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helper functions of a test stop it where they fail"
)]

mod common;

use common::{
    HOUR, MINUTE, act, after, formatted, infusing, kinds, press, provision, run_to, set_sensors,
    start, start_with,
};
use firmware::acts::Act;
use firmware::pump::Input;
use firmware::texts::Language;
use protocol::event::{AlarmCode, Body, Condition, Key, PainScore, Phase, PromptNotAnswered};

fn scores(bodies: &[Body]) -> Vec<PainScore> {
    let all = bodies.iter();
    all.filter_map(|body| match body {
        Body::PainScore(score) => Some(*score),
        _ => None,
    })
    .collect()
}

const CALLS_NOBODY: &str =
    "Saved. This does not call anyone. Press your call bell if you need help.";

#[test]
fn a_prompt_is_answered_with_its_number_and_delay() {
    // The clock says 06:00 at tick 0: the first prompt is at 07:00.
    let mut pump = infusing();
    run_to(&mut pump, HOUR - 1);
    assert_eq!(pump.face(HOUR - 1, true).question_text(), None);
    run_to(&mut pump, HOUR);
    let question = "How strong is your pain now, at rest? 0 to 10, then OK.";
    assert_eq!(pump.face(HOUR, true).question_text(), Some(question));
    let seq = pump.last_seq();
    press(&mut pump, HOUR + 20_000, &[Key::Digit4]);
    assert_eq!(pump.face(HOUR + 20_100, true).typed, Some(4));
    assert!(!pump.face(HOUR + 20_100, true).saved);
    press(&mut pump, HOUR + 21_000, &[Key::Confirm]);
    let face = pump.face(HOUR + 21_100, true);
    assert_eq!((face.saved, face.typed, face.asking), (true, None, None));
    assert_eq!(face.message_text().unwrap(), "Saved.");
    let wanted = PainScore {
        score: 4,
        confirmed: true,
        condition: Condition::Rest,
        prompt_id: Some(10_001),
        answer_delay_ms: Some(21_100),
        corrects_seq: None,
    };
    assert_eq!(scores(&after(&pump, seq)), [wanted]);
    assert!(!pump.face(HOUR + 60_000, true).saved);
}

#[test]
fn a_prompt_that_nobody_answers_is_asked_twice_and_then_told() {
    let mut pump = infusing();
    run_to(&mut pump, HOUR + 10 * MINUTE - 1);
    assert!(pump.face(HOUR + 10 * MINUTE - 1, true).asking.is_some());
    let seq = pump.last_seq();
    run_to(&mut pump, HOUR + 10 * MINUTE);
    let missed = PromptNotAnswered {
        prompt_id: 10_001,
        condition: Condition::Rest,
        prompted_at_tick_ms: HOUR,
    };
    assert!(after(&pump, seq).contains(&Body::PromptNotAnswered(missed)));
    assert_eq!(pump.face(HOUR + 10 * MINUTE, true).asking, None);
    run_to(&mut pump, 25 * HOUR - 1);
    let all = after(&pump, 0);
    let asked = kinds(&all)
        .iter()
        .filter(|k| **k == "prompt_not_answered")
        .count();
    assert_eq!(asked, 8 + 3);
}

#[test]
fn a_high_score_or_no_monitor_says_that_nobody_is_called() {
    let mut pump = infusing();
    press(&mut pump, MINUTE, &[Key::Digit1, Key::Digit0, Key::Confirm]);
    let said = |pump: &firmware::pump::Pump<_>, at, monitored| {
        pump.face(at, monitored).message_text().unwrap().to_string()
    };
    assert_eq!(said(&pump, MINUTE + 600, true), CALLS_NOBODY);
    press(&mut pump, 2 * MINUTE, &[Key::Digit2, Key::Confirm]);
    assert_eq!(said(&pump, 2 * MINUTE + 400, true), "Saved.");
    assert_eq!(said(&pump, 2 * MINUTE + 400, false), CALLS_NOBODY);
    let mut german = provision();
    german.language = Language::German;
    let mut pump = start_with(formatted(8), &german);
    press(&mut pump, MINUTE, &[Key::Digit7, Key::Confirm]);
    assert!(said(&pump, MINUTE + 400, true).ends_with("Hilfe brauchen."));
}

#[test]
fn a_correction_names_the_old_score_which_stays() {
    let mut pump = infusing();
    press(&mut pump, MINUTE, &[Key::Digit8, Key::Confirm]);
    let old = pump.last_seq();
    press(
        &mut pump,
        2 * MINUTE,
        &[Key::Clear, Key::Digit3, Key::Confirm],
    );
    let seen = scores(&after(&pump, 0));
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].score, seen[0].corrects_seq), (8, None));
    assert_eq!((seen[1].score, seen[1].corrects_seq), (3, Some(old)));
    // An hour later the clear key must be held.
    let seq = pump.last_seq();
    let clear = |pressed| Input::Key {
        key: Key::Clear,
        pressed,
    };
    run_to(&mut pump, HOUR + 20 * MINUTE);
    pump.handle(HOUR + 20 * MINUTE, clear(true)).unwrap();
    run_to(&mut pump, HOUR + 20 * MINUTE + 2_500);
    assert!(pump.face(HOUR + 20 * MINUTE + 2_500, true).correcting);
    pump.handle(HOUR + 20 * MINUTE + 2_500, clear(false))
        .unwrap();
    press(
        &mut pump,
        HOUR + 20 * MINUTE + 4_000,
        &[Key::Digit5, Key::Confirm],
    );
    assert_eq!(
        scores(&after(&pump, seq))[0].corrects_seq,
        Some(seen_seq(&pump, 3))
    );
}

fn seen_seq(pump: &firmware::pump::Pump<common::MemoryBoard>, score: u8) -> u64 {
    let all = common::bodies(pump).into_iter();
    let mut of = all.filter_map(|(head, body)| match body {
        Body::PainScore(s) if s.score == score => Some(head.seq),
        _ => None,
    });
    of.next().unwrap()
}

#[test]
fn typed_and_not_confirmed_is_stored_as_unconfirmed_five_seconds_later() {
    let mut pump = infusing();
    let seq = pump.last_seq();
    press(&mut pump, MINUTE, &[Key::Digit1, Key::Digit0]);
    run_to(&mut pump, MINUTE + 5_300);
    let seen = scores(&after(&pump, seq));
    assert_eq!((seen[0].score, seen[0].confirmed), (10, false));
    assert!(
        pump.face(MINUTE + 5_300, true)
            .message_text()
            .unwrap()
            .starts_with("Saved as not confirmed.")
    );
}

#[test]
fn eleven_to_ninety_nine_are_no_scores() {
    let mut pump = infusing();
    let seq = pump.last_seq();
    press(
        &mut pump,
        2 * MINUTE + 1,
        &[Key::Digit7, Key::Digit5, Key::Confirm],
    );
    assert_eq!(
        pump.face(2 * MINUTE + 1_000, true).message_text().unwrap(),
        "Enter 0 to 10, then OK."
    );
    run_to(&mut pump, 3 * MINUTE);
    assert!(scores(&after(&pump, seq)).is_empty());
}

#[test]
fn a_stuck_bolus_key_is_an_alarm_and_no_demand() {
    let mut pump = infusing();
    let seq = pump.last_seq();
    let bolus = |pressed| Input::Key {
        key: Key::Bolus,
        pressed,
    };
    pump.handle(1_000, bolus(true)).unwrap();
    run_to(&mut pump, 20_000);
    assert_eq!(pump.face(20_000, true).alarm_text(), Some("Key stuck"));
    // Other keys still count.
    press(&mut pump, 21_000, &[Key::Digit6, Key::Confirm]);
    let pump2 = start(pump.into_board().powered_again());
    let seen = after(&pump2, seq);
    let stuck: Vec<_> = seen
        .iter()
        .filter_map(|b| match b {
            Body::KeyStuck(k) => Some(("key", k.phase)),
            Body::Alarm(a) if a.code == AlarmCode::KeyStuck => Some(("alarm", a.phase)),
            _ => None,
        })
        .collect();
    // The start ends what it cannot know to go on.
    let wanted = [
        ("key", Phase::Start),
        ("alarm", Phase::Start),
        ("key", Phase::End),
        ("alarm", Phase::End),
    ];
    assert_eq!(stuck, wanted);
    assert!(!kinds(&seen).contains(&"bolus_requested"));
    assert_eq!(scores(&seen).len(), 1);
}

#[test]
fn a_movement_score_is_marked_and_leaves_a_prompt_at_rest_open() {
    let mut pump = infusing();
    run_to(&mut pump, HOUR);
    let seq = pump.last_seq();
    press(
        &mut pump,
        HOUR + 1_000,
        &[Key::Movement, Key::Digit6, Key::Confirm],
    );
    let moving = scores(&after(&pump, seq))[0];
    assert_eq!(
        (moving.condition, moving.prompt_id),
        (Condition::Movement, None)
    );
    assert_eq!(pump.face(HOUR + 2_000, true).asking, Some(Condition::Rest));
}

#[test]
fn setting_the_clock_moves_prompts_and_is_told() {
    let mut pump = start(formatted(16));
    act(
        &mut pump,
        1_000,
        Act::SetClock {
            utc_ms: common::SIX,
            offset_min: 120,
        },
    );
    // 08:00 local now; movement was due at 08:00 and is due again at 14:00, rest at 09:00.
    run_to(&mut pump, HOUR + 1_000);
    assert_eq!(pump.face(HOUR + 1_000, true).asking, Some(Condition::Rest));
    let mut pump = start(pump.into_board().powered_again());
    // The offset is kept: 08:00 again, by the board's clock.
    run_to(&mut pump, HOUR);
    assert_eq!(pump.face(HOUR, true).asking, Some(Condition::Rest));
}

#[test]
fn an_empty_battery_is_high_also_at_zero_percent() {
    let mut pump = infusing();
    set_sensors(&mut pump, MINUTE, |s| s.battery_percent = 0);
    assert_eq!(pump.face(MINUTE, true).alarm_text(), Some("Battery flat"));
    assert!(pump.infusing().is_some());
}

#[test]
fn the_tick_stands_beside_the_score_that_was_kept_and_beside_nothing_else() {
    let mut pump = infusing();
    press(&mut pump, MINUTE, &[Key::Digit4, Key::Confirm]);
    assert!(pump.face(MINUTE + 500, true).saved);
    let at = MINUTE + 5_000;
    press(&mut pump, at, &[Key::Digit4, Key::Digit2, Key::Confirm]);
    let face = pump.face(at + 600, true);
    assert_eq!(face.message_text().unwrap(), "Enter 0 to 10, then OK.");
    assert!(!face.saved);
    press(&mut pump, at + 5_000, &[Key::Digit0, Key::Confirm]);
    assert!(pump.face(at + 5_500, true).saved);
}
