//! The bed: the pump's true program on its simulated board, the hands at its keys, and what they
//! saw. Time is the trial's, milliseconds.
//!
//! Power can fail between two calls or at any byte of a write or an erase. What the hands saw
//! ticked is logged at once, from the pump's face; the judge holds the record against that log.

use super::dice::Dice;
use super::plan::Plan;
use device_sim::board::SimBoard;
use device_sim::memory::Memory;
use device_sim::plant::Plant;
use firmware::acts::Act;
use firmware::line::Line;
use firmware::program::Program;
use firmware::provision::{self, PromptPlan, Provision};
use firmware::pump::{Input, Pump};
use firmware::texts::Message;
use protocol::event::{Body, BootReason, CloseReason, Delivered, Key, Purpose, Raw, decode};
use protocol::hex::Tag;
use protocol::keys::KeyPair;
use protocol::manifest::{Limits, Manifest, SCHEMA, SignedManifest, Simulated};
use protocol::message::Source;
use protocol::time::Uptime;
use protocol::units::{Concentration, FlowRate, Volume};
use std::collections::BTreeMap;

pub(crate) const TRIAL: &str = "T-SIM";
pub(crate) const BED: &str = "01";
pub(crate) const PUMP: &str = "EP-SIM";
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;
const HOLD_MS: u64 = 120;
const BOLUS_NL: u32 = 50_000;

#[derive(Clone, Copy, Debug)]
enum Due {
    Key {
        key: Key,
        pressed: bool,
    },
    Act(Act),
    /// The patient thinks of the pain.
    Score,
    /// The patient wants a bolus.
    Bolus,
    /// The nurse begins, or ends, an infusion.
    Infusion,
    /// The nurse closes the trial, until the pump has.
    Close,
    /// The supply comes back.
    PowerOn,
}

/// What the patient typed and what the face said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticked {
    pub(crate) score: u8,
    pub(crate) confirmed: bool,
}

/// Everything that truly happened at the pump.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Each event that the journal ever held, with its tag.
    pub(crate) events: BTreeMap<u64, (Raw, Tag)>,
    /// Scores whose tick was seen: by the seq of their event.
    pub(crate) ticked: BTreeMap<u64, Ticked>,
    /// Events found in the journal after a cut that nobody saw ticked.
    pub(crate) unseen: u64,
    /// Encoder counts of all starts, as the motor truly moved.
    pub(crate) counts: u64,
    /// Of these, moved after the last report before a cut.
    pub(crate) unreported: u64,
    pub(crate) power_cuts: u64,
    pub(crate) torn: u64,
}

struct On {
    pump: Pump<SimBoard>,
    line: Line,
    booted_ms: u64,
    /// Counts that the journal knew at this start.
    base: u64,
}

enum Power {
    On(Box<On>),
    Off(Box<SimBoard>),
    Between,
}

pub(crate) struct Bed {
    provision: Box<Provision>,
    pub(crate) manifest: SignedManifest,
    pub(crate) keys: KeyPair,
    power: Power,
    due: BTreeMap<(u64, u64), Due>,
    order: u64,
    dice: Dice,
    seen: u64,
    now_ms: u64,
    infusion_part: f64,
    cut_a_call: f64,
    cut_after_event: f64,
    pub(crate) calm: bool,
    pub(crate) truth: Truth,
    /// What the encoder and the journal had counted when power failed.
    cut_short: Option<(u64, u64)>,
    /// The first thing that was wrong at the bed itself.
    pub(crate) wrong: Option<String>,
}

impl core::fmt::Debug for Bed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let face = match &self.power {
            Power::On(on) => {
                let tick = self.now_ms.saturating_sub(on.booted_ms);
                Some(on.pump.face(tick, false))
            }
            Power::Off(_) | Power::Between => None,
        };
        f.debug_struct("Bed")
            .field("seen", &self.seen)
            .field("now_ms", &self.now_ms)
            .field("next_ms", &self.next_ms())
            .field("face", &face)
            .finish_non_exhaustive()
    }
}

