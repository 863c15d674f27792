//! The columns of an event in a table, each once: name with unit, type, meaning.
//!
//! One row an event. The first columns are those of every event; the others hold the fields of the
//! bodies, flat, and are null where an event has no such field. Two fields share a column only
//! where they mean the same: what a bolus delivered is not what was delivered since the trial
//! began, so these are two columns.

use protocol::topics::EventRow;
use serde_json::Value;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number; i64.
    Int,
    /// Yes or no.
    Bool,
    /// UTF-8 text.
    Text,
}

/// A column of the table of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name; a unit ends it where it has one.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Every row has a value.
    pub required: bool,
    /// What it means, for people.
    pub meaning: &'static str,
    /// The fields of bodies that it holds: kind of event, place in the body's JSON.
    pub fields: &'static [(&'static str, &'static str)],
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The event has no such field, or it is not known.
    Null,
    /// A whole number. One beyond i64 is the nearest i64.
    Int(i64),
    /// Yes or no.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
}

type Fields = &'static [(&'static str, &'static str)];

const fn column(name: &'static str, kind: Kind, meaning: &'static str, fields: Fields) -> Column {
    Column {
        name,
        kind,
        required: false,
        meaning,
        fields,
    }
}

const fn of_every_row(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column {
        name,
        kind,
        required: true,
        meaning,
        fields: &[],
    }
}

use Kind::{Bool, Int, Text};

