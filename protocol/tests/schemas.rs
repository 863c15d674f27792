//! The published schemas accept each payload as our programs make and sign it, and refuse one with
//! a member missing or a member that they do not name. `docs/asyncapi.yaml` names every topic.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod examples;

use examples::{HEAD, facts};
use jsonschema::Validator;
use protocol::bedside::Fact;
use protocol::event::{Condition, Priority, encode};
use protocol::hex::Hex;
use protocol::keys::{KeyPair, open_json};
use protocol::manifest::SignedManifest;
use protocol::message::Source;
use protocol::topics::{
    AlarmRow, Alarms, At, BolusNow, CommandReply, DashAlive, DeliveryNow, Entry, EntryCommand,
    EvBatch, EventRow, LinkWord, Receipt, ReservoirNow, ScoreNow, SourceReceipt, State, Status,
    Topics, TrendStep,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;

const SCHEMAS: &[(&str, &str)] = &[
    (
        "status",
        include_str!("../../docs/schemas/status.schema.json"),
    ),
    ("ev", include_str!("../../docs/schemas/ev.schema.json")),
    (
        "state",
        include_str!("../../docs/schemas/state.schema.json"),
    ),
    (
        "alarms",
        include_str!("../../docs/schemas/alarms.schema.json"),
    ),
    (
        "receipt",
        include_str!("../../docs/schemas/receipt.schema.json"),
    ),
    (
        "cmd-entry",
        include_str!("../../docs/schemas/cmd-entry.schema.json"),
    ),
    (
        "cmd-reply",
        include_str!("../../docs/schemas/cmd-reply.schema.json"),
    ),
    (
        "dash-alive",
        include_str!("../../docs/schemas/dash-alive.schema.json"),
    ),
];
const ASYNCAPI: &str = include_str!("../../docs/asyncapi.yaml");

fn schema(name: &str) -> Value {
    let (_, text) = SCHEMAS.iter().find(|(n, _)| *n == name).unwrap();
    serde_json::from_str(text).unwrap()
}

fn validator(name: &str) -> Validator {
    let schema = schema(name);
    jsonschema::meta::validate(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|e| panic!("{name}: {e}"))
}

const T: i64 = 1_767_225_600_000;

fn pair() -> KeyPair {
    KeyPair::from_seed([8; 32])
}

fn row(fact: &Fact) -> EventRow {
    let raw = fact.encode(HEAD).unwrap();
    let source = Source::new("EP-0193").unwrap();
    EventRow::new(source, &raw, Hex([3; 16]), T, Some(12), T + 40).unwrap()
}

fn ev(events: Vec<EventRow>) -> EvBatch {
    let text = "{\"schema\":\"thecal.manifest/1\"}".to_owned();
    EvBatch {
        trial: "T-0042".into(),
        bed: "07".into(),
        gw: "gw-07".into(),
        manifest: Some(SignedManifest {
            text,
            key: pair().public(),
            sig: pair().sign(b"m"),
        }),
        gateway_key: pair().public(),
        after_seq: Some(0),
        events,
    }
}

fn status() -> Status {
    Status {
        gw: "gw-07".into(),
        state: "offline".into(),
        session: 3,
        version: "thecal 0.1.0".into(),
        since_utc_ms: T,
    }
}

fn receipt(head: bool) -> Receipt {
    Receipt {
        recorder: "ward".into(),
        gw: "gw-07".into(),
        made_at_utc_ms: T,
        sources: vec![SourceReceipt {
            trial: "T-0042".into(),
            source: "EP-0193".into(),
            stored_through_seq: 18_274,
            holes: vec![(5, 9), (12, 12)],
            head: head.then_some(Hex([4; 32])),
        }],
    }
}

fn at<U>(value: U) -> At<U> {
    At {
        at_utc_ms: T,
        value,
    }
}

/// With everything known, or with nothing but what is always known.
fn state(known: bool) -> State {
    let score = ScoreNow {
        score: 4,
        confirmed: true,
        condition: Condition::Movement,
    };
    State {
        gw: "gw-07".into(),
        bed: "07".into(),
        trial: "T-0042".into(),
        pump: known.then(|| "EP-0193".into()),
        simulated: true,
        speed: 1_000,
        sent_at_utc_ms: T,
        link: if known {
            LinkWord::Up
        } else {
            LinkWord::NeverHeard
        },
        frame_age_ms: 300,
        zone: "Europe/Berlin".into(),
        drug: "morphine".into(),
        concentration_mcg_per_ml: 500,
        route: "intrathecal".into(),
        baseline_start_utc_ms: T,
        trial_start_utc_ms: known.then_some(T),
        closed: false,
        baseline_mean_centi: known.then_some(712),
        pain: known.then(|| at(score)),
        pain_movement: known.then(|| at(score)),
        delivery: known.then(|| {
            at(DeliveryNow {
                infusing: true,
                programmed_nl_per_h: 417_000,
                delivered_nl: 40_031_950,
                programmed_nl: 40_032_000,
            })
        }),
        bolus: BolusNow {
            requested: 4,
            granted: 3,
            locked_until_utc_ms: known.then_some(T),
        },
        reservoir: known.then(|| {
            at(ReservoirNow {
                computed_nl: 59_968_050,
                measured_nl: Some(59_900_000),
            })
        }),
        battery_percent: known.then(|| at(0)),
        rescues: 2,
        observations: if known {
            vec![("resp_rate".into(), at(14_000))]
        } else {
            vec![]
        },
        stored_through_seq: 18_274,
        announced_seq: 18_275,
        recorded_through_seq: 18_200,
        holes: if known { vec![(5, 9)] } else { vec![] },
        trend: vec![TrendStep {
            start_utc_ms: T,
            score: known.then_some(5),
            score_movement: known.then_some(7),
            delivered_nl: known.then_some(69_500),
            programmed_nl: known.then_some(69_500),
            ..TrendStep::default()
        }],
    }
}

fn alarms(acknowledged: bool) -> Alarms {
    Alarms {
        gw: "gw-07".into(),
        bed: "07".into(),
        sent_at_utc_ms: T,
        alarms: vec![AlarmRow {
            alarm: "link_lost".into(),
            technical: true,
            priority: Priority::Medium,
            text: "No word from the pump for 5 s".into(),
            since_utc_ms: T,
            ended: false,
            acknowledged_by: acknowledged.then(|| "n.okafor".into()),
        }],
    }
}

fn entry(entry: Entry) -> EntryCommand {
    EntryCommand {
        entry_id: "e-000001".into(),
        bed: "07".into(),
        trial: "T-0042".into(),
        by: "n.okafor".into(),
        role: "nurse".into(),
        at_utc_ms: T,
        entry,
    }
}

fn entries() -> Vec<EntryCommand> {
    vec![
        entry(Entry::Observation {
            what: "spo2".into(),
            value_milli: 97_000,
        }),
        entry(Entry::Rescue {
            drug: "morphine".into(),
            dose_mcg: 10_000,
            route: "oral".into(),
            reason: "trial_pain".into(),
            scheduled: false,
        }),
        entry(Entry::Score {
            score: Some(3),
            asleep: false,
            condition: Condition::Rest,
            scored_by: "family".into(),
        }),
        entry(Entry::Score {
            score: None,
            asleep: true,
            condition: Condition::Rest,
            scored_by: "nurse".into(),
        }),
    ]
}

/// Signs, opens and gives back what a subscriber would parse.
fn on_the_wire<P>(payload: &P) -> Value
where
    P: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let text = pair().sign_json(payload);
    let (opened, key) = open_json::<P>(&text, |_| true).unwrap();
    assert_eq!((&opened, key), (payload, pair().public()));
    serde_json::from_str(&text).unwrap()
}

