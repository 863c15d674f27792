//! What a nurse may rely on: a number is plain only while it is fresh, and only a fresh frame
//! makes it so.

mod common;

use common::{TRIAL_NOW, app, at, bed, live, state, text};
use protocol::keys::KeyPair;
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::{AlarmRow, LinkWord, State, Status};
use tui::fresh::Freshness;
use tui::{App, Event, Palette};

fn kept(state: State) -> Event {
    Event::State {
        state: Box::new(state),
        retained: true,
    }
}

fn fresh(app: &App, n: u32, ms: u64) -> Freshness {
    app.beds()[&bed(n)].freshness(at(ms))
}

fn says(app: &App, ms: u64, words: &str) -> bool {
    text(app, at(ms), 80, 24).contains(words)
}

/// Bed 1, pain 3, heard live at 1 s with a line that is 400 ms old.
fn one_bed() -> App {
    let mut app = app(Palette::Mono, false);
    app.update(at(1_000), live(state(1, TRIAL_NOW + 1_000)));
    app
}

#[test]
fn a_number_goes_from_plain_to_parentheses_to_nothing_as_it_ages() {
    let app = one_bed();
    assert!(says(&app, 1_000, "PAIN 3  base"), "live");
    assert!(
        says(&app, 10_600, "PAIN 3  base"),
        "late, 10 s old to the millisecond"
    );
    assert!(says(&app, 10_600, "~10s"));
    assert!(says(&app, 10_601, "PAIN (3)  base"), "stale");
    assert!(says(&app, 10_601, "RATE (0.5 mL/h)"));
    assert!(
        says(&app, 60_600, "PAIN (3)  base"),
        "60 s old to the millisecond"
    );
    assert!(says(&app, 60_601, "PAIN -- was 3 at 09:52"), "lost");
    assert!(says(&app, 60_601, "RATE --"));
    assert!(!says(&app, 60_601, "0.5 mL/h"));
}

#[test]
fn a_kept_payload_is_stale_at_best_until_a_live_one_comes() {
    let mut app = app(Palette::Mono, false);
    app.update(at(1_000), kept(state(1, TRIAL_NOW + 900)));
    assert!(matches!(fresh(&app, 1, 1_000), Freshness::Stale(_)));
    assert!(says(&app, 1_000, "PAIN (3)"));
    app.update(at(1_500), live(state(1, TRIAL_NOW + 1_500)));
    assert_eq!(fresh(&app, 1, 1_500), Freshness::Live(400));
}

#[test]
fn a_kept_payload_is_as_old_as_its_own_time_says() {
    let mut app = app(Palette::Mono, false);
    app.update(at(1_000), kept(state(1, TRIAL_NOW - 3_600_000)));
    assert_eq!(fresh(&app, 1, 1_000), Freshness::Lost(3_601_400));
}

#[test]
fn a_kept_payload_that_says_nothing_new_does_not_make_a_live_value_stale() {
    let mut app = one_bed();
    app.update(at(1_200), kept(state(1, TRIAL_NOW + 1_000)));
    assert_eq!(fresh(&app, 1, 1_200), Freshness::Live(600));
    app.update(at(1_300), kept(state(1, TRIAL_NOW + 1_250)));
    assert!(
        matches!(fresh(&app, 1, 1_300), Freshness::Stale(_)),
        "a newer one does"
    );
}

#[test]
fn a_gateway_that_lives_does_not_make_a_silent_pump_fresh() {
    let mut app = app(Palette::Mono, false);
    let silent = State {
        link: LinkWord::Lost,
        frame_age_ms: 45_000,
        ..state(1, TRIAL_NOW + 1_000)
    };
    app.update(at(1_000), live(silent));
    assert_eq!(fresh(&app, 1, 1_000), Freshness::Stale(45_000));
    assert!(says(&app, 1_000, "!! PUMP SILENT, values stale"));
}

#[test]
fn a_pump_that_was_never_heard_has_no_numbers_at_all() {
    let mut app = app(Palette::Mono, false);
    let never = State {
        link: LinkWord::NeverHeard,
        frame_age_ms: 200,
        ..state(1, TRIAL_NOW)
    };
    app.update(at(0), live(never));
    assert_eq!(fresh(&app, 1, 0), Freshness::NeverHeard);
    assert!(says(&app, 0, "PAIN ??"));
    assert!(!says(&app, 0, "0.5 mL/h"));
}

#[test]
fn neither_a_broker_nor_a_gateway_that_comes_back_makes_a_value_fresh() {
    let mut app = one_bed();
    let broker = |connected| Event::Broker {
        connected,
        detail: "connection refused".into(),
    };
    app.update(at(2_000), broker(false));
    assert!(says(&app, 9_000, "NO BROKER 0:07"));
    assert!(says(&app, 9_000, "!! NO BROKER: connection refused"));
    assert!(says(&app, 30_000, "PAIN (3)"));
    assert!(
        says(&app, 90_000, "!!! NO BROKER"),
        "a minute later no value is left"
    );
    app.update(at(90_000), broker(true));
    app.update(at(90_000), Event::Status(status("online")));
    assert!(says(&app, 90_000, "PAIN -- was 3"));
    app.update(at(90_500), live(state(1, TRIAL_NOW + 90_500)));
    assert!(says(&app, 90_500, "PAIN 3  base"));
}

