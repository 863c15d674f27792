//! `docs/record.md` and `docs/protocol.md` name every kind, field, word, observation and number
//! that there is, and no field that there is not.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod examples;

use examples::{HEAD, facts};
use protocol::bedside::OBSERVATIONS;
use protocol::event::{
    AlarmCode, BootReason, ChangedBy, CloseReason, Condition, Key, Phase, Priority, Purpose,
    Refusal, ReservoirChange, StopReason,
};
use protocol::{frame, link, manifest, message};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const RECORD: &str = include_str!("../../docs/record.md");
const PROTOCOL: &str = include_str!("../../docs/protocol.md");

/// Cells of each row of a table, without the marks of code.
fn rows(text: &'static str) -> impl Iterator<Item = Vec<String>> {
    text.lines().filter(|l| l.starts_with('|')).map(|line| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    })
}

fn kinds() -> impl Iterator<Item = &'static (u8, &'static str)> {
    protocol::event::KINDS
        .iter()
        .chain(protocol::bedside::KINDS)
}

/// Paths of the fields of a body, down to its leaves and with the objects between.
fn fields(value: &Value, at: &str, out: &mut BTreeSet<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{at}{name}");
        fields(value, &format!("{path}."), out);
        out.insert(path);
    }
}

/// Fields of each kind as our programs write them.
fn written() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut out: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (_, fact) in facts() {
        fields(&fact.to_json(), "", out.entry(fact.kind()).or_default());
    }
    // The object around the fields of a decision is described with them.
    let decision = out.get_mut("bolus_requested").unwrap();
    assert!(decision.remove("decision.granted") && decision.remove("decision.denied"));
    out
}

#[test]
fn the_record_page_has_each_kind_with_its_number_and_exactly_its_fields() {
    let written = written();
    for (number, kind) in kinds() {
        let of_kind: Vec<_> = rows(RECORD)
            .filter(|r| r.len() == 4 && r[0] == *kind)
            .collect();
        let (heads, bodies): (Vec<_>, Vec<_>) = of_kind.into_iter().partition(|r| r[1].is_empty());
        assert_eq!(heads.len(), 1, "{kind} has one line that says what it is");
        assert_eq!(heads[0][2], format!("{number:#04x}"), "{kind}");
        let described: BTreeSet<_> = bodies.iter().map(|r| r[1].clone()).collect();
        assert_eq!(described, written[kind], "fields of {kind}");
        assert_eq!(bodies.len(), described.len(), "{kind} has a field twice");
        for row in &bodies {
            assert!(row[2].len() > 2 && row[3].len() > 4, "{kind} {row:?}");
        }
    }
}

#[test]
fn a_field_that_ends_in_a_unit_names_it_in_words() {
    let units = [
        ("_nl", "nanoliters"),
        ("_nl_per_h", "nanoliters an hour"),
        ("_mcg", "icrograms"),
        ("_mcg_per_ml", "icrograms a milliliter"),
        ("_ms", "milliseconds"),
        ("percent", "percent"),
    ];
    for row in rows(RECORD).filter(|r| r.len() == 4) {
        for (ending, unit) in units {
            if row[1].ends_with(ending) {
                assert!(row[3].contains(unit), "{row:?} does not say {unit}");
            }
        }
    }
}

#[test]
fn the_protocol_page_has_each_kind_with_its_fields_in_the_order_of_the_wire() {
    for (number, kind) in kinds() {
        let row: Vec<_> = rows(PROTOCOL)
            .filter(|r| r.len() == 3 && r[1] == *kind)
            .collect();
        assert_eq!(row.len(), 1, "{kind}");
        assert_eq!(row[0][0], format!("{number:#04x}"), "{kind}");
        let (_, fact) = facts()
            .into_iter()
            .find(|(_, f)| f.kind() == *kind)
            .unwrap();
        // The text of a struct shows its fields in the order in which they are declared.
        let shown = format!("{fact:?}");
        let named: Vec<_> = row[0][2]
            .split('`')
            .filter(|part| !part.is_empty())
            .collect();
        let fields: Vec<_> = named.iter().step_by(2).copied().collect();
        let json = fact.to_json();
        assert_eq!(fields.len(), json.as_object().unwrap().len(), "{kind}");
        let places: Vec<_> = fields
            .iter()
            .map(|f| shown.find(&format!(" {f}: ")))
            .collect();
        assert!(places.iter().all(Option::is_some), "{kind}: {fields:?}");
        assert!(places.is_sorted(), "{kind}: {fields:?}");
    }
}