/// Every column, in the order of the file.
pub const COLUMNS: &[Column] = &[
    of_every_row(
        "source",
        Text,
        "who says it: the pump's serial, or <gateway>.<trial>; `import` for a diary",
    ),
    of_every_row("boot", Int, "starts of the source so far; the first is 1"),
    of_every_row(
        "seq",
        Int,
        "number of the event, continues over boots, never used twice",
    ),
    of_every_row(
        "tick_ms",
        Int,
        "milliseconds since that boot, by the source's clock",
    ),
    of_every_row(
        "at_utc_ms",
        Int,
        "when it happened, UTC, as the gateway estimates",
    ),
    column(
        "at_uncertainty_ms",
        Int,
        "half width of that estimate; null where at_utc_ms is the time of receipt",
        &[],
    ),
    of_every_row("received_at_utc_ms", Int, "when the gateway stored it, UTC"),
    of_every_row("kind", Text, "what happened"),
    column(
        "type_number",
        Int,
        "type of an event of a later program, kept and not understood",
        &[("unknown", "/type_number")],
    ),
    column(
        "reason",
        Text,
        "why: of a start, a stop, a refusal, a close, a rescue dose, a quarantine",
        &[
            ("powered_on", "/reason"),
            ("infusion_stopped", "/reason"),
            ("bolus_requested", "/decision/denied/reason"),
            ("trial_closed", "/reason"),
            ("rescue", "/reason"),
            ("quarantined", "/reason"),
        ],
    ),
    column(
        "firmware",
        Text,
        "version of the pump's program: major.minor.patch",
        &[("powered_on", "/firmware")],
    ),
    column(
        "own_clock_utc_ms",
        Int,
        "the pump's own clock at its start, where it was set",
        &[("powered_on", "/own_clock_utc_ms")],
    ),
    column(
        "purpose",
        Text,
        "what an infusion is for: therapy, prime or purge",
        &[("infusion_started", "/purpose")],
    ),
    column(
        "programmed_nl_per_h",
        Int,
        "rate from now on, as programmed",
        &[
            ("infusion_started", "/programmed_nl_per_h"),
            ("rate_changed", "/programmed_nl_per_h"),
            ("program_changed", "/programmed_nl_per_h"),
        ],
    ),
    column(
        "previous_nl_per_h",
        Int,
        "rate until now, as programmed",
        &[("rate_changed", "/previous_nl_per_h")],
    ),
    column(
        "changed_by",
        Text,
        "who changed a rate: day_part or keypad",
        &[("rate_changed", "/by")],
    ),
    column(
        "delivered_nl",
        Int,
        "delivered by the pump since the trial began, encoder-confirmed, boluses included; no proof that it reached the spine",
        &[("delivered", "/delivered_nl")],
    ),
    column(
        "programmed_nl",
        Int,
        "asked for by program and granted boluses since the trial began",
        &[("delivered", "/programmed_nl")],
    ),
    column(
        "strokes",
        Int,
        "pump strokes since the trial began; 0 in a diary",
        &[("delivered", "/strokes")],
    ),
    column(
        "encoder_counts",
        Int,
        "encoder counts since the trial began; 0 in a diary",
        &[("delivered", "/encoder_counts")],
    ),
    column(
        "granted",
        Bool,
        "a requested bolus was granted",
        &[("bolus_requested", "/decision")],
    ),
    column(
        "bolus_requested_nl",
        Int,
        "volume of a bolus as granted",
        &[
            ("bolus_requested", "/decision/granted/requested_nl"),
            ("bolus_delivered", "/requested_nl"),
        ],
    ),
    column(
        "bolus_delivered_nl",
        Int,
        "volume that this bolus delivered, encoder-confirmed",
        &[("bolus_delivered", "/delivered_nl")],
    ),
    column(
        "bolus_complete",
        Bool,
        "a bolus was delivered whole",
        &[("bolus_delivered", "/complete")],
    ),
    column(
        "wait_ms",
        Int,
        "until a refused bolus could be granted, where known",
        &[("bolus_requested", "/decision/denied/wait_ms")],
    ),
    column(
        "score",
        Int,
        "pain, 0 (none) to 10 (worst imaginable); null where asked and not answered, or asleep",
        &[("pain_score", "/score"), ("score_entry", "/score")],
    ),
    column(
        "confirmed",
        Bool,
        "the patient pressed confirm",
        &[("pain_score", "/confirmed")],
    ),
    column(
        "condition",
        Text,
        "rest or movement",
        &[
            ("pain_score", "/condition"),
            ("prompt_not_answered", "/condition"),
            ("score_entry", "/condition"),
        ],
    ),
    column(
        "prompt_id",
        Int,
        "of the prompt that was answered or not; null for a spontaneous score",
        &[
            ("pain_score", "/prompt_id"),
            ("prompt_not_answered", "/prompt_id"),
        ],
    ),
    column(
        "answer_delay_ms",
        Int,
        "from the prompt to the confirm key",
        &[("pain_score", "/answer_delay_ms")],
    ),
    column(
        "corrects_seq",
        Int,
        "seq of the score that this one corrects; the old one stays",
        &[("pain_score", "/corrects_seq")],
    ),
    column(
        "prompted_at_tick_ms",
        Int,
        "tick of the first asking, same boot",
        &[("prompt_not_answered", "/prompted_at_tick_ms")],
    ),
    column(
        "asleep",
        Bool,
        "the patient was asleep when asked",
        &[("score_entry", "/asleep")],
    ),
    column(
        "scored_by",
        Text,
        "whose score: patient, nurse or family",
        &[("score_entry", "/scored_by")],
    ),
    column(
        "prompted",
        Bool,
        "a score was asked for",
        &[("score_entry", "/prompted")],
    ),
    column(
        "reservoir_change",
        Text,
        "what about the reservoir: changed, low, empty or reading",
        &[("reservoir", "/what")],
    ),
    column(
        "reservoir_measured_nl",
        Int,
        "left in the reservoir by its sensor, where there is one",
        &[("reservoir", "/measured_nl")],
    ),
    column(
        "reservoir_computed_nl",
        Int,
        "left in the reservoir: volume at the last change less what was delivered",
        &[("reservoir", "/computed_nl")],
    ),
    column(
        "alarm",
        Text,
        "alarm condition, of the pump or of the gateway",
        &[("alarm", "/code"), ("alarm_changed", "/alarm")],
    ),
    column(
        "priority",
        Text,
        "of an alarm condition: low, medium or high",
        &[("alarm", "/priority"), ("alarm_changed", "/priority")],
    ),
    column(
        "phase",
        Text,
        "a condition of the pump begins or ends: start or end",
        &[("alarm", "/phase"), ("key_stuck", "/phase")],
    ),
    column(
        "alarm_change",
        Text,
        "of a gateway's alarm: raised, cleared or acknowledged",
        &[("alarm_changed", "/change")],
    ),
    column(
        "alarm_text",
        Text,
        "of a gateway's alarm, in words for people",
        &[("alarm_changed", "/text")],
    ),
    column(
        "battery_percent",
        Int,
        "charge of the battery, 0 to 100",
        &[("battery", "/percent")],
    ),
    column(
        "battery_minutes_left",
        Int,
        "minutes left at the present load",
        &[("battery", "/minutes_left")],
    ),
    column(
        "key",
        Text,
        "a key of the pump that is held down",
        &[("key_stuck", "/key")],
    ),
    column(
        "door_open",
        Bool,
        "the door over the pump mechanism is open",
        &[("door", "/open")],
    ),
    column(
        "revision",
        Int,
        "counts the changes of the program",
        &[("program_changed", "/revision")],
    ),
    column(
        "concentration_mcg_per_ml",
        Int,
        "of the drug now in the reservoir",
        &[("program_changed", "/concentration_mcg_per_ml")],
    ),
    column(
        "bolus_nl",
        Int,
        "volume of one patient bolus, as programmed",
        &[("program_changed", "/bolus_nl")],
    ),
    column(
        "lockout_ms",
        Int,
        "least time between two boluses, as programmed",
        &[("program_changed", "/lockout_ms")],
    ),
    column(
        "before_utc_ms",
        Int,
        "the pump's own clock before it was set, where it had been",
        &[("clock_set", "/before_utc_ms")],
    ),
    column(
        "after_utc_ms",
        Int,
        "the pump's own clock from now on",
        &[("clock_set", "/after_utc_ms")],
    ),
    column(
        "offset_min",
        Int,
        "minutes east of UTC on the pump's clock",
        &[("clock_set", "/offset_min")],
    ),
    column(
        "passed",
        Bool,
        "the self-test passed",
        &[("self_test", "/passed")],
    ),
    column(
        "failed_parts",
        Int,
        "one bit a part that failed the self-test",
        &[("self_test", "/failed_parts")],
    ),
    column(
        "from_seq",
        Int,
        "first seq of a range: lost, or stored",
        &[("journal_lost", "/from_seq"), ("stored", "/from_seq")],
    ),
    column(
        "to_seq",
        Int,
        "last seq of that range",
        &[("journal_lost", "/to_seq"), ("stored", "/to_seq")],
    ),
    column(
        "through_seq",
        Int,
        "last seq that a checkpoint covers",
        &[("checkpoint", "/through_seq")],
    ),
    column(
        "count",
        Int,
        "events since the trial began, the checkpoint not counted",
        &[("checkpoint", "/count")],
    ),
    column(
        "key_index",
        Int,
        "which key of the ratchet tagged the checkpoint",
        &[("checkpoint", "/key_index")],
    ),
    column(
        "head",
        Text,
        "head of the chain at a checkpoint, hex",
        &[("checkpoint", "/head")],
    ),
    column(
        "signature",
        Text,
        "Ed25519 signature of a checkpoint, hex",
        &[("checkpoint", "/signature")],
    ),
    column(
        "software",
        Text,
        "name and version of the gateway's program",
        &[("gateway_started", "/software")],
    ),
    column("bed", Text, "the bed", &[("gateway_started", "/bed")]),
    column(
        "bound_trial",
        Text,
        "the trial that a gateway binds the pump's events to",
        &[("gateway_started", "/trial")],
    ),
    column(
        "pump",
        Text,
        "the pump that a gateway speaks of",
        &[("gateway_started", "/pump"), ("link_changed", "/pump")],
    ),
    column(
        "link_up",
        Bool,
        "the serial line came back; false where it was lost",
        &[("link_changed", "/up")],
    ),
    column(
        "silent_ms",
        Int,
        "silence of the line before, wall milliseconds",
        &[("link_changed", "/silent_ms")],
    ),
    column(
        "by_ms",
        Int,
        "by how much the gateway's clock was set, later is positive",
        &[("clock_stepped", "/by_ms")],
    ),
    column(
        "what",
        Text,
        "what was observed",
        &[("observation", "/what")],
    ),
    column(
        "value_milli",
        Int,
        "the observed value times 1000, in the unit that docs/record.md lists",
        &[("observation", "/value_milli")],
    ),
    column(
        "drug",
        Text,
        "of a dose outside the pump",
        &[("rescue", "/drug")],
    ),
    column(
        "dose_mcg",
        Int,
        "of a dose outside the pump",
        &[("rescue", "/dose_mcg")],
    ),
    column(
        "route",
        Text,
        "of a dose outside the pump",
        &[("rescue", "/route")],
    ),
    column(
        "scheduled",
        Bool,
        "a dose by the clock, not for present pain",
        &[("rescue", "/scheduled")],
    ),
    column(
        "author_at_utc_ms",
        Int,
        "when an entry says it happened, UTC, as its author gave it",
        &[
            ("observation", "/at_utc_ms"),
            ("rescue", "/at_utc_ms"),
            ("score_entry", "/at_utc_ms"),
        ],
    ),
    column(
        "entered_by",
        Text,
        "who made an entry",
        &[
            ("observation", "/by"),
            ("rescue", "/by"),
            ("score_entry", "/by"),
        ],
    ),
    column(
        "role",
        Text,
        "in what role",
        &[("observation", "/role"), ("rescue", "/role")],
    ),
    column(
        "entry_id",
        Text,
        "of an entry, so that it counts once",
        &[
            ("observation", "/entry_id"),
            ("rescue", "/entry_id"),
            ("score_entry", "/entry_id"),
        ],
    ),
    column(
        "about_source",
        Text,
        "whose events are meant",
        &[
            ("stored", "/source"),
            ("quarantined", "/source"),
            ("boot_anchored", "/source"),
        ],
    ),
    column(
        "about_seq",
        Int,
        "which event is meant",
        &[("quarantined", "/seq")],
    ),
    column(
        "about_boot",
        Int,
        "which start is meant",
        &[("boot_anchored", "/boot")],
    ),
    column(
        "digest",
        Text,
        "SHA-256 over the rows of a range, hex",
        &[("stored", "/digest")],
    ),
    column(
        "anchor_utc_ms",
        Int,
        "UTC of tick 0 of a start, as the gateway estimates",
        &[("boot_anchored", "/at_utc_ms")],
    ),
    column(
        "anchor_uncertainty_ms",
        Int,
        "half width of that estimate",
        &[("boot_anchored", "/uncertainty_ms")],
    ),
];