fn status(word: &str) -> Status {
    Status {
        gw: "gw-01".into(),
        state: word.into(),
        session: 1,
        version: "thecal 0.1.0".into(),
        since_utc_ms: TRIAL_NOW,
    }
}

#[test]
fn one_cause_is_one_alarm() {
    let worst = |app: &App, ms| -> Vec<String> {
        let all = tui::alarm::all(app, at(ms));
        all.into_iter().map(|a| a.text).collect()
    };
    let mut app = one_bed();
    assert!(worst(&app, 5_000).is_empty());
    assert_eq!(worst(&app, 40_000), ["GATEWAY SILENT"]);
    app.update(at(40_000), Event::Status(status("offline")));
    assert_eq!(worst(&app, 41_000), ["GATEWAY OFFLINE"]);
    app.update(
        at(42_000),
        Event::Broker {
            connected: false,
            detail: "timed out".into(),
        },
    );
    assert_eq!(worst(&app, 50_000), ["NO BROKER: timed out"]);
}

#[test]
fn a_lost_line_that_the_gateway_reports_is_not_reported_twice() {
    let mut app = app(Palette::Mono, false);
    let silent = State {
        link: LinkWord::Lost,
        frame_age_ms: 45_000,
        ..state(1, TRIAL_NOW + 1_000)
    };
    app.update(at(1_000), live(silent));
    let mut row: AlarmRow = common::row(
        "link_lost",
        protocol::event::Priority::Medium,
        true,
        "LINE TO THE PUMP LOST",
        TRIAL_NOW,
    );
    app.update(
        at(1_000),
        Event::Alarms(common::alarms(1, TRIAL_NOW, vec![row.clone()])),
    );
    assert_eq!(tui::alarm::all(&app, at(1_000)).len(), 1);
    row.ended = true;
    app.update(
        at(1_100),
        Event::Alarms(common::alarms(1, TRIAL_NOW, vec![row])),
    );
    assert_eq!(
        tui::alarm::all(&app, at(1_100)).len(),
        2,
        "an ended one hides nothing"
    );
}

#[test]
fn after_the_machine_slept_everything_is_stale_until_a_live_payload_comes() {
    let mut app = one_bed();
    app.update(at(1_500), Event::Resumed);
    assert!(matches!(fresh(&app, 1, 1_500), Freshness::Stale(_)));
    app.update(at(2_000), live(state(1, TRIAL_NOW + 2_000)));
    assert_eq!(fresh(&app, 1, 2_000), Freshness::Live(400));
}

#[test]
fn what_an_untrusted_key_signed_is_counted_and_changes_nothing() {
    let mut app = one_bed();
    let stranger = KeyPair::from_seed([1; 32]);
    let mut lie = state(1, TRIAL_NOW + 2_000);
    lie.pain.as_mut().expect("it has one").value.score = 0;
    let tui::Incoming::Payload { topic, .. } = common::payload(&lie, false) else {
        unreachable!("payload makes payloads");
    };
    let event = tui::feed::open(
        tui::Incoming::Payload {
            topic,
            retained: false,
            text: stranger.sign_json(&lie).into_bytes(),
        },
        &|key| *key == common::key().public(),
    );
    app.update(at(2_000), event.expect("it is refused, not ignored"));
    assert!(says(&app, 2_000, "PAIN 3  base"));
    assert!(says(&app, 2_000, "1 refused"));
    assert!(says(
        &app,
        2_000,
        "!! 1 PAYLOADS REFUSED, latest: signed by"
    ));
    assert_eq!(fresh(&app, 1, 2_000), Freshness::Live(1_400));
}

#[test]
fn a_payload_under_the_topic_of_another_bed_is_refused() {
    let tui::Incoming::Payload { text, .. } = common::payload(&state(1, TRIAL_NOW), false) else {
        unreachable!("payload makes payloads");
    };
    let event = tui::feed::open(
        tui::Incoming::Payload {
            topic: protocol::topics::Topic::State {
                gw: "gw-02".into(),
                bed: "02".into(),
            },
            retained: false,
            text,
        },
        &|_| true,
    );
    assert!(matches!(event, Some(Event::Refused(_))), "{event:?}");
}

#[test]
fn ages_of_scores_run_in_trial_time_and_freshness_in_ours() {
    let mut app = app(Palette::Mono, false);
    let fast = State {
        speed: 3_600,
        simulated: true,
        ..state(1, TRIAL_NOW)
    };
    app.update(at(0), live(fast));
    let now = Now {
        uptime: Uptime::from_millis(1_000),
        utc: Timestamp::from_unix_millis(TRIAL_NOW),
    };
    let bed = &app.beds()[&bed(1)];
    assert_eq!(bed.trial_now_utc_ms(now), TRIAL_NOW + 3_600_000);
    assert_eq!(bed.freshness(now), Freshness::Live(1_400));
    let screen = text(&app, now, 80, 24);
    assert!(screen.contains("72m"), "12 minutes and an hour\n{screen}");
    assert!(screen.contains("SIMULATED, NOT A PATIENT"));
}

#[test]
fn a_closed_trial_may_be_silent() {
    let mut app = app(Palette::Mono, false);
    let closed = State {
        closed: true,
        ..state(1, TRIAL_NOW)
    };
    app.update(at(0), live(closed));
    assert_eq!(tui::alarm::all(&app, at(500_000)), []);
    assert!(
        says(&app, 500_000, "PAIN --"),
        "and still no number is plain"
    );
}
