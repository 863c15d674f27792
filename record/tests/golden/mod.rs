//! A small whole trial, made with the shared words alone: a pump's chain over two starts, the
//! gateway's chain beside it, and the record and the spool that hold both.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic; that is how it fails"
)]
#![expect(dead_code, reason = "each test file uses a part of it")]

use protocol::bedside::{
    AlarmChanged, BootAnchored, Fact, GatewayStarted, LinkChanged, Observation, Rescue, Stored,
};
use protocol::chain::{ChainHead, TagKey, checkpoint_message};
use protocol::event::{
    Battery, Body, BolusDecision, BolusDelivered, BolusRequested, BootReason, Checkpoint,
    CloseReason, Condition, Delivered, Head, InfusionStarted, InfusionStopped, JournalLost,
    PainScore, PoweredOn, Priority, PromptNotAnswered, Purpose, Refusal, SelfTest, StopReason,
    TrialClosed,
};
use protocol::keys::KeyPair;
use protocol::manifest::{Limits, Manifest, SCHEMA, SignedManifest};
use protocol::message::Source;
use protocol::topics::EventRow;
use record::store::{RowsDigest, canonical_json};
use record::trial_record::Hole;
use record::{Record, Spool};
use std::path::Path;

pub(crate) const TRIAL: &str = "T-0001";
pub(crate) const PUMP: &str = "EP-0193";
pub(crate) const GATEWAY: &str = "gw-07.T-0001";
/// 2026-03-01 08:00 UTC.
pub(crate) const START: i64 = 1_772_352_000_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

pub(crate) fn pump_pair() -> KeyPair {
    KeyPair::from_seed([1; 32])
}

pub(crate) fn gateway_pair() -> KeyPair {
    KeyPair::from_seed([2; 32])
}

pub(crate) fn recorder_pair() -> KeyPair {
    KeyPair::from_seed([3; 32])
}

/// One source's chain while it grows.
struct Chain {
    source: Source,
    pair: KeyPair,
    genesis: ChainHead,
    head: ChainHead,
    key: TagKey,
    key_index: u32,
    boot: u32,
    seq: u64,
    rows: Vec<EventRow>,
}

impl Chain {
    fn new(source: &str, pair: KeyPair, root: &[u8]) -> Self {
        let genesis = ChainHead::genesis(root);
        Self {
            source: Source::new(source).unwrap(),
            key: TagKey::of_trial(&pair.tag_secret(), &genesis),
            pair,
            genesis,
            head: genesis,
            key_index: 0,
            boot: 0,
            seq: 0,
            rows: Vec::new(),
        }
    }

    fn turn_key(&mut self) {
        self.key = self.key.next();
        self.key_index += 1;
    }

    fn start(&mut self) {
        self.boot += 1;
        self.turn_key();
    }

    fn add(&mut self, fact: &Fact, tick_ms: u64, times: (i64, Option<u64>, i64)) {
        self.seq += 1;
        let head = Head {
            boot: self.boot,
            seq: self.seq,
            tick_ms,
        };
        let raw = fact.encode(head).unwrap();
        self.head = self.head.after(&raw);
        let tag = self.key.tag(&self.head);
        let (at, uncertainty, received) = times;
        let row = EventRow::new(self.source, &raw, tag, at, uncertainty, received).unwrap();
        self.rows.push(row);
        if matches!(fact, Fact::Pump(Body::Checkpoint(_))) {
            self.turn_key();
        }
    }

    fn checkpoint(&self, tick_ms: u64) -> Fact {
        let through = self.seq;
        let message = checkpoint_message(
            &self.genesis,
            self.boot,
            tick_ms,
            through,
            through,
            self.key_index,
            &self.head,
        );
        Fact::Pump(Body::from(Checkpoint {
            through_seq: through,
            count: through,
            key_index: self.key_index,
            head: self.head.0,
            signature: self.pair.sign(&message),
        }))
    }
}

/// What happens at the pump, and what the gateway says meanwhile.
struct World {
    pump: Chain,
    gateway: Chain,
    boot_at: i64,
    digested: usize,
}