fn manifest(keys: &KeyPair, plan: &Plan) -> SignedManifest {
    let manifest = Manifest {
        schema: SCHEMA.into(),
        trial_id: Some(TRIAL.into()),
        bed: Some(BED.into()),
        pump: Source::new(PUMP).expect("a name"),
        pump_key: keys.public(),
        gateway_key: None,
        drug: "morphine".into(),
        concentration_mcg_per_ml: 500,
        route: "intrathecal".into(),
        zone: "UTC".into(),
        baseline_start_utc_ms: plan.origin_utc_ms,
        run_in_h: None,
        protocol: "pain-50".into(),
        limits: Limits {
            bolus_nl: BOLUS_NL,
            lockout_ms: 3_600_000,
            max_1h_nl: 200_000,
            max_4h_nl: 650_000,
            max_24h_nl: 3_500_000,
        },
        simulated: Some(Simulated {
            patient: "script".into(),
            seed: plan.seed,
            speed: plan.speed,
        }),
    };
    manifest.sign(keys).expect("a short manifest")
}

fn provision(keys: &KeyPair, signed: &SignedManifest) -> Provision {
    let limits = provision::Limits {
        bolus: Volume::from_nanoliters(u64::from(BOLUS_NL)),
        lockout_ms: 3_600_000,
        max_1h: Volume::from_nanoliters(200_000),
        max_4h: Volume::from_nanoliters(650_000),
        max_24h: Volume::from_nanoliters(3_500_000),
    };
    let mut provision = Provision::new(
        Source::new(PUMP).expect("a name"),
        keys.public(),
        &signed.to_bytes(),
        limits,
        Program::constant(FlowRate::from_nanoliters_per_hour(100_000)),
        Concentration::from_micrograms_per_milliliter(500),
    )
    .expect("a short manifest");
    provision.simulated = true;
    provision.prompts = PromptPlan {
        rest_every_min: 240,
        movement_every_min: 0,
        ..PromptPlan::default()
    };
    provision
}