#[test]
fn an_event_has_as_many_bytes_as_the_record_page_says() {
    assert!(RECORD.contains("as the source wrote them, 6 to 195"));
    assert_eq!(protocol::event::RAW_MAX, 195);
    for (name, fact) in facts() {
        let len = fact.encode(HEAD).unwrap().as_bytes().len();
        assert!((6..=195).contains(&len), "{name}: {len}");
    }
}

#[test]
fn every_word_stands_in_both_pages_and_at_its_place_in_the_one_of_the_line() {
    macro_rules! lists {
        ($($name:ident),* $(,)?) => {$(
            let words: Vec<_> = $name::ALL.iter().map(|w| w.word()).collect();
            for word in &words {
                assert!(RECORD.contains(&format!("`{word}`")), "{word}");
            }
            let numbered: Vec<_> =
                words.iter().enumerate().map(|(place, w)| format!("{place} `{w}`")).collect();
            let line = format!("| {} | {} |", stringify!($name), numbered.join(", "));
            assert!(PROTOCOL.contains(&line), "{line}");
        )*};
    }
    lists!(
        AlarmCode,
        BootReason,
        ChangedBy,
        CloseReason,
        Condition,
        Key,
        Phase,
        Priority,
        Purpose,
        Refusal,
        ReservoirChange,
        StopReason,
    );
}

#[test]
fn every_observation_stands_in_the_record_page_with_unit_and_range() {
    for (word, unit, least, most) in OBSERVATIONS {
        let row = format!("| `{word}` | {unit} | {least} | {most} |");
        assert!(RECORD.contains(&row), "{row}");
    }
    assert!(RECORD.contains("| `ashworth_<limb>` | modified Ashworth 0 to 4"));
    let listed = RECORD.split("## Observation words").nth(1).unwrap();
    let listed = listed.split("## The proof").next().unwrap();
    assert_eq!(
        listed.matches("\n| `").count(),
        OBSERVATIONS.len() + 1,
        "no word that there is not"
    );
}

#[test]
fn the_numbers_of_the_line_are_those_of_the_code() {
    let with_commas = |n: u64| {
        let text = n.to_string();
        match text.len().checked_sub(3).filter(|at| *at > 0) {
            Some(at) => format!("{},{}", &text[..at], &text[at..]),
            None => text,
        }
    };
    let length = |n: usize| with_commas(u64::try_from(n).unwrap());
    let ms = with_commas;
    let wanted = [
        format!("| heartbeat | {} ms |", ms(link::HEARTBEAT_MS)),
        format!(
            "| line lost at the gateway | {} ms of",
            ms(link::LOST_AFTER_MS)
        ),
        format!("| window | {} events |", link::WINDOW),
        format!(
            "| resend | {} ms, doubling to {} ms |",
            ms(link::RESEND_MIN_MS),
            ms(link::RESEND_MAX_MS)
        ),
        format!("| resume, at most every | {} ms |", link::RESUME_EVERY_MS),
        format!("| time request | {} ms |", ms(link::TIME_EVERY_MS)),
        format!("| body, most | {} bytes |", protocol::event::BODY_MAX),
        format!("| manifest part, most | {} bytes |", message::PART_MAX),
        format!(
            "| manifest's text, most | {} bytes |",
            length(manifest::MANIFEST_MAX)
        ),
        format!("at most {} bytes: one\n  COBS block", frame::PLAIN_MAX),
    ];
    for line in wanted {
        assert!(PROTOCOL.contains(&line), "{line}");
    }
    // The room for a frame leaves one byte more than the longest has.
    assert!(PROTOCOL.contains(&format!("at most {}.", frame::PLAIN_MAX + 2)));
    let numbers = [
        (message::numbers::HELLO, "hello"),
        (message::numbers::HEARTBEAT, "heartbeat"),
        (message::numbers::TIME_REPLY, "time reply"),
        (message::numbers::MANIFEST_PART, "manifest part"),
        (message::numbers::ACK, "ack"),
        (message::numbers::RESUME, "resume"),
        (message::numbers::TIME_REQUEST, "time request"),
    ];
    for (number, name) in numbers {
        let row = format!("| {number:#04x} | {name} |");
        assert!(PROTOCOL.contains(&row), "{row}");
    }
    let message = protocol::chain::CHECKPOINT_MESSAGE_LEN;
    assert!(RECORD.contains(&format!("over these {message} bytes")));
}