impl World {
    /// The pump says something; the gateway hears it 40 ms later, half of it uncertain.
    fn pump(&mut self, tick: u64, body: impl Into<Body>) {
        let at = self.boot_at + i64::try_from(tick).unwrap();
        let fact = Fact::Pump(body.into());
        self.pump.add(&fact, tick, (at, Some(20), at + 40));
        if self.pump.rows.len() - self.digested >= 64 {
            self.stored(at + 50);
        }
    }

    fn checkpoint(&mut self, tick: u64) {
        let Fact::Pump(body) = self.pump.checkpoint(tick) else {
            return;
        };
        self.pump(tick, body);
    }

    fn gateway(&mut self, at: i64, fact: &Fact) {
        let tick = u64::try_from(at).unwrap();
        self.gateway.add(fact, tick, (at, Some(0), at));
    }

    fn gateway_checkpoint(&mut self, at: i64) {
        let fact = self.gateway.checkpoint(u64::try_from(at).unwrap());
        self.gateway(at, &fact);
    }

    fn stored(&mut self, at: i64) {
        let rows = &self.pump.rows[self.digested..];
        if rows.is_empty() {
            return;
        }
        let fact = stored_fact(rows);
        self.digested = self.pump.rows.len();
        self.gateway(at, &fact);
    }

    /// Two seqs that the journal no longer holds, and the pump's word for it.
    fn lose(&mut self, tick: u64) {
        let from_seq = self.pump.seq + 1;
        for _ in 0..2 {
            let battery = Battery {
                percent: 50,
                minutes_left: 600,
            };
            self.pump(tick, battery);
            self.pump.rows.pop();
        }
        let to_seq = self.pump.seq;
        self.pump(tick, JournalLost { from_seq, to_seq });
    }

    /// An hour of life: counters, scores, boluses.
    fn hour(&mut self, from: u64, delivered: &mut u64) {
        for minute in 1..=12u32 {
            let tick = from + u64::from(minute) * 4 * MINUTE;
            *delivered += 6_667;
            self.pump(
                tick,
                Delivered {
                    delivered_nl: *delivered,
                    programmed_nl: *delivered + 3,
                    strokes: *delivered / 1_000,
                    encoder_counts: *delivered / 10,
                },
            );
        }
        self.pump(
            from + 50 * MINUTE,
            PainScore {
                score: 4,
                confirmed: true,
                condition: Condition::Rest,
                prompt_id: Some(u32::try_from(from / HOUR).unwrap()),
                answer_delay_ms: Some(4_200),
                corrects_seq: None,
            },
        );
        self.pump(
            from + 51 * MINUTE,
            BolusRequested {
                decision: BolusDecision::Granted {
                    requested_nl: 20_000,
                },
            },
        );
        *delivered += 20_000;
        self.pump(
            from + 52 * MINUTE,
            BolusDelivered {
                requested_nl: 20_000,
                delivered_nl: 20_000,
                complete: true,
            },
        );
        self.pump(
            from + 53 * MINUTE,
            BolusRequested {
                decision: BolusDecision::Denied {
                    reason: Refusal::Lockout,
                    wait_ms: Some(60_000),
                },
            },
        );
        self.pump(
            from + 58 * MINUTE,
            PromptNotAnswered {
                prompt_id: 900,
                condition: Condition::Movement,
                prompted_at_tick_ms: from + 54 * MINUTE,
            },
        );
        self.checkpoint(from + HOUR);
    }
}

/// The gateway's digest over rows that follow one another.
pub(crate) fn stored_fact(rows: &[EventRow]) -> Fact {
    let mut digest = RowsDigest::default();
    for row in rows {
        digest.add(row, &canonical_json(&row.body));
    }
    Stored {
        source: rows[0].source.to_string(),
        from_seq: rows[0].seq,
        to_seq: rows[rows.len() - 1].seq,
        digest: digest.finish(),
    }
    .into()
}