impl Bed {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed, 2);
        let mut key_seed = [0; 32];
        for chunk in key_seed.chunks_mut(8) {
            chunk.copy_from_slice(&dice.bits().to_le_bytes());
        }
        let keys = KeyPair::from_seed(key_seed);
        let manifest = manifest(&keys, plan);
        let provision = Box::new(provision(&keys, &manifest));
        let mut plant = Plant::new(plan.seed, 800_000, 20_000_000, 500);
        plant.catheter.connect(true);
        let memory = Memory::in_ram(plan.flash_bytes);
        let mut board = SimBoard::new(plant, memory, keys.clone(), plan.origin_utc_ms);
        let mut bed = Self {
            power: Power::Between,
            due: BTreeMap::new(),
            order: 0,
            seen: 0,
            now_ms: 0,
            infusion_part: plan.infusion_part,
            cut_a_call: plan.power_cut_a_call,
            cut_after_event: plan.power_cut_after_event,
            calm: false,
            truth: Truth::default(),
            cut_short: None,
            wrong: None,
            provision,
            manifest,
            keys,
            dice,
        };
        match Pump::format(&mut board, &bed.provision, &bed.keys.tag_secret()) {
            Ok(()) => bed.power = Power::Off(Box::new(board)),
            Err(e) => bed.wrong = Some(format!("format: {e}")),
        }
        bed.plan(0, Due::PowerOn);
        bed.plan(20 * MINUTE_MS, Due::Infusion);
        bed.plan(5 * MINUTE_MS, Due::Score);
        bed.plan(HOUR_MS, Due::Bolus);
        bed.plan(plan.hours * HOUR_MS, Due::Close);
        bed
    }

    fn plan(&mut self, at_ms: u64, due: Due) {
        self.order += 1;
        self.due.insert((at_ms, self.order), due);
    }

    fn press(&mut self, at_ms: u64, key: Key) {
        self.plan(at_ms, Due::Key { key, pressed: true });
        let pressed = false;
        self.plan(at_ms + HOLD_MS, Due::Key { key, pressed });
    }

    pub(crate) fn closed(&self) -> bool {
        matches!(&self.power, Power::On(on) if on.pump.closed())
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.seen
    }

    /// Whether the journal still holds an event.
    pub(crate) fn could_be_had(&self, seq: u64) -> bool {
        matches!(&self.power, Power::On(on) if on.pump.event(seq).is_some())
    }

    /// When something is next due at the bed, trial milliseconds.
    pub(crate) fn next_ms(&self) -> u64 {
        let wake = match &self.power {
            Power::On(on) => on.booted_ms.saturating_add(on.pump.next_wake()),
            Power::Off(_) | Power::Between => u64::MAX,
        };
        let due = self
            .due
            .first_key_value()
            .map_or(u64::MAX, |((at, _), _)| *at);
        wake.min(due)
    }

    /// Does everything that is due until then.
    pub(crate) fn advance(&mut self, until_ms: u64) {
        loop {
            let next = self.next_ms();
            if next > until_ms || self.wrong.is_some() {
                break;
            }
            self.now_ms = self.now_ms.max(next);
            self.arm(self.cut_a_call);
            let due = match self.due.first_entry() {
                Some(entry) if entry.key().0 <= next => Some(entry.remove()),
                Some(_) | None => None,
            };
            match due {
                Some(due) => self.happen(due),
                None => self.call(|pump, tick| {
                    pump.handle_time(tick);
                    Ok(())
                }),
            }
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    /// Perhaps the supply fails within the next bytes that are written.
    fn arm(&mut self, probability: f64) {
        if self.calm || !self.dice.happens(probability) {
            return;
        }
        let bytes = self.dice.spread(1, 8_192) - 1;
        if let Power::On(on) = &mut self.power {
            on.pump.board_mut().memory.set_fuse(bytes);
        }
    }

    /// Calls the pump, then looks at what became of it.
    fn call(
        &mut self,
        what: impl FnOnce(&mut Pump<SimBoard>, u64) -> Result<(), firmware::acts::Refused>,
    ) {
        let now_ms = self.now_ms;
        let Power::On(on) = &mut self.power else {
            return;
        };
        on.pump.board_mut().set_now(now_ms);
        let tick = now_ms.saturating_sub(on.booted_ms);
        // A refused act is an answer, too.
        let _ = what(&mut on.pump, tick);
        if on.pump.board().memory.dark() {
            self.truth.torn += 1;
            self.cut_power();
        } else {
            self.look(tick);
        }
    }

    /// Reads what the pump journaled, and its face.
    fn look(&mut self, tick: u64) {
        let Power::On(on) = &self.power else { return };
        let last = on.pump.last_seq();
        if last == self.seen {
            return;
        }
        let face = on.pump.face(tick, false);
        let mut fresh = Vec::new();
        for seq in self.seen + 1..=last {
            if let Some((raw, tag)) = on.pump.event(seq) {
                fresh.push((seq, raw, tag));
            }
        }
        let encoder = device_encoder(&on.pump);
        let base = on.base;
        self.seen = last;
        for (seq, raw, tag) in fresh {
            match decode(&raw).map(|(_, body)| body) {
                Ok(Body::PainScore(score)) => {
                    let ticked = Ticked {
                        score: score.score,
                        confirmed: score.confirmed,
                    };
                    let shown = matches!(face.message, Some(Message::Saved { score, confirmed })
                        if (score, confirmed) == (ticked.score, ticked.confirmed));
                    if shown && face.saved {
                        self.truth.ticked.insert(seq, ticked);
                    } else {
                        self.wrong = Some(format!("score {seq} is journaled and not ticked"));
                    }
                }
                Ok(Body::Delivered(told)) => self.check_counters(&told, encoder, base),
                Ok(_) => {}
                Err(e) => self.wrong = Some(format!("the pump journaled {seq}: {e}")),
            }
            self.truth.events.insert(seq, (raw, tag));
        }
        self.arm(self.cut_after_event);
    }

    /// The counters of a report against the motor: at most the group that is under way is missing.
    fn check_counters(&mut self, told: &Delivered, encoder: u64, base: u64) {
        let moved = base + encoder;
        let nl = told.encoder_counts * 50_000 / 800;
        if told.encoder_counts > moved || moved - told.encoder_counts > 80 {
            let counts = told.encoder_counts;
            self.wrong = Some(format!("{counts} counts told, the motor moved {moved}"));
        }
        if told.delivered_nl != nl {
            let delivered = told.delivered_nl;
            self.wrong = Some(format!("{delivered} nL told, the counts are {nl} nL"));
        }
    }

    /// All the power is gone, now.
    pub(crate) fn cut_power(&mut self) {
        let on = match core::mem::replace(&mut self.power, Power::Between) {
            Power::On(on) => on,
            off @ (Power::Off(_) | Power::Between) => {
                self.power = off;
                return;
            }
        };
        self.truth.power_cuts += 1;
        let (encoder, base) = (device_encoder(&on.pump), on.base);
        self.truth.counts += encoder;
        self.cut_short = Some((encoder, base));
        self.power = Power::Off(Box::new(on.pump.into_board()));
        let off_ms = self.dice.spread(1_000, 4 * HOUR_MS);
        let at_ms = self.now_ms + if self.calm { 1_000 } else { off_ms };
        self.plan(at_ms, Due::PowerOn);
    }

    /// The counts of the last report that the journal holds.
    fn told_counts(&self) -> u64 {
        let bodies = self.truth.events.values().rev();
        let mut counts = bodies.filter_map(|(raw, _)| {
            let Ok((_, Body::Delivered(told))) = decode(raw) else {
                return None;
            };
            Some(told.encoder_counts)
        });
        counts.next().unwrap_or(0)
    }

    fn switch_on(&mut self) {
        let mut board = match core::mem::replace(&mut self.power, Power::Between) {
            Power::Off(board) => board,
            on @ (Power::On(_) | Power::Between) => {
                self.power = on;
                return;
            }
        };
        board.set_now(self.now_ms);
        board.power_on();
        if !self.calm && self.dice.happens(self.cut_after_event) {
            board.memory.set_fuse(self.dice.spread(1, 8_192) - 1);
        }
        let reason = BootReason::BrownOut;
        match Pump::start(*board, &self.provision, reason, 0) {
            Ok(pump) if pump.board().memory.dark() => {
                self.truth.torn += 1;
                self.power = Power::Off(Box::new(pump.into_board()));
                self.truth.power_cuts += 1;
                self.plan(self.now_ms + 5_000, Due::PowerOn);
            }
            Ok(pump) => self.begin(pump),
            Err(failed) if failed.board.memory.dark() => {
                self.truth.power_cuts += 1;
                self.power = Power::Off(Box::new(failed.board));
                self.plan(self.now_ms + 5_000, Due::PowerOn);
            }
            Err(failed) => self.wrong = Some(format!("the pump does not start: {}", failed.error)),
        }
    }

    fn begin(&mut self, pump: Pump<SimBoard>) {
        // What was seen must still be there; what was written in the dark may be.
        let last = pump.last_seq();
        let boot = pump.boot();
        for seq in self.seen.saturating_sub(3)..=self.seen {
            let there = pump.event(seq);
            if self
                .truth
                .events
                .get(&seq)
                .is_some_and(|e| Some(e) != there.as_ref())
            {
                self.wrong = Some(format!("event {seq} was seen and is gone after a cut"));
            }
        }
        for seq in self.seen + 1..=last {
            let Some((raw, tag)) = pump.event(seq) else {
                continue;
            };
            if raw.head().is_ok_and(|head| head.boot < boot) {
                self.truth.unseen += 1;
            }
            self.truth.events.insert(seq, (raw, tag));
        }
        self.seen = last;
        // Reports of this start are made from what was told before it.
        let base = self.told_counts();
        if let Some((encoder, before)) = self.cut_short.take() {
            let told = base.saturating_sub(before);
            self.truth.unreported += encoder.saturating_sub(told);
        }
        let line = Line::new(Uptime::ZERO, &pump);
        let booted_ms = self.now_ms;
        self.power = Power::On(Box::new(On {
            pump,
            line,
            booted_ms,
            base,
        }));
    }

    fn happen(&mut self, due: Due) {
        let now_ms = self.now_ms;
        match due {
            Due::PowerOn => self.switch_on(),
            Due::Key { key, pressed } => {
                if let Power::On(on) = &mut self.power {
                    on.pump.board_mut().set_key(key, pressed);
                } else if let Power::Off(board) = &mut self.power {
                    board.set_key(key, pressed);
                }
                self.call(|pump, tick| pump.handle(tick, Input::Key { key, pressed }));
            }
            Due::Act(act) => self.call(|pump, tick| pump.handle(tick, Input::Act(act))),
            Due::Score => {
                let mut at_ms = now_ms;
                let score = self.dice.whole(0, 10);
                let digits = if score == 10 { vec![1, 0] } else { vec![score] };
                for digit in digits {
                    let place = usize::try_from(digit).unwrap_or(0);
                    self.press(at_ms, Key::ALL.get(place).copied().unwrap_or(Key::Digit0));
                    at_ms += self.dice.whole(400, 1_500);
                }
                if self.dice.happens(0.9) {
                    self.press(at_ms, Key::Confirm);
                }
                if self.dice.happens(0.1) {
                    self.press(at_ms + 3_000, Key::Clear);
                    self.press(at_ms + 4_000, Key::Digit3);
                    self.press(at_ms + 5_000, Key::Confirm);
                }
                let next = now_ms + 30_000 + self.dice.around(50 * MINUTE_MS);
                self.plan(next, Due::Score);
            }
            Due::Bolus => {
                self.press(now_ms, Key::Bolus);
                let next = now_ms + 30_000 + self.dice.around(3 * HOUR_MS);
                self.plan(next, Due::Bolus);
            }
            Due::Infusion => self.infusion(),
            Due::Close => {
                if !self.closed() {
                    self.call(|pump, tick| {
                        pump.handle(tick, Input::Act(Act::Close(CloseReason::Planned)))
                    });
                    self.plan(now_ms + MINUTE_MS, Due::Close);
                }
            }
        }
    }

    /// Some hours of therapy, then some without; now and then another rate or reservoir.
    fn infusion(&mut self) {
        let now_ms = self.now_ms;
        let start = Act::Start {
            purpose: Purpose::Therapy,
            until: None,
        };
        let whole_h = 8 * HOUR_MS;
        let on_ms = MINUTE_MS + self.dice.around(scaled(whole_h, self.infusion_part));
        let rate = self.dice.pick(&[80_000, 100_000, 120_000]);
        if self.dice.happens(0.2) {
            let volume = Volume::from_nanoliters(20_000_000);
            let concentration = Concentration::from_micrograms_per_milliliter(500);
            let act = Act::ChangeReservoir {
                volume,
                concentration,
            };
            if let Power::On(on) = &mut self.power {
                on.pump.board_mut().plant.fill(20_000_000);
            }
            self.plan(now_ms, Due::Act(act));
        }
        let rate = FlowRate::from_nanoliters_per_hour(rate);
        self.plan(now_ms + 1_000, Due::Act(Act::ChangeRate(rate)));
        self.plan(now_ms + 2_000, Due::Act(start));
        self.plan(now_ms + 2_000 + on_ms, Due::Act(Act::Stop));
        self.plan(now_ms + whole_h.max(on_ms + 4_000), Due::Infusion);
    }

    /// Bytes of the gateway arrive.
    pub(crate) fn bytes_in(&mut self, wall_ms: u64, bytes: &[u8]) {
        let now_ms = self.now_ms;
        if let Power::On(on) = &mut self.power {
            let tick = now_ms.saturating_sub(on.booted_ms);
            let now = Uptime::from_millis(wall_ms);
            on.line.bytes_in(now, tick, bytes, &on.pump);
        }
    }

    /// Bytes for the gateway; empty where there is nothing to send.
    pub(crate) fn bytes_out(&mut self, wall_ms: u64) -> Vec<u8> {
        let now_ms = self.now_ms;
        let Power::On(on) = &mut self.power else {
            return Vec::new();
        };
        let tick = now_ms.saturating_sub(on.booted_ms);
        let mut room = [0; 256];
        let now = Uptime::from_millis(wall_ms);
        let n = on.line.poll_out(now, tick, &on.pump, &mut room);
        room.get(..n).unwrap_or(&[]).to_vec()
    }

    /// When the line is next due by itself, wall milliseconds.
    pub(crate) fn line_ms(&self) -> u64 {
        match &self.power {
            Power::On(on) => on.line.next_timeout().as_millis(),
            Power::Off(_) | Power::Between => u64::MAX,
        }
    }

    /// At the end: what the motor did since the last start is told to the count.
    pub(crate) fn settle(&mut self) {
        if let Power::On(on) = &self.power {
            let encoder = device_encoder(&on.pump);
            let told = self.told_counts() - on.base;
            self.truth.counts += encoder;
            if told != encoder {
                self.wrong = Some(format!("{told} counts told at the end, {encoder} moved"));
            }
        }
    }
}

fn scaled(ms: u64, part: f64) -> u64 {
    device_sim::math::whole(device_sim::math::float(ms) * part)
}

fn device_encoder(pump: &Pump<SimBoard>) -> u64 {
    use firmware::board::Board as _;
    pump.board().encoder()
}