/// Name of the schema and the payload as it travels, each schema at least once, everything set in
/// the first of each.
fn payloads() -> Vec<(&'static str, Value)> {
    let first = |name: &str| facts().into_iter().find(|(n, _)| *n == name).unwrap().1;
    let mut out = vec![
        ("status", on_the_wire(&status())),
        (
            "ev",
            on_the_wire(&ev(vec![row(&first("pain_score")), row(&first("rescue"))])),
        ),
        ("state", on_the_wire(&state(true))),
        ("state", on_the_wire(&state(false))),
        ("alarms", on_the_wire(&alarms(true))),
        ("alarms", on_the_wire(&alarms(false))),
        ("receipt", on_the_wire(&receipt(true))),
        ("receipt", on_the_wire(&receipt(false))),
        (
            "cmd-reply",
            on_the_wire(&CommandReply {
                result: "stored".into(),
                detail: "gw-07.T-0042:1:12".into(),
            }),
        ),
        (
            "dash-alive",
            on_the_wire(&DashAlive {
                id: "station-2".into(),
                drawing: true,
            }),
        ),
    ];
    out.extend(entries().iter().map(|e| ("cmd-entry", on_the_wire(e))));
    out
}

#[test]
fn every_payload_is_accepted_by_its_schema_as_it_is_signed() {
    let mut unused: Vec<_> = SCHEMAS.iter().map(|(name, _)| *name).collect();
    for (name, payload) in payloads() {
        unused.retain(|n| *n != name);
        let wrong: Vec<_> = validator(name)
            .iter_errors(&payload)
            .map(|e| format!("{} at {}", e, e.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
    assert!(unused.is_empty(), "no example of {unused:?}");
}

/// JSON pointers of every object in a value.
fn objects(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            out.push(at.to_owned());
            for (name, member) in members {
                objects(member, &format!("{at}/{name}"), out);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                objects(item, &format!("{at}/{i}"), out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every payload once for each object in it, with a member too many, and once for each member,
/// without it.
fn bent(payload: &Value) -> Vec<(String, Value)> {
    let mut places = Vec::new();
    objects(payload, "", &mut places);
    let mut out = Vec::new();
    for place in places {
        let mut more = payload.clone();
        let object = more.pointer_mut(&place).unwrap().as_object_mut().unwrap();
        object.insert("surprise".into(), Value::from(1));
        let names: Vec<String> = object.keys().cloned().collect();
        out.push((format!("{place}/surprise added"), more));
        for name in names.iter().filter(|n| *n != "surprise") {
            let mut less = payload.clone();
            let object = less.pointer_mut(&place).unwrap().as_object_mut().unwrap();
            object.remove(name);
            out.push((format!("{place}/{name} removed"), less));
        }
    }
    out
}

/// A quiet step of a trend leaves out what did not happen.
fn may_be_left_out(payload: &str, how: &str) -> bool {
    let step = how
        .strip_prefix("/trend/")
        .and_then(|rest| rest.split_once('/'));
    let quiet = [
        "score",
        "score_movement",
        "boluses",
        "refused",
        "rescues",
        "not_answered",
        "alarms",
    ];
    payload == "state"
        && step.is_some_and(|(_, what)| quiet.iter().any(|q| what == format!("{q} removed")))
}

#[test]
fn a_payload_with_a_member_too_many_or_too_few_is_refused_anywhere_in_it() {
    let mut tried = 0;
    for (name, payload) in payloads() {
        let validator = validator(name);
        for (how, bent) in bent(&payload) {
            let refused = !validator.is_valid(&bent);
            assert_ne!(refused, may_be_left_out(name, &how), "{name}: {how}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn every_kind_of_event_is_accepted_and_its_body_held_to_its_fields() {
    let validator = validator("ev");
    for (name, fact) in facts() {
        let payload = on_the_wire(&ev(vec![row(&fact)]));
        let wrong: Vec<_> = validator
            .iter_errors(&payload)
            .map(|e| e.to_string())
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        for (how, bent) in bent(&payload) {
            if how.starts_with("/events/0/body") {
                assert!(!validator.is_valid(&bent), "{name}: {how}");
            }
        }
    }
    let later = encode(0x7e, HEAD, &[1u8, 2]).unwrap();
    let source = Source::new("EP-0193").unwrap();
    let later = EventRow::new(source, &later, Hex([0; 16]), T, None, T).unwrap();
    assert!(validator.is_valid(&on_the_wire(&ev(vec![later]))));
}

#[test]
fn the_schema_knows_the_kinds_that_there_are_and_unknown() {
    let schema = schema("ev");
    let kinds = schema.pointer("/$defs/event/properties/kind/enum").unwrap();
    let mut seen: Vec<_> = kinds.as_array().unwrap().iter().collect();
    let ours = protocol::event::KINDS
        .iter()
        .chain(protocol::bedside::KINDS)
        .map(|(_, kind)| Value::from(*kind));
    let mut wanted: Vec<_> = ours.chain([Value::from("unknown")]).collect();
    seen.sort_by_key(ToString::to_string);
    wanted.sort_by_key(ToString::to_string);
    assert_eq!(seen, wanted.iter().collect::<Vec<_>>());
}

#[test]
fn values_that_cannot_be_are_refused() {
    let cases: [(&str, &str, Value); 9] = [
        ("ev", "/events/0/seq", Value::from((1u64 << 53) + 1)),
        ("ev", "/events/0/tag", Value::from("ABCD")),
        ("ev", "/events/0/kind", Value::from("rate_set")),
        ("ev", "/events", Value::Array(vec![])),
        ("ev", "/bed", Value::from("07/../08")),
        ("status", "/state", Value::from("perhaps")),
        ("state", "/link", Value::from("lost?")),
        ("state", "/frame_age_ms", Value::from(-1)),
        ("cmd-entry", "/sig", Value::from("")),
    ];
    for (name, place, value) in cases {
        let (_, mut payload) = payloads().into_iter().find(|(n, _)| *n == name).unwrap();
        *payload.pointer_mut(place).unwrap() = value.clone();
        assert!(!validator(name).is_valid(&payload), "{name}{place} {value}");
    }
}

/// Every description there is, and whether every member has one.
fn undescribed(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let place = format!("{at}/{name}");
                if name == "properties" {
                    for (property, schema) in member.as_object().unwrap() {
                        let bare = schema.get("description").is_none()
                            && schema.get("const").is_none()
                            && !at.contains("/if")
                            && !at.ends_with("/then");
                        if bare {
                            out.push(format!("{place}/{property}"));
                        }
                    }
                }
                undescribed(member, &place, out);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                undescribed(item, &format!("{at}/{i}"), out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_member_of_every_schema_is_described() {
    for (name, _) in SCHEMAS {
        let mut bare = Vec::new();
        undescribed(&schema(name), "", &mut bare);
        assert!(bare.is_empty(), "{name}: {bare:#?}");
    }
}

#[test]
fn asyncapi_names_every_topic_and_every_schema() {
    let topics = Topics::of_site("SITE").unwrap();
    let all = [
        topics.status("GW"),
        topics.ev("GW", "SOURCE"),
        topics.state("GW", "BED"),
        topics.alarms("GW", "BED"),
        topics.receipt("GW", "RECORDER"),
        topics.cmd("GW", "entry"),
        topics.reply("GW", "CLIENT"),
        topics.dash_alive("ID"),
    ];
    for topic in &all {
        let address: Vec<_> = topic
            .split('/')
            .map(|part| match part {
                "SITE" | "GW" | "SOURCE" | "BED" | "RECORDER" | "CLIENT" | "ID" => {
                    format!("{{{}}}", part.to_lowercase())
                }
                other => other.to_owned(),
            })
            .collect();
        let line = format!("    address: {}\n", address.join("/"));
        assert!(ASYNCAPI.contains(&line), "no {line}");
    }
    assert_eq!(ASYNCAPI.matches("    address: thecal/").count(), all.len());
    for (name, _) in SCHEMAS {
        let file = format!("'schemas/{name}.schema.json'");
        assert_eq!(ASYNCAPI.matches(&file).count(), 1, "{file}");
    }
    assert_eq!(ASYNCAPI.matches(".schema.json'").count(), SCHEMAS.len());
}
