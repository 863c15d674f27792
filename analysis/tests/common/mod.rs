//! Made-up trials as rows: seeded, shaped like what a pump and a gateway write. Not the simulated
//! patient of `device-sim`: a simpler one, so that the two can disagree.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    clippy::wildcard_imports,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    reason = "each test file uses its own part"
)]
#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers of made-up trials"
)]

use analysis::input::{Header, Origin, Proof, TrialInput};
use analysis::load::{Trial, from_rows};
use protocol::bedside::{BootAnchored, Fact, Observation, Rescue, ScoreEntry};
use protocol::event::*;
use protocol::hex::Hex;
use protocol::manifest::Simulated;
use protocol::message::Source;
use protocol::topics::EventRow;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const HOUR: i64 = 3_600_000;
pub const MINUTE: i64 = 60_000;
/// 2 March 2026, 08:00 in Berlin.
pub const BASELINE_START: i64 = 1_772_434_800_000;
pub const PUMP: &str = "EP-0193";
pub const GATEWAY: &str = "gw-07.T-0001";

/// A normal deviate, by twelve uniforms.
pub fn normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// Rows that are being made.
pub struct Making {
    pub header: Header,
    pub rows: Vec<EventRow>,
    seqs: [u64; 2],
    start_ms: i64,
    own_clock: bool,
}

impl Making {
    pub fn new() -> Self {
        Self {
            header: Header {
                trial_id: "T-0001".into(),
                bed: Some("07".into()),
                origin: Origin::Pump,
                pump: Some(PUMP.into()),
                drug: "morphine".into(),
                concentration_mcg_per_ml: 500,
                also: Vec::new(),
                route: "intrathecal".into(),
                zone: "Europe/Berlin".into(),
                baseline_start_ms: Some(BASELINE_START),
                stated_start_ms: None,
                stated_end_ms: None,
                run_in_h: None,
                protocol: "pain-50".into(),
                simulated: Some(Simulated {
                    patient: "made up".into(),
                    seed: 7,
                    speed: 4_000,
                }),
                accepts_implant: None,
                context: Vec::new(),
            },
            rows: Vec::new(),
            seqs: [0, 0],
            start_ms: BASELINE_START - HOUR,
            own_clock: true,
        }
    }

    fn push(&mut self, source: &str, fact: &Fact, at_ms: i64) -> u64 {
        let pump = source == PUMP;
        let place = usize::from(!pump);
        self.seqs[place] += 1;
        let tick_ms = if pump { at_ms - self.start_ms } else { at_ms };
        let head = Head {
            boot: 1,
            seq: self.seqs[place],
            tick_ms: u64::try_from(tick_ms).unwrap(),
        };
        let raw = fact.encode(head).unwrap();
        let source = Source::new(source).unwrap();
        let row = EventRow::new(source, &raw, Hex([0; 16]), at_ms, Some(40), at_ms + 300);
        self.rows.push(row.unwrap());
        self.seqs[place]
    }

    /// An event of the pump.
    pub fn pump(&mut self, at_ms: i64, body: impl Into<Body>) -> u64 {
        self.push(PUMP, &Fact::Pump(body.into()), at_ms)
    }

    /// An event of the bedside.
    pub fn bedside(&mut self, at_ms: i64, fact: impl Into<Fact>) -> u64 {
        self.push(GATEWAY, &fact.into(), at_ms)
    }

    pub fn start(&mut self) {
        let own_clock_utc_ms = self.own_clock.then_some(self.start_ms as u64);
        self.pump(
            self.start_ms,
            PoweredOn {
                reason: BootReason::PowerOn,
                firmware: [0, 1, 0],
                own_clock_utc_ms,
            },
        );
        self.bedside(
            self.start_ms,
            BootAnchored {
                source: PUMP.into(),
                boot: 1,
                at_utc_ms: self.start_ms,
                uncertainty_ms: 40,
            },
        );
    }

    pub fn score(&mut self, at_ms: i64, score: u8, prompt: Option<u32>) -> u64 {
        self.scored(at_ms, score, prompt, Condition::Rest)
    }

