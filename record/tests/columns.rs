//! Every field of every kind of event has its column, and the values come through.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic; that is how it fails"
)]

use protocol::bedside::{
    AlarmChanged, BootAnchored, ClockStepped, Fact, GatewayStarted, LinkChanged, Observation,
    Quarantined, Rescue, ScoreEntry, Stored,
};
use protocol::event::{
    Alarm, AlarmCode, Battery, Body, BolusDecision, BolusDelivered, BolusRequested, BootReason,
    ChangedBy, Checkpoint, ClockSet, CloseReason, Condition, Delivered, Door, Head,
    InfusionStarted, InfusionStopped, JournalLost, Key, KeyStuck, PainScore, Phase, PoweredOn,
    Priority, ProgramChanged, PromptNotAnswered, Purpose, RateChanged, Refusal, Reservoir,
    ReservoirChange, SelfTest, StopReason, TrialClosed,
};
use protocol::hex::Hex;
use protocol::message::Source;
use protocol::topics::EventRow;
use record::columns::{COLUMNS, Cell, Kind, cell, index_of, row_cells};
use std::collections::BTreeSet;

fn examples() -> Vec<Fact> {
    let pump: Vec<Body> = vec![
        PoweredOn {
            reason: BootReason::Watchdog,
            firmware: [1, 2, 3],
            own_clock_utc_ms: Some(5),
        }
        .into(),
        InfusionStarted {
            purpose: Purpose::Therapy,
            programmed_nl_per_h: 5,
        }
        .into(),
        InfusionStopped {
            reason: StopReason::Alarm,
        }
        .into(),
        RateChanged {
            previous_nl_per_h: 5,
            programmed_nl_per_h: 6,
            by: ChangedBy::Keypad,
        }
        .into(),
        Delivered {
            delivered_nl: 5,
            programmed_nl: 6,
            strokes: 7,
            encoder_counts: 8,
        }
        .into(),
        BolusRequested {
            decision: BolusDecision::Granted { requested_nl: 5 },
        }
        .into(),
        BolusRequested {
            decision: BolusDecision::Denied {
                reason: Refusal::Limit,
                wait_ms: Some(5),
            },
        }
        .into(),
        BolusDelivered {
            requested_nl: 5,
            delivered_nl: 4,
            complete: false,
        }
        .into(),
        PainScore {
            score: 5,
            confirmed: true,
            condition: Condition::Movement,
            prompt_id: Some(5),
            answer_delay_ms: Some(6),
            corrects_seq: Some(7),
        }
        .into(),
        PromptNotAnswered {
            prompt_id: 5,
            condition: Condition::Rest,
            prompted_at_tick_ms: 6,
        }
        .into(),
        Reservoir {
            what: ReservoirChange::Low,
            measured_nl: Some(5),
            computed_nl: 6,
        }
        .into(),
        Alarm {
            code: AlarmCode::AirInLine,
            priority: Priority::High,
            phase: Phase::Start,
        }
        .into(),
        Battery {
            percent: 5,
            minutes_left: 6,
        }
        .into(),
        KeyStuck {
            key: Key::Bolus,
            phase: Phase::End,
        }
        .into(),
        Door { open: true }.into(),
        ProgramChanged {
            revision: 5,
            programmed_nl_per_h: 6,
            concentration_mcg_per_ml: 7,
            bolus_nl: 8,
            lockout_ms: 9,
        }
        .into(),
        ClockSet {
            before_utc_ms: Some(5),
            after_utc_ms: 6,
            offset_min: -7,
        }
        .into(),
        SelfTest {
            passed: true,
            failed_parts: 5,
        }
        .into(),
        JournalLost {
            from_seq: 5,
            to_seq: 6,
        }
        .into(),
        Checkpoint {
            through_seq: 5,
            count: 6,
            key_index: 7,
            head: Hex([8; 32]),
            signature: Hex([9; 64]),
        }
        .into(),
        TrialClosed {
            reason: CloseReason::Safety,
        }
        .into(),
    ];
    let text = |text: &str| text.to_owned();
    let bedside: Vec<Fact> = vec![
        GatewayStarted {
            software: text("a"),
            bed: text("b"),
            trial: text("c"),
            pump: text("d"),
        }
        .into(),
        LinkChanged {
            pump: text("a"),
            up: false,
            silent_ms: 5,
        }
        .into(),
        ClockStepped { by_ms: -5 }.into(),
        Observation {
            what: text("spo2"),
            value_milli: -5,
            at_utc_ms: 6,
            by: text("a"),
            role: text("b"),
            entry_id: text("c"),
        }
        .into(),
        Rescue {
            drug: text("a"),
            dose_mcg: 5,
            route: text("b"),
            reason: text("c"),
            scheduled: true,
            at_utc_ms: 6,
            by: text("d"),
            role: text("e"),
            entry_id: text("f"),
        }
        .into(),
        AlarmChanged {
            alarm: text("a"),
            priority: Priority::Low,
            change: text("b"),
            text: text("c"),
        }
        .into(),
        Stored {
            source: text("a"),
            from_seq: 5,
            to_seq: 6,
            digest: Hex([7; 32]),
        }
        .into(),
        ScoreEntry {
            score: Some(5),
            asleep: true,
            condition: Condition::Rest,
            scored_by: text("a"),
            prompted: true,
            at_utc_ms: 6,
            by: text("b"),
            entry_id: text("c"),
        }
        .into(),
        Quarantined {
            source: text("a"),
            seq: 5,
            reason: text("b"),
        }
        .into(),
        BootAnchored {
            source: text("a"),
            boot: 5,
            at_utc_ms: 6,
            uncertainty_ms: 7,
        }
        .into(),
    ];
    pump.into_iter().map(Fact::Pump).chain(bedside).collect()
}