/// The signed manifest of the trial.
pub(crate) fn manifest() -> SignedManifest {
    let manifest = Manifest {
        schema: SCHEMA.into(),
        trial_id: Some(TRIAL.into()),
        bed: Some("07".into()),
        pump: Source::new(PUMP).unwrap(),
        pump_key: pump_pair().public(),
        gateway_key: None,
        drug: "morphine".into(),
        concentration_mcg_per_ml: 500,
        route: "intrathecal".into(),
        zone: "Europe/Berlin".into(),
        baseline_start_utc_ms: START,
        run_in_h: None,
        protocol: "pain-50".into(),
        limits: Limits {
            bolus_nl: 20_000,
            lockout_ms: 1_800_000,
            max_1h_nl: 200_000,
            max_4h_nl: 600_000,
            max_24h_nl: 3_000_000,
        },
        simulated: None,
    };
    manifest.sign(&KeyPair::from_seed([4; 32])).unwrap()
}

/// All rows of the trial: the pump's, then the gateway's. With `hours` an hour more or less of
/// life; `hole` makes the pump's journal lose two events in the second start.
pub(crate) fn rows(hours: u64, hole: bool) -> (Vec<EventRow>, Vec<EventRow>) {
    let signed = manifest();
    let root = signed.as_chain_root();
    let mut world = World {
        pump: Chain::new(PUMP, pump_pair(), root),
        gateway: Chain::new(GATEWAY, gateway_pair(), root),
        boot_at: START,
        digested: 0,
    };
    world.gateway.start();
    world.gateway(
        START + 100,
        &GatewayStarted {
            software: "thecal 0.1.0".into(),
            bed: "07".into(),
            trial: TRIAL.into(),
            pump: PUMP.into(),
        }
        .into(),
    );
    let mut delivered = 0;
    for boot in 1..=2u32 {
        world.boot_at = START + i64::from(boot - 1) * i64::try_from((hours + 1) * HOUR).unwrap();
        world.pump.start();
        world.pump(
            5,
            PoweredOn {
                reason: BootReason::PowerOn,
                firmware: [0, 1, 0],
                own_clock_utc_ms: None,
            },
        );
        world.checkpoint(6);
        world.pump(
            7,
            SelfTest {
                passed: true,
                failed_parts: 0,
            },
        );
        let anchor = BootAnchored {
            source: PUMP.into(),
            boot,
            at_utc_ms: world.boot_at,
            uncertainty_ms: 20,
        };
        world.gateway(world.boot_at + 300, &anchor.into());
        world.pump(
            1_000,
            InfusionStarted {
                purpose: Purpose::Therapy,
                programmed_nl_per_h: 100_000,
            },
        );
        for hour in 0..hours {
            world.hour(hour * HOUR, &mut delivered);
            if hole && boot == 2 && hour == 0 {
                world.lose((hour + 1) * HOUR + 1);
            }
        }
    }
    let end = (hours * HOUR) + MINUTE;
    let at = world.boot_at + i64::try_from(end).unwrap();
    let who = ("nurse-1", "nurse");
    world.gateway(
        at - 40_000,
        &Observation {
            what: "resp_rate".into(),
            value_milli: 14_000,
            at_utc_ms: at - 60_000,
            by: who.0.into(),
            role: who.1.into(),
            entry_id: "e-1".into(),
        }
        .into(),
    );
    world.gateway(
        at - 30_000,
        &Rescue {
            drug: "ibuprofen".into(),
            dose_mcg: 400_000,
            route: "oral".into(),
            reason: "other_pain".into(),
            scheduled: false,
            at_utc_ms: at - 70_000,
            by: who.0.into(),
            role: who.1.into(),
            entry_id: "e-2".into(),
        }
        .into(),
    );
    world.gateway(
        at - 20_000,
        &LinkChanged {
            pump: PUMP.into(),
            up: true,
            silent_ms: 6_000,
        }
        .into(),
    );
    world.gateway(
        at - 10_000,
        &AlarmChanged {
            alarm: "link_lost".into(),
            priority: Priority::Medium,
            change: "cleared".into(),
            text: "The pump is heard again".into(),
        }
        .into(),
    );
    let reason = StopReason::Closed;
    world.pump(end, InfusionStopped { reason });
    world.pump(
        end + 1,
        TrialClosed {
            reason: CloseReason::Planned,
        },
    );
    world.checkpoint(end + 2);
    world.stored(at + 1_000);
    world.gateway_checkpoint(at + 1_100);
    let own = stored_fact(&world.gateway.rows);
    world.gateway(at + 1_200, &own);
    let closed = TrialClosed {
        reason: CloseReason::Planned,
    };
    world.gateway(at + 1_300, &Fact::Pump(closed.into()));
    world.gateway_checkpoint(at + 1_400);
    (world.pump.rows, world.gateway.rows)
}

