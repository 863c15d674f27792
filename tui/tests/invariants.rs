//! Whatever comes in whatever order, on a screen of whatever size.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the numbers are small"
)]

mod common;

use common::{TRIAL_NOW, at, bed, row, state};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use protocol::event::Priority;
use protocol::topics::{LinkWord, State, Status, TrendStep};
use tui::keymap::Key;
use tui::{App, Event, Palette};

const BEDS: u32 = 5;

#[derive(Clone, Debug)]
enum Step {
    State(u32, bool, u64, u8, i64),
    Wild(u32, Vec<(i64, u64, u64, u8)>, i64, u64),
    Alarms(u32, Vec<(u8, bool, bool, bool)>),
    Status(u32, bool),
    Broker(bool),
    Key(Key),
    Behind(bool),
    Resumed,
    Refused,
    Notice,
    Wait(u64),
}

fn key() -> impl Strategy<Value = Key> {
    let chars = "0123456789ghjkl[]+-?qn ".chars().map(Key::Char);
    let others = [
        Key::Enter,
        Key::Esc,
        Key::Up,
        Key::Down,
        Key::Left,
        Key::Right,
    ];
    prop::sample::select(chars.chain(others).collect::<Vec<_>>())
}

fn step() -> impl Strategy<Value = Step> {
    let bed = 1..=BEDS;
    let wild = (any::<i64>(), any::<u64>(), any::<u64>(), any::<u8>());
    prop_oneof![
        4 => (bed.clone(), any::<bool>(), 0..90_000_u64, 0..3_u8, -90_000..1_000_i64)
            .prop_map(|(n, kept, age, link, sent)| Step::State(n, kept, age, link, sent)),
        1 => (bed.clone(), prop::collection::vec(wild, 0..4), any::<i64>(), any::<u64>())
            .prop_map(|(n, trend, at, much)| Step::Wild(n, trend, at, much)),
        2 => (bed.clone(), prop::collection::vec(any::<(u8, bool, bool, bool)>(), 0..4))
            .prop_map(|(n, rows)| Step::Alarms(n, rows)),
        1 => (bed, any::<bool>()).prop_map(|(n, on)| Step::Status(n, on)),
        1 => any::<bool>().prop_map(Step::Broker),
        4 => key().prop_map(Step::Key),
        1 => any::<bool>().prop_map(Step::Behind),
        1 => Just(Step::Resumed),
        1 => Just(Step::Refused),
        1 => Just(Step::Notice),
        4 => (0..30_000_u64).prop_map(Step::Wait),
    ]
}

/// Its rate is 0.7n7 mL/h and stands nowhere else.
fn rate(n: u32) -> String {
    format!("0.7{n}7")
}

