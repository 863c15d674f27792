//! What keys do, in which order alarms stand, and what is said in sentences.

mod common;

use common::{TRIAL_NOW, at, bed, live, row, state};
use protocol::event::Priority;
use tui::app::{Screen, Zoom};
use tui::keymap::Key;
use tui::lines::Lines;
use tui::{App, Effect, Event, Exit, Palette};

fn press(app: &mut App, ms: u64, keys: &str) -> Vec<Effect> {
    let key = |c| match c {
        '\r' => Key::Enter,
        '\u{1b}' => Key::Esc,
        '>' => Key::Right,
        'v' => Key::Down,
        c => Key::Char(c),
    };
    let effects = keys.chars().map(|c| app.update(at(ms), Event::Key(key(c))));
    effects.flatten().collect()
}

fn chosen(app: &App) -> (Screen, String) {
    let bed = app.selected().map(|(key, _)| key.bed.clone());
    (app.screen, bed.unwrap_or_default())
}

/// 16 beds, of which 7 has an unacknowledged `***`.
fn ward() -> App {
    let mut app = common::app(Palette::Mono, false);
    common::ward(&mut app, 16);
    app
}

#[test]
fn digits_and_enter_open_that_bed_and_escape_leads_back() {
    let mut app = ward();
    press(&mut app, 70_000, "12\r");
    assert_eq!(chosen(&app), (Screen::Bed, "12".into()));
    press(&mut app, 70_000, "3\r");
    assert_eq!(chosen(&app), (Screen::Bed, "03".into()), "3 is bed 03");
    press(&mut app, 70_000, "99\r");
    assert_eq!(
        chosen(&app),
        (Screen::Bed, "03".into()),
        "there is no bed 99"
    );
    press(&mut app, 70_000, "?\u{1b}");
    assert_eq!(app.screen, Screen::Bed);
    press(&mut app, 70_000, "\u{1b}");
    assert_eq!(app.screen, Screen::Ward);
}

#[test]
fn arrows_follow_the_tiles_and_stop_at_the_ends() {
    let mut app = ward();
    app.update(at(70_000), Event::Resize(80, 24));
    press(&mut app, 70_000, ">v");
    assert_eq!(
        chosen(&app).1,
        "06",
        "one to the right, one row of four down"
    );
    press(&mut app, 70_000, "vvvvv>>");
    assert_eq!(chosen(&app).1, "16");
    press(&mut app, 70_000, "\r[[");
    assert_eq!(chosen(&app), (Screen::Bed, "14".into()));
    press(&mut app, 70_000, "++");
    assert_eq!(app.zoom(), Zoom::Hours(24));
    press(&mut app, 70_000, "---");
    assert_eq!(app.zoom(), Zoom::All);
}

#[test]
fn g_goes_to_the_bed_of_the_banner() {
    let mut app = ward();
    press(&mut app, 70_000, "g");
    assert_eq!(chosen(&app), (Screen::Bed, "07".into()));
}

#[test]
fn leaving_is_asked_about_while_three_stars_are_unacknowledged() {
    let mut app = ward();
    assert_eq!(press(&mut app, 70_000, "q"), []);
    assert!(app.asks_to_leave());
    assert_eq!(press(&mut app, 70_100, "q"), [], "the same finger");
    press(&mut app, 70_200, "\u{1b}");
    assert!(!app.asks_to_leave());
    assert_eq!(press(&mut app, 71_000, "q"), []);
    assert_eq!(press(&mut app, 71_400, "q"), [Effect::Leave(Exit::Quit)]);

    let mut quiet = common::app(Palette::Mono, false);
    quiet.update(at(0), live(state(1, TRIAL_NOW)));
    assert_eq!(press(&mut quiet, 100, "q"), [Effect::Leave(Exit::Quit)]);
    let interrupted = app.update(at(72_000), Event::Key(Key::Interrupt));
    assert_eq!(interrupted, [Effect::Leave(Exit::Interrupted)]);
}

#[test]
fn urgent_stands_before_less_urgent_patient_before_system_and_acknowledged_last() {
    let mut app = common::app(Palette::Mono, false);
    app.update(at(0), live(state(1, TRIAL_NOW)));
    let mut acknowledged = row("a", Priority::High, false, "seen", TRIAL_NOW - 9_000);
    acknowledged.acknowledged_by = Some("JM".into());
    let mut ended = row("b", Priority::High, false, "ended", TRIAL_NOW - 8_000);
    ended.ended = true;
    let rows = vec![
        acknowledged,
        row("c", Priority::Low, false, "low", TRIAL_NOW - 7_000),
        row("d", Priority::Medium, true, "technical", TRIAL_NOW - 6_000),
        row("e", Priority::Medium, false, "medium", TRIAL_NOW - 5_000),
        ended,
        row("f", Priority::High, false, "new", TRIAL_NOW - 1_000),
        row("g", Priority::High, false, "old", TRIAL_NOW - 2_000),
    ];
    app.update(at(0), Event::Alarms(common::alarms(1, TRIAL_NOW, rows)));
    let order: Vec<_> = tui::alarm::all(&app, at(0))
        .into_iter()
        .map(|a| a.text)
        .collect();
    let wanted = ["old", "new", "ended", "medium", "technical", "low", "seen"];
    assert_eq!(order, wanted);
    let banner = common::text(&app, at(0), 80, 24);
    assert!(
        banner.contains("*** 01  old  unacknowledged 0:02"),
        "{banner}"
    );
    assert!(banner.contains("+2 more ***"), "{banner}");
    assert!(banner.contains("*** 4  ** 1  !! 1  * 1"), "{banner}");
}

#[test]
fn a_change_is_said_once_and_an_old_number_never() {
    let mut app = common::app(Palette::Mono, false);
    let mut lines = Lines::default();
    let mut said = |app: &App, ms| -> String {
        let sentences = lines.sentences(app, at(ms));
        let texts: Vec<&str> = sentences.iter().map(|s| &s[13..]).collect();
        texts.join("\n")
    };
    assert_eq!(said(&app, 0), "connected to broker 127.0.0.1:1883");
    app.update(at(0), live(state(1, TRIAL_NOW)));
    assert_eq!(
        said(&app, 100),
        "bed 01: live 0s\nbed 01: pain 3, 12m ago\nbed 01: rate 0.5 mL/h\nbed 01: day 3"
    );
    assert_eq!(said(&app, 1_000), "");
    assert_eq!(
        said(&app, 11_000),
        "!! bed 01: GATEWAY SILENT: begins\nbed 01: STALE 11s"
    );
    let mut worse = state(1, TRIAL_NOW + 20_000);
    if let Some(pain) = &mut worse.pain {
        pain.value.score = 8;
        pain.at_utc_ms = TRIAL_NOW + 15_000;
    }
    assert_eq!(said(&app, 19_000), "");
    app.update(at(20_000), live(worse));
    assert_eq!(
        said(&app, 20_000),
        "!! bed 01: GATEWAY SILENT: over\nbed 01: live 0s\nbed 01: pain 8, was 3, 5s ago"
    );
    assert_eq!(app.selected().map(|(key, _)| key.clone()), Some(bed(1)));
}