    pub fn scored(
        &mut self,
        at_ms: i64,
        score: u8,
        prompt: Option<u32>,
        condition: Condition,
    ) -> u64 {
        self.pump(
            at_ms,
            PainScore {
                score,
                confirmed: true,
                condition,
                prompt_id: prompt,
                answer_delay_ms: None,
                corrects_seq: None,
            },
        )
    }

    pub fn missed(&mut self, at_ms: i64, prompt: u32) {
        let prompted = at_ms - self.start_ms - 10 * MINUTE;
        self.pump(
            at_ms,
            PromptNotAnswered {
                prompt_id: prompt,
                condition: Condition::Rest,
                prompted_at_tick_ms: prompted as u64,
            },
        );
    }

    pub fn observed(&mut self, at_ms: i64, what: &str, value: f64) {
        let entry_id = format!("n{}", self.rows.len());
        self.bedside(
            at_ms + MINUTE,
            Observation {
                what: what.into(),
                value_milli: (value * 1000.0) as i64,
                at_utc_ms: at_ms,
                by: "nurse".into(),
                role: "nurse".into(),
                entry_id,
            },
        );
    }

    pub fn rescue(&mut self, at_ms: i64) {
        let entry_id = format!("r{}", self.rows.len());
        self.bedside(
            at_ms + MINUTE,
            Rescue {
                drug: "oxycodone".into(),
                dose_mcg: 10_000,
                route: "oral".into(),
                reason: "trial_pain".into(),
                scheduled: false,
                at_utc_ms: at_ms,
                by: "nurse".into(),
                role: "nurse".into(),
                entry_id,
            },
        );
    }

    pub fn entered_score(&mut self, at_ms: i64, score: Option<u8>, asleep: bool) {
        let entry_id = format!("s{}", self.rows.len());
        self.bedside(
            at_ms,
            ScoreEntry {
                score,
                asleep,
                condition: Condition::Rest,
                scored_by: "patient".into(),
                prompted: true,
                at_utc_ms: at_ms,
                by: "nurse".into(),
                entry_id,
            },
        );
    }

    pub fn bolus(&mut self, at_ms: i64, granted: bool) {
        let decision = if granted {
            BolusDecision::Granted {
                requested_nl: 20_000,
            }
        } else {
            BolusDecision::Denied {
                reason: Refusal::Lockout,
                wait_ms: Some(60_000),
            }
        };
        self.pump(at_ms, BolusRequested { decision });
    }

    pub fn infusion(&mut self, at_ms: i64, programmed_nl_per_h: u32) {
        self.pump(
            at_ms,
            InfusionStarted {
                purpose: Purpose::Therapy,
                programmed_nl_per_h,
            },
        );
    }

    pub fn stop(&mut self, at_ms: i64, reason: StopReason) {
        self.pump(at_ms, InfusionStopped { reason });
    }

    pub fn close(&mut self, at_ms: i64, reason: CloseReason) {
        self.stop(at_ms, StopReason::Closed);
        self.pump(at_ms, TrialClosed { reason });
    }

    pub fn input(mut self) -> TrialInput {
        self.rows
            .sort_by_key(|row| (row.source.to_string(), row.seq));
        TrialInput {
            header: self.header,
            proof: Proof::of_rows(&self.rows),
            rows: self.rows,
        }
    }

    pub fn trial(self) -> Trial {
        from_rows(&self.input()).unwrap()
    }
}

/// The kinds of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Responder,
    NonResponder,
    Leak,
    LeakNobodyFound,
    SideEffects,
    Placebo,
    Withdrawal,
    PumpBlocked,
}

