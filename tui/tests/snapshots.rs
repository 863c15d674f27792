//! Screens as they are, one file each: text, and a grid with one letter for each meaning.
//! After a wanted change: `UPDATE_SNAPSHOTS=1 cargo test -p tui --test snapshots`, then read the
//! difference.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use common::at;
use protocol::event::Priority;
use protocol::time::Now;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Style};
use std::path::Path;
use tui::keymap::Key;
use tui::theme::Role;
use tui::{App, Event, Palette, Theme};

/// One letter a meaning; the letter travels as a colour.
fn letter(role: Role) -> char {
    match role {
        Role::Plain => '.',
        Role::Label => ',',
        Role::Title => 't',
        Role::Late => 'l',
        Role::Stale => 's',
        Role::Lost => 'x',
        Role::Unknown => '?',
        Role::Alarm(Priority::High) => 'H',
        Role::Alarm(Priority::Medium) => 'M',
        Role::Alarm(Priority::Low) => 'L',
        Role::AlarmFlash(Priority::High) => 'F',
        Role::AlarmFlash(Priority::Medium) => 'f',
        Role::AlarmFlash(Priority::Low) => 'w',
        Role::Acknowledged(Priority::High) => 'h',
        Role::Acknowledged(Priority::Medium) => 'm',
        Role::Acknowledged(Priority::Low) => 'i',
        Role::Selected => '>',
        Role::Simulated => 'S',
        Role::Score => 'n',
        Role::Hold => '_',
        Role::Reference => '-',
        Role::Gap => ':',
        Role::Flow => 'd',
        Role::Key => 'k',
    }
}

fn as_colour(role: Role) -> Style {
    let code = u8::try_from(u32::from(letter(role))).unwrap();
    Style::reset().fg(Color::Indexed(code))
}

fn role_of(cell: &Cell) -> char {
    let Color::Indexed(code) = cell.fg else {
        return ' ';
    };
    let letter = char::from(code);
    let shows = cell.symbol() != " " || letter.is_ascii_uppercase();
    if shows { letter } else { ' ' }
}

fn roles(buffer: &Buffer) -> String {
    let row = |cells: &[Cell]| {
        let row: String = cells.iter().map(role_of).collect();
        format!("{}\n", row.trim_end())
    };
    let width = usize::from(buffer.area.width);
    buffer.content.chunks(width).map(row).collect()
}

fn holds(name: &str, seen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, seen).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if wanted == seen {
        return;
    }
    let differs = seen.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    panic!("{name} differs first in line {differs:?}; it is now:\n{seen}");
}

fn screens(name: &str, beds: u32, keys: &[Key]) {
    let mut app = common::with_theme(Theme::with_styles(as_colour, false));
    let now = common::ward(&mut app, beds);
    for key in keys {
        app.update(now, Event::Key(*key));
    }
    for (width, height) in [(80, 24), (120, 40)] {
        let buffer = common::buffer(&app, now, width, height);
        holds(
            &format!("{name}_{width}x{height}.txt"),
            &common::lines(&buffer),
        );
        holds(
            &format!("{name}_{width}x{height}.roles.txt"),
            &roles(&buffer),
        );
    }
}

#[test]
fn a_ward_of_four_shows_large_tiles() {
    screens("ward_4", 4, &[]);
}

#[test]
fn a_ward_of_sixteen_shows_each_state_of_freshness_in_its_tile() {
    screens("ward_16", 16, &[]);
}

#[test]
fn a_ward_of_forty_is_shown_whole() {
    screens("ward_40", 40, &[]);
}

#[test]
fn a_bed_shows_pain_against_delivery_on_one_axis_with_its_gap() {
    screens("bed", 4, &[Key::Enter]);
}

#[test]
fn a_bed_that_is_lost_shows_no_number_and_no_line_into_the_silence() {
    screens(
        "bed_lost",
        7,
        &[
            Key::Char('5'),
            Key::Enter,
            Key::Char('+'),
            Key::Char('+'),
            Key::Char('+'),
            Key::Char('+'),
        ],
    );
}

#[test]
fn the_help_names_every_key_and_sign() {
    screens("help", 4, &[Key::Char('?')]);
}

#[test]
fn without_colour_every_state_still_reads_differently() {
    let mut app = common::app(Palette::Mono, true);
    let now: Now = common::ward(&mut app, 16);
    let seen = common::text(&app, now, 80, 24);
    assert!(seen.is_ascii());
    for words in ["~4s", "(31s)", "LOST", "PAIN ??", "*** RESP", "* RESERVOIR"] {
        assert!(seen.contains(words), "{words} is missing in\n{seen}");
    }
}

#[test]
fn an_unacknowledged_alarm_flashes_at_2_hz_and_its_text_never_goes() {
    let mut app = common::with_theme(Theme::with_styles(as_colour, false));
    let now = common::ward(&mut app, 4);
    assert!(app.flashes(now));
    let banner = |ms| {
        let buffer = common::buffer(&app, at(ms), 80, 24);
        let text = common::lines(&buffer).lines().nth(1).unwrap().to_owned();
        assert!(
            text.starts_with("*** 01  RESP RATE 7 /min (limit 8)"),
            "{text}"
        );
        roles(&buffer)
            .lines()
            .nth(1)
            .unwrap()
            .chars()
            .next()
            .unwrap()
    };
    let half_seconds: String = (0..4).map(|i| banner(70_000 + i * 250)).collect();
    assert_eq!(half_seconds, "HFHF");
}

#[test]
fn a_picture_for_documents_holds_the_same_words() {
    let mut app: App = common::app(Palette::Rgb, false);
    let now = common::ward(&mut app, 4);
    let svg = tui::export::svg::picture(&app, now, 120, 40);
    assert!(
        svg.starts_with("<svg ") && svg.contains("RESP\u{a0}RATE\u{a0}7"),
        "{svg}"
    );
    if let Some(path) = std::env::var_os("SVG_PICTURE") {
        std::fs::write(path, svg).unwrap();
    }
}