fn event(step: Step, now_ms: u64) -> Option<Event> {
    let sent = TRIAL_NOW + i64::try_from(now_ms).unwrap();
    Some(match step {
        Step::State(n, retained, frame_age_ms, link, offset) => {
            let mut state = State {
                link: [LinkWord::Up, LinkWord::Lost, LinkWord::NeverHeard][usize::from(link)],
                frame_age_ms,
                trend: Vec::new(),
                ..state(n, sent + offset)
            };
            state.delivery.as_mut().unwrap().value.programmed_nl_per_h = 707_000 + n * 10_000;
            Event::State {
                state: Box::new(state),
                retained,
            }
        }
        Step::Wild(n, trend, at_utc_ms, much) => {
            let mut state = state(n, sent);
            state.sent_at_utc_ms = at_utc_ms;
            state.delivery = None;
            state.baseline_start_utc_ms = at_utc_ms.wrapping_mul(3);
            state.trial_start_utc_ms = Some(at_utc_ms.wrapping_mul(5));
            state.speed = u32::try_from(much % 100_000).unwrap();
            state.frame_age_ms = much;
            state.baseline_mean_centi = u32::try_from(much % 5_000_000_000).ok();
            state.zone = if much % 2 == 0 {
                "Mars/Olympus"
            } else {
                "Asia/Kathmandu"
            }
            .into();
            state.pain.as_mut().unwrap().value.score = u8::try_from(much % 256).unwrap();
            state.reservoir.as_mut().unwrap().value.computed_nl = much;
            state.bolus.locked_until_utc_ms = Some(at_utc_ms.wrapping_mul(7));
            state.holes = vec![(much, 0), (0, much)];
            let step = |(start_utc_ms, delivered, programmed, score)| TrendStep {
                start_utc_ms,
                delivered_nl: Some(delivered),
                programmed_nl: Some(programmed),
                score: Some(score),
                boluses: u16::MAX,
                ..TrendStep::default()
            };
            state.trend = trend.into_iter().map(step).collect();
            common::live(state)
        }
        Step::Alarms(n, rows) => {
            let priority =
                |p| [Priority::Low, Priority::Medium, Priority::High][usize::from(p % 3)];
            let rows = rows.into_iter().map(|(p, technical, ended, acknowledged)| {
                let mut row = row(
                    "x",
                    priority(p),
                    technical,
                    "OCCLUSION",
                    sent - i64::from(p) * 999,
                );
                row.ended = ended;
                row.acknowledged_by = acknowledged.then(|| "JM".into());
                row
            });
            Event::Alarms(common::alarms(n, sent, rows.collect()))
        }
        Step::Status(n, online) => Event::Status(Status {
            gw: format!("gw-{n:02}"),
            state: if online { "online" } else { "offline" }.into(),
            session: 1,
            version: String::new(),
            since_utc_ms: sent,
        }),
        Step::Broker(connected) => Event::Broker {
            connected,
            detail: "refused".into(),
        },
        Step::Key(key) => Event::Key(key),
        Step::Behind(behind) => Event::DisplayBehind(behind),
        Step::Resumed => Event::Resumed,
        Step::Refused => Event::Refused("payload is not signed".into()),
        Step::Notice => Event::Notice("trial finished; press q".into()),
        Step::Wait(_) => return None,
    })
}

fn check(app: &App, now_ms: u64, width: u16, height: u16) -> Result<(), TestCaseError> {
    let now = at(now_ms);
    let buffer = common::buffer(app, now, width, height);
    for cell in &buffer.content {
        prop_assert_eq!(cell.symbol().chars().count(), 1);
    }
    let screen = common::lines(&buffer);
    let alarms = tui::alarm::all(app, now);
    let worst = alarms.iter().find(|a| a.must_be_seen());
    if let Some(worst) = worst
        && width >= 20
        && height >= 3
    {
        let banner = format!("*** {}", worst.bed.as_ref().unwrap().bed);
        prop_assert!(screen.contains(&banner), "{banner} is not on\n{screen}");
    }
    if app.simulated() && width >= 20 && height >= 3 {
        prop_assert!(screen.contains("NOT A PATIENT"), "{screen}");
    }
    for n in 1..=BEDS {
        let plain = app
            .beds()
            .get(&bed(n))
            .is_some_and(|b| b.freshness(now).is_plain());
        let rate = rate(n);
        for (found, _) in screen.match_indices(&rate) {
            let wrapped = screen[..found].ends_with('(');
            prop_assert!(
                plain || wrapped,
                "bed {n} is not fresh and shows {rate}\n{screen}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 250,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_261_121),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_order_of_events_and_no_size_panics_hides_three_stars_or_shows_an_old_number_plain(
        steps in prop::collection::vec((step(), 1_u16..=200, 1_u16..=60), 1..40),
        simulated: bool,
        ascii: bool,
    ) {
        let mut app = common::app(Palette::Mono, ascii);
        let mut lines = tui::lines::Lines::default();
        let mut now_ms = 0;
        for (step, width, height) in steps {
            if let Step::Wait(ms) = step {
                now_ms += ms;
            }
            let mut event = event(step, now_ms);
            if let Some(Event::State { state, .. }) = &mut event {
                state.simulated = simulated;
            }
            app.update(at(now_ms), Event::Resize(width, height));
            if let Some(event) = event {
                app.update(at(now_ms), event);
            }
            check(&app, now_ms, width, height)?;
            for sentence in lines.sentences(&app, at(now_ms)) {
                prop_assert!(!sentence.chars().any(char::is_control));
            }
        }
    }
}
