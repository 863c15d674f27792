//! One example of each thing that can be said, in the order of the type numbers. The values are
//! frozen with `vectors.txt`; a new event type is added here and there.

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

/// The head of every example.
pub(crate) const HEAD: Head = Head {
    boot: 3,
    seq: 18_274,
    tick_ms: 86_400_123,
};

/// Name in `vectors.txt` and value. A kind with two forms has two names, `kind` and `kind.other`.
pub(crate) fn facts() -> Vec<(&'static str, Fact)> {
    let mut all: Vec<(&'static str, Fact)> = pump()
        .into_iter()
        .map(|(name, body)| (name, Fact::Pump(body)))
        .collect();
    all.extend(bedside());
    all
}

fn pump() -> Vec<(&'static str, Body)> {
    vec![
        (
            "powered_on",
            PoweredOn {
                reason: BootReason::Watchdog,
                firmware: [0, 1, 200],
                own_clock_utc_ms: Some(1_767_225_600_000),
            }
            .into(),
        ),
        (
            "infusion_started",
            InfusionStarted {
                purpose: Purpose::Therapy,
                programmed_nl_per_h: 417_000,
            }
            .into(),
        ),
        (
            "infusion_stopped",
            InfusionStopped {
                reason: StopReason::Alarm,
            }
            .into(),
        ),
        (
            "rate_changed",
            RateChanged {
                previous_nl_per_h: 417_000,
                programmed_nl_per_h: 300_000,
                by: ChangedBy::Keypad,
            }
            .into(),
        ),
        (
            "delivered",
            Delivered {
                delivered_nl: 40_031_950,
                programmed_nl: 40_032_000,
                strokes: 800_639,
                encoder_counts: 12_810_224,
            }
            .into(),
        ),
        (
            "bolus_requested",
            BolusRequested {
                decision: BolusDecision::Granted {
                    requested_nl: 200_000,
                },
            }
            .into(),
        ),
        (
            "bolus_requested.denied",
            BolusRequested {
                decision: BolusDecision::Denied {
                    reason: Refusal::Limit,
                    wait_ms: Some(1_800_000),
                },
            }
            .into(),
        ),
        (
            "bolus_delivered",
            BolusDelivered {
                requested_nl: 200_000,
                delivered_nl: 149_950,
                complete: false,
            }
            .into(),
        ),
        (
            "pain_score",
            PainScore {
                score: 10,
                confirmed: true,
                condition: Condition::Movement,
                prompt_id: Some(12),
                answer_delay_ms: Some(4_250),
                corrects_seq: Some(18_270),
            }
            .into(),
        ),
        (
            "pain_score.spontaneous",
            PainScore {
                score: 3,
                confirmed: false,
                condition: Condition::Rest,
                prompt_id: None,
                answer_delay_ms: None,
                corrects_seq: None,
            }
            .into(),
        ),
        (
            "prompt_not_answered",
            PromptNotAnswered {
                prompt_id: 13,
                condition: Condition::Rest,
                prompted_at_tick_ms: 86_000_000,
            }
            .into(),
        ),
        (
            "reservoir",
            Reservoir {
                what: ReservoirChange::Reading,
                measured_nl: Some(59_900_000),
                computed_nl: 59_968_050,
            }
            .into(),
        ),
        (
            "alarm",
            Alarm {
                code: AlarmCode::SupervisorStop,
                priority: Priority::High,
                phase: Phase::Start,
            }
            .into(),
        ),
        (
            "battery",
            Battery {
                percent: 0,
                minutes_left: 300,
            }
            .into(),
        ),
        (
            "key_stuck",
            KeyStuck {
                key: Key::Movement,
                phase: Phase::End,
            }
            .into(),
        ),
        ("door", Door { open: true }.into()),
        (
            "program_changed",
            ProgramChanged {
                revision: 2,
                programmed_nl_per_h: 300_000,
                concentration_mcg_per_ml: 500,
                bolus_nl: 200_000,
                lockout_ms: 3_600_000,
            }
            .into(),
        ),
        (
            "clock_set",
            ClockSet {
                before_utc_ms: None,
                after_utc_ms: 1_767_225_600_000,
                offset_min: -210,
            }
            .into(),
        ),
        (
            "self_test",
            SelfTest {
                passed: false,
                failed_parts: 0b0010_0001,
            }
            .into(),
        ),
        (
            "journal_lost",
            JournalLost {
                from_seq: 1,
                to_seq: 18_273,
            }
            .into(),
        ),
        (
            "checkpoint",
            Checkpoint {
                through_seq: 18_273,
                count: 18_273,
                key_index: 99,
                head: Hex(core::array::from_fn(|i| u8::try_from(i).unwrap_or(0))),
                signature: Hex(core::array::from_fn(|i| u8::try_from(255 - i).unwrap_or(0))),
            }
            .into(),
        ),
        (
            "trial_closed",
            TrialClosed {
                reason: CloseReason::PatientsWish,
            }
            .into(),
        ),
    ]
}

fn bedside() -> Vec<(&'static str, Fact)> {
    vec![
        (
            "gateway_started",
            GatewayStarted {
                software: "thecal 0.1.0".into(),
                bed: "07".into(),
                trial: "T-0042".into(),
                pump: "EP-0193".into(),
            }
            .into(),
        ),
        (
            "link_changed",
            LinkChanged {
                pump: "EP-0193".into(),
                up: false,
                silent_ms: 5_000,
            }
            .into(),
        ),
        ("clock_stepped", ClockStepped { by_ms: -3_600_000 }.into()),
        (
            "observation",
            Observation {
                what: "temperature".into(),
                value_milli: 37_400,
                at_utc_ms: 1_767_225_600_000,
                by: "n.okafor".into(),
                role: "nurse".into(),
                entry_id: "e-000001".into(),
            }
            .into(),
        ),
        (
            "rescue",
            Rescue {
                drug: "morphine".into(),
                dose_mcg: 10_000,
                route: "oral".into(),
                reason: "trial_pain".into(),
                scheduled: false,
                at_utc_ms: -1,
                by: "n.okafor".into(),
                role: "nurse".into(),
                entry_id: "e-000002".into(),
            }
            .into(),
        ),
        (
            "alarm_changed",
            AlarmChanged {
                alarm: "link_lost".into(),
                priority: Priority::Medium,
                change: "raised".into(),
                text: "No word from the pump for 5 s".into(),
            }
            .into(),
        ),
        (
            "stored",
            Stored {
                source: "EP-0193".into(),
                from_seq: 18_211,
                to_seq: 18_274,
                digest: Hex([0xa5; 32]),
            }
            .into(),
        ),
        (
            "score_entry",
            ScoreEntry {
                score: Some(4),
                asleep: false,
                condition: Condition::Rest,
                scored_by: "nurse".into(),
                prompted: true,
                at_utc_ms: 1_767_225_600_000,
                by: "n.okafor".into(),
                entry_id: "e-000003".into(),
            }
            .into(),
        ),
        (
            "quarantined",
            Quarantined {
                source: "EP-0999".into(),
                seq: 7,
                reason: "another body under this identity".into(),
            }
            .into(),
        ),
        (
            "boot_anchored",
            BootAnchored {
                source: "EP-0193".into(),
                boot: 3,
                at_utc_ms: 1_767_139_200_000,
                uncertainty_ms: 12,
            }
            .into(),
        ),
    ]
}