fn row_of(fact: &Fact) -> EventRow {
    let head = Head {
        boot: 2,
        seq: 3,
        tick_ms: 4,
    };
    let source = Source::new("EP-0193").unwrap();
    EventRow::new(
        source,
        &fact.encode(head).unwrap(),
        Hex([0; 16]),
        5,
        None,
        6,
    )
    .unwrap()
}

#[test]
fn every_leaf_of_every_body_has_a_column_of_its_own_with_its_value() {
    let known: BTreeSet<&str> = protocol::event::KINDS
        .iter()
        .chain(protocol::bedside::KINDS)
        .map(|(_, kind)| *kind)
        .collect();
    let mut tried = BTreeSet::new();
    for fact in examples() {
        let row = row_of(&fact);
        let common = COLUMNS.iter().filter(|c| c.fields.is_empty()).count();
        let held: Vec<_> = COLUMNS
            .iter()
            .filter(|column| column.fields.iter().any(|(kind, _)| *kind == row.kind))
            .map(|column| (column, cell(&row, column)))
            .filter(|(_, cell)| *cell != Cell::Null)
            .collect();
        let mut leaves = leaves(&row.body);
        if row.kind == "bolus_requested" {
            // Granted or denied is itself a value.
            leaves += 1;
        }
        assert_eq!(held.len(), leaves, "{}: {held:?}", row.body);
        let nulls = row_cells(&row).iter().filter(|c| **c == Cell::Null).count();
        assert_eq!(COLUMNS.len() - nulls, leaves + common - 1, "{}", row.kind);
        tried.insert(fact.kind());
    }
    assert_eq!(tried, known);
}

fn leaves(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(members) => members.values().map(leaves).sum(),
        _ => 1,
    }
}

#[test]
fn columns_have_unique_names_known_kinds_and_a_meaning() {
    let mut names = BTreeSet::new();
    for column in COLUMNS {
        assert!(names.insert(column.name), "{} twice", column.name);
        assert!(!column.meaning.is_empty(), "{}", column.name);
        assert_eq!(COLUMNS[index_of(column.name).unwrap()], *column);
        for (kind, place) in column.fields {
            let known = examples().iter().any(|fact| fact.kind() == *kind);
            assert!(known || *kind == "unknown", "{kind}");
            assert!(place.starts_with('/'), "{place}");
        }
    }
}

#[test]
fn values_that_matter_are_flat_and_typed() {
    let rows: Vec<EventRow> = examples().iter().map(row_of).collect();
    let value = |kind: &str, column: &str| {
        let row = rows.iter().find(|row| row.kind == kind).unwrap();
        cell(row, &COLUMNS[index_of(column).unwrap()])
    };
    assert_eq!(value("powered_on", "firmware"), Cell::Text("1.2.3".into()));
    assert_eq!(value("bolus_requested", "granted"), Cell::Bool(true));
    assert_eq!(value("bolus_requested", "bolus_requested_nl"), Cell::Int(5));
    assert_eq!(value("bolus_requested", "delivered_nl"), Cell::Null);
    assert_eq!(value("bolus_delivered", "delivered_nl"), Cell::Null);
    assert_eq!(value("bolus_delivered", "bolus_delivered_nl"), Cell::Int(4));
    assert_eq!(value("rescue", "author_at_utc_ms"), Cell::Int(6));
    assert_eq!(value("rescue", "at_utc_ms"), Cell::Int(5));
    assert_eq!(value("clock_set", "offset_min"), Cell::Int(-7));
    assert_eq!(value("door", "seq"), Cell::Int(3));
    assert_eq!(value("door", "at_uncertainty_ms"), Cell::Null);
    let denied = row_of(&examples()[6]);
    let granted = &COLUMNS[index_of("granted").unwrap()];
    assert_eq!(cell(&denied, granted), Cell::Bool(false));
    assert_eq!(granted.kind, Kind::Bool);
}

/// `docs/dataset.md` lists the columns: this writes the list, and fails where it is not there.
#[test]
fn the_page_on_the_dataset_lists_every_column() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/dataset.md");
    let page = std::fs::read_to_string(page).unwrap();
    for column in COLUMNS {
        let kind = match column.kind {
            Kind::Int => "integer",
            Kind::Bool => "true/false",
            Kind::Text => "text",
        };
        let line = format!("| `{}` | {kind} | {} |", column.name, column.meaning);
        assert!(page.contains(&line), "docs/dataset.md has no line\n{line}");
    }
}