/// The hole that [`rows`] makes.
pub(crate) fn hole_of(pump_rows: &[EventRow]) -> (u64, u64) {
    let lost = pump_rows.iter().find(|row| row.kind == "journal_lost");
    let body = &lost.unwrap().body;
    (
        body["from_seq"].as_u64().unwrap(),
        body["to_seq"].as_u64().unwrap(),
    )
}

/// The words that a recorder adds.
pub(crate) fn words() -> Vec<(String, String)> {
    let manifest = serde_json::to_string(&manifest()).unwrap();
    vec![
        ("trial_id".into(), TRIAL.into()),
        ("origin".into(), "pump".into()),
        ("manifest".into(), manifest),
        ("zone".into(), "Europe/Berlin".into()),
        ("gw".into(), "gw-07".into()),
        ("bed".into(), "07".into()),
        (
            format!("gateway_key.{GATEWAY}"),
            gateway_pair().public().to_string(),
        ),
    ]
}

/// A record of these rows; sealed and closed as a recorder does where `sealed`.
pub(crate) fn write_record(path: &Path, rows: &[&[EventRow]], sealed: bool) {
    let mut record = Record::create(path).unwrap();
    for (key, value) in words() {
        record.set_meta(&key, &value).unwrap();
    }
    for rows in rows {
        record.append(rows, START).unwrap();
    }
    let lost = rows[0].iter().any(|row| row.kind == "journal_lost");
    if lost {
        let (from_seq, to_seq) = hole_of(rows[0]);
        let hole = Hole {
            source: PUMP.into(),
            from_seq,
            to_seq,
            reason: "lost in the pump's journal, declared by the pump".into(),
            noted_at_utc_ms: START,
        };
        record.note_hole(&hole).unwrap();
    }
    if sealed {
        for source in [PUMP, GATEWAY] {
            record
                .seal(source, "ward-1", &recorder_pair(), START + 1)
                .unwrap();
        }
        let (by, key) = ("ward-1", recorder_pair());
        record
            .close_sealed("closed by pump and gateway", by, &key, START + 1)
            .unwrap();
    } else {
        record.fold().unwrap();
    }
}

/// A whole, sealed record.
pub(crate) fn write_golden(path: &Path) -> (Vec<EventRow>, Vec<EventRow>) {
    let (pump, gateway) = rows(2, false);
    write_record(path, &[&pump, &gateway], true);
    (pump, gateway)
}

/// The spool that the gateway would have, of this trial and a few rows of another.
pub(crate) fn write_spool(path: &Path, rows: &[&[EventRow]]) {
    let mut spool = Spool::open(path).unwrap();
    for (key, value) in words() {
        if !matches!(key.as_str(), "trial_id" | "origin" | "gw") {
            spool.set_meta(TRIAL, &key, &value).unwrap();
        }
    }
    spool.set_meta(TRIAL, "closed", "planned").unwrap();
    spool.set_meta("T-0002", "bed", "08").unwrap();
    for rows in rows {
        spool.append(rows.iter().map(|row| (TRIAL, row))).unwrap();
    }
    let other = rows[0].iter().take(3).map(|row| ("T-0002", row));
    spool.append(other).unwrap();
}
