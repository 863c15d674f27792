//! Text from outside cannot move the cursor, change a colour or widen a cell.
#![expect(clippy::expect_used, reason = "a test that fails says where")]

mod common;

use common::{TRIAL_NOW, app, at, live, state};
use protocol::event::Priority;
use protocol::topics::{At, State, Status};
use tui::keymap::Key;
use tui::term::frame_bytes;
use tui::{App, Event, Palette};

const BAD: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{1f6a8}\u{200d}\u{fe0f}日e\u{301}\r\n\t\u{85}x";

/// Everything that is text in a payload is as bad as can be.
fn attacked() -> App {
    let mut app = app(Palette::Ansi16, false);
    let bad = State {
        gw: BAD.into(),
        bed: BAD.into(),
        trial: BAD.into(),
        pump: Some(BAD.into()),
        zone: BAD.into(),
        drug: BAD.into(),
        route: BAD.into(),
        observations: vec![(
            BAD.into(),
            At {
                at_utc_ms: TRIAL_NOW,
                value: 1,
            },
        )],
        ..state(1, TRIAL_NOW)
    };
    app.update(at(0), live(bad));
    let mut row = common::row(BAD, Priority::High, false, BAD, TRIAL_NOW);
    row.acknowledged_by = Some(BAD.into());
    let mut unseen = row.clone();
    unseen.acknowledged_by = None;
    let mut alarms = common::alarms(1, TRIAL_NOW, vec![row, unseen]);
    (alarms.gw, alarms.bed) = (BAD.into(), BAD.into());
    app.update(at(0), Event::Alarms(alarms));
    app.update(
        at(0),
        Event::Status(Status {
            gw: BAD.into(),
            state: BAD.into(),
            session: 0,
            version: BAD.into(),
            since_utc_ms: 0,
        }),
    );
    app.update(
        at(0),
        Event::Broker {
            connected: false,
            detail: BAD.into(),
        },
    );
    app.update(at(0), Event::Notice(BAD.into()));
    app.update(at(0), Event::Refused(BAD.into()));
    app
}

/// Splits bytes into our own sequences and the rest.
fn foreign(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).expect("cells hold text");
    let mut rest = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            rest.push(c);
            continue;
        }
        assert_eq!(chars.next(), Some('['), "only CSI is ours");
        let body: String = std::iter::from_fn(|| {
            chars.next_if(|c| c.is_ascii_digit() || matches!(c, ';' | '?' | ':'))
        })
        .collect();
        let end = chars.next().expect("a sequence has an end");
        let ours = match end {
            // Cursor to a place; colours and looks; a synchronized update; clear, once a screen.
            'H' | 'm' => true,
            'h' | 'l' => body == "?2026",
            'J' => body == "2",
            _ => false,
        };
        assert!(ours, "ESC[{body}{end} is not ours");
    }
    rest
}

#[test]
fn no_text_from_a_payload_reaches_the_terminal_as_anything_but_plain_cells() {
    let mut app = attacked();
    let mut clears = 0;
    for key in [None, Some(Key::Enter), Some(Key::Char('?'))] {
        if let Some(key) = key {
            app.update(at(100), Event::Key(key));
        }
        for (width, height) in [(80, 24), (120, 40), (45, 10), (20, 3)] {
            let buffer = common::buffer(&app, at(3_000), width, height);
            for cell in &buffer.content {
                let mut symbol = cell.symbol().chars();
                let c = symbol.next().unwrap();
                assert_eq!(symbol.next(), None);
                assert!(!c.is_control() && c != '\u{202e}', "{c:?}");
            }
            let bytes = frame_bytes(None, &buffer).unwrap();
            clears += bytes.windows(4).filter(|w| w == b"\x1b[2J").count();
            let text = foreign(&bytes);
            assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
            assert!(!text.contains(['\u{202e}', '\u{1f6a8}', '日', '\u{301}']));
        }
    }
    assert_eq!(
        clears, 12,
        "the only clear is the one that begins each picture"
    );
}

#[test]
fn no_text_from_a_payload_reaches_a_line_as_more_than_that_line() {
    let app = attacked();
    let sentences = tui::lines::Lines::default().sentences(&app, at(3_000));
    assert!(sentences.len() > 3, "{sentences:?}");
    for sentence in sentences {
        let bad = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{1f6a8}' | '日');
        assert!(!sentence.contains(bad), "{sentence:?}");
    }
}

#[test]
fn no_character_that_may_not_be_shown_reaches_the_terminal() {
    let all = (0..=0x0010_ffff_u32).filter_map(char::from_u32);
    let hidden: Vec<char> = all.filter(|c| !protocol::text::shows(*c)).collect();
    assert!(
        hidden.len() > 100,
        "C0, C1, bidirectional and zero-width ones"
    );
    // Each of them in the texts of a state and of an alarm, some at a time.
    for some in hidden.chunks(40) {
        let text: String = some.iter().flat_map(|c| ['x', *c]).collect();
        let mut app = app(Palette::Ansi16, false);
        let bad = State {
            drug: text.clone(),
            trial: text.clone(),
            route: text.clone(),
            ..state(1, TRIAL_NOW)
        };
        app.update(at(0), live(bad));
        let row = common::row("occlusion", Priority::High, false, &text, TRIAL_NOW);
        app.update(
            at(0),
            Event::Alarms(common::alarms(1, TRIAL_NOW, vec![row])),
        );
        let buffer = common::buffer(&app, at(3_000), 80, 24);
        let shown = foreign(&frame_bytes(None, &buffer).unwrap());
        let seen: Vec<char> = shown.chars().filter(|c| some.contains(c)).collect();
        assert_eq!(seen, [], "{some:?}");
    }
}