/// The place of a column; `None` where there is none of that name.
pub fn index_of(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

/// One value for each of [`COLUMNS`].
pub fn row_cells(row: &EventRow) -> Vec<Cell> {
    COLUMNS.iter().map(|column| cell(row, column)).collect()
}

/// The value of one column.
pub fn cell(row: &EventRow, column: &Column) -> Cell {
    match column.name {
        "source" => Cell::Text(row.source.to_string()),
        "boot" => Cell::Int(row.boot.into()),
        "seq" => Cell::Int(nearest(row.seq)),
        "tick_ms" => Cell::Int(nearest(row.tick_ms)),
        "at_utc_ms" => Cell::Int(row.at_utc_ms),
        "at_uncertainty_ms" => row
            .at_uncertainty_ms
            .map_or(Cell::Null, |ms| Cell::Int(nearest(ms))),
        "received_at_utc_ms" => Cell::Int(row.received_at_utc_ms),
        "kind" => Cell::Text(row.kind.clone()),
        _ => column
            .fields
            .iter()
            .find(|(kind, _)| *kind == row.kind)
            .and_then(|(_, place)| row.body.pointer(place))
            .map_or(Cell::Null, |value| of_json(value, column.kind)),
    }
}

fn nearest(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn of_json(value: &Value, kind: Kind) -> Cell {
    match (kind, value) {
        (Kind::Int, Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Cell::Int(value),
            (None, Some(value)) => Cell::Int(nearest(value)),
            (None, None) => Cell::Null,
        },
        (Kind::Bool, Value::Bool(value)) => Cell::Bool(*value),
        // A decision is an object with one member: granted or denied.
        (Kind::Bool, Value::Object(decision)) => Cell::Bool(decision.contains_key("granted")),
        (Kind::Text, Value::String(text)) => Cell::Text(text.clone()),
        (Kind::Text, Value::Array(parts)) => {
            let parts: Vec<String> = parts.iter().map(Value::to_string).collect();
            Cell::Text(parts.join("."))
        }
        _ => Cell::Null,
    }
}