/// A made-up trial: 24 h of baseline, four days of drug.
pub fn made_up(kind: Kind, seed: u64) -> Making {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut m = Making::new();
    let trial_start = BASELINE_START + 24 * HOUR;
    let hours = if kind == Kind::SideEffects { 30 } else { 96 };
    let end = trial_start + hours * HOUR;
    let dry = (trial_start + 42 * HOUR, trial_start + 54 * HOUR);
    let leak = trial_start + 27 * HOUR;
    m.start();
    let mean = |at: i64| {
        let h = (at - trial_start) as f64 / HOUR as f64;
        let onset = (h / 8.0).clamp(0.0, 1.0);
        match kind {
            _ if h < 0.0 => 7.6,
            Kind::NonResponder => 7.6 - 0.6 * onset,
            Kind::PumpBlocked => 7.6,
            Kind::Leak | Kind::LeakNobodyFound if at < leak => 7.6 - 5.1 * onset,
            Kind::Leak | Kind::LeakNobodyFound => 7.5,
            Kind::Placebo => 7.6 - 2.3 * onset * (0.5f64).powf((h - 14.0).max(0.0) / 8.0) - 0.3,
            Kind::Withdrawal if dry.0 + 4 * HOUR <= at && at < dry.1 + 4 * HOUR => 7.4,
            Kind::Responder | Kind::SideEffects | Kind::Withdrawal => 7.6 - 5.1 * onset,
        }
    };
    let (mut noise, mut prompt, mut started, mut counters) = (0.0, 0, false, (0u64, 0u64));
    let mut at = BASELINE_START;
    while at < end {
        let since = at - BASELINE_START;
        if at >= trial_start && !started {
            m.infusion(at, 60_000);
            started = true;
        }
        if kind == Kind::Withdrawal && at == dry.0 {
            m.stop(at, StopReason::Empty);
        }
        if kind == Kind::Withdrawal && at == dry.1 {
            m.infusion(at, 60_000);
        }
        let dry_now = kind == Kind::Withdrawal && (dry.0..dry.1).contains(&at);
        if started && !dry_now {
            counters.1 += 1_000;
            counters.0 += if kind == Kind::PumpBlocked {
                600
            } else {
                1_000
            };
            m.pump(
                at + 59_000,
                Delivered {
                    delivered_nl: counters.0,
                    programmed_nl: counters.1,
                    strokes: counters.0 / 50_000,
                    encoder_counts: counters.0 / 62,
                },
            );
        }
        // Awake from 07:00 to 22:00 in Berlin; the baseline starts at 08:00.
        let awake = (since / HOUR + 8) % 24 >= 7 && (since / HOUR + 8) % 24 < 22;
        if awake && since % (2 * HOUR) == 5 * MINUTE {
            noise = 0.5 * noise + 0.75 * normal(&mut rng);
            let score = (mean(at) + noise).round().clamp(0.0, 10.0) as u8;
            prompt += 1;
            if rng.random::<f64>() < 0.10 {
                m.missed(at + 10 * MINUTE, prompt);
            } else {
                m.score(at, score, Some(prompt));
                if since % (6 * HOUR) < 2 * HOUR {
                    prompt += 1;
                    let moving = (score + 1).min(10);
                    m.scored(at + 30_000, moving, Some(prompt), Condition::Movement);
                }
                if score >= 6 && started {
                    m.bolus(at + MINUTE, rng.random::<f64>() < 0.7);
                }
                if score >= 8 && rng.random::<f64>() < 0.4 {
                    m.rescue(at + 2 * MINUTE);
                }
            }
        }
        if since % (4 * HOUR) == 0 {
            m.observed(at, "resp_rate", 14.0);
            m.observed(at, "sedation_poss", 1.0);
            let nausea = u8::from(kind == Kind::SideEffects && started) * 2;
            m.observed(at, "nausea", f64::from(nausea));
        }
        at += MINUTE;
    }
    match kind {
        Kind::SideEffects => {
            m.observed(end - HOUR, "sedation_poss", 3.0);
            m.observed(end - HOUR + 5 * MINUTE, "resp_rate", 8.0);
            m.close(end, CloseReason::Safety);
        }
        Kind::Leak => {
            m.observed(leak + 30 * HOUR, "catheter_check", 2.0);
            m.close(end, CloseReason::Planned);
        }
        _ => m.close(end, CloseReason::Planned),
    }
    m.observed(end + HOUR, "accepts_implant", 1.0);
    m
}
