//! What the pump knows again after a start, from the journal alone.
//!
//! Known time is the time that the journal tells: within each start from its first event to its
//! last. Time between two starts counts as none, so what was delivered before stays in its windows
//! and a lockout does not run out while the pump is off. Where power failed while infusing, the
//! most that could have left the pump since the last counters counts as delivered. Both are the
//! worst case (`facts/devices-and-faults.md` F7).

use crate::alarms::{Alarms, Change};
use crate::board::{Board, NvError};
use crate::dose::{Counters, Dose};
use crate::journal::{Entry, Journal};
use crate::provision::Calibration;
use crate::supervisor::Supervisor;
use crate::window::Windows;
use protocol::event::{
    AlarmCode, Body, BolusDecision, Delivered, Head, Key, Phase, Purpose, decode,
};
use protocol::units::{FlowRate, HOUR_MS, Volume, divided};

/// The counters are journaled at least so often while infusing.
pub(crate) const REPORT_MS: u64 = 60_000;

/// How far the closing of the trial came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The trial goes on.
    Open,
    /// Closed, without the checkpoint that must follow.
    Unsigned,
    /// Closed and signed.
    Closed,
}

/// A bolus that was granted and of which no end is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenBolus {
    pub(crate) requested: Volume,
    at_grant: Volume,
    pub(crate) delivered: Volume,
}

/// What is known again.
#[derive(Debug)]
pub(crate) struct Recall {
    calibration: Calibration,
    pub(crate) known_ms: u64,
    pub(crate) counters: Counters,
    delivered: Option<Volume>,
    delivered_known_ms: u64,
    flow_told: bool,
    pub(crate) infusing: Option<(Purpose, FlowRate)>,
    pub(crate) bolus: Option<OpenBolus>,
    pub(crate) last_grant_known_ms: Option<u64>,
    pub(crate) alarms: Alarms,
    /// One bit a key, in the order of `Key::ALL`.
    pub(crate) stuck: u16,
    pub(crate) closing: Closing,
    pub(crate) spent_key: Option<u32>,
    signed_boot: u32,
    pub(crate) unreadable: u64,
    last: Option<Head>,
}

/// Those who hold limits and are told what was delivered before. Borrowed, each in its place in the
/// pump: they are large.
#[derive(Debug)]
pub(crate) struct Holders<'a> {
    pub(crate) dose: &'a mut Dose,
    pub(crate) supervisor: &'a mut Supervisor,
    pub(crate) windows: &'a mut Windows,
}

impl Recall {
    /// Reads the whole journal; also tells the holders of limits what their hours hold.
    #[inline(never)]
    pub(crate) fn read<B: Board>(
        board: &B,
        journal: &Journal,
        calibration: Calibration,
        mut holders: Holders<'_>,
    ) -> Result<Self, NvError> {
        let mut recall = Self {
            calibration,
            known_ms: 0,
            counters: Counters::default(),
            delivered: None,
            delivered_known_ms: 0,
            flow_told: false,
            infusing: None,
            bolus: None,
            last_grant_known_ms: None,
            alarms: Alarms::default(),
            stuck: 0,
            closing: Closing::Open,
            spent_key: None,
            signed_boot: 0,
            unreadable: 0,
            last: None,
        };
        let damage = journal.for_each(board, |entry| recall.take(entry, &mut holders))?;
        recall.unreadable = damage.unreadable;
        recall.count_unknown(&mut holders);
        Ok(recall)
    }

    /// Whether power failed before the last start could sign.
    pub(crate) fn last_start_is_unsigned(&self) -> bool {
        self.last.is_some_and(|last| last.boot > self.signed_boot)
    }

    fn take(&mut self, entry: &Entry, holders: &mut Holders<'_>) {
        let head = entry.head;
        let before = self.last.filter(|b| b.boot == head.boot);
        let passed = before.map_or(0, |b| head.tick_ms.saturating_sub(b.tick_ms));
        self.known_ms = self.known_ms.saturating_add(passed);
        self.last = Some(head);
        if head.seq == 1 {
            self.delivered = Some(Volume::ZERO);
        }
        let Ok((_, body)) = decode(&entry.raw) else {
            return;
        };
        match body {
            Body::PoweredOn(_) => self.count_unknown(holders),
            Body::InfusionStarted(started) => {
                let rate = FlowRate::from_nanoliters_per_hour(started.programmed_nl_per_h);
                self.infusing = Some((started.purpose, rate));
                self.flow_told = true;
            }
            Body::InfusionStopped(_) => {
                self.infusing = None;
                self.flow_told = true;
            }
            Body::RateChanged(changed) => {
                let rate = FlowRate::from_nanoliters_per_hour(changed.programmed_nl_per_h);
                self.infusing = self.infusing.map(|(purpose, _)| (purpose, rate));
            }
            Body::Delivered(counters) => self.take_delivered(&counters, holders),
            Body::BolusRequested(request) => {
                if let BolusDecision::Granted { requested_nl } = request.decision {
                    self.last_grant_known_ms = Some(self.known_ms);
                    self.bolus = Some(OpenBolus {
                        requested: Volume::from_nanoliters(requested_nl),
                        at_grant: self.delivered.unwrap_or_default(),
                        delivered: Volume::ZERO,
                    });
                }
            }
            Body::BolusDelivered(_) => self.bolus = None,
            Body::Alarm(alarm) => self.alarms.recall(Change {
                code: alarm.code,
                priority: alarm.priority,
                phase: alarm.phase,
            }),
            Body::KeyStuck(stuck) => {
                let bit = bit_of(stuck.key);
                match stuck.phase {
                    Phase::Start => self.stuck |= bit,
                    Phase::End => self.stuck &= !bit,
                }
            }
            Body::Checkpoint(checkpoint) => {
                self.spent_key = Some(checkpoint.key_index);
                self.signed_boot = head.boot;
                if self.closing == Closing::Unsigned {
                    self.closing = Closing::Closed;
                }
            }
            Body::TrialClosed(_) => self.closing = Closing::Unsigned,
            Body::PainScore(_)
            | Body::PromptNotAnswered(_)
            | Body::Reservoir(_)
            | Body::Battery(_)
            | Body::Door(_)
            | Body::ProgramChanged(_)
            | Body::ClockSet(_)
            | Body::SelfTest(_)
            | Body::JournalLost(_)
            | Body::Unknown(_) => {}
        }
    }

    fn take_delivered(&mut self, counters: &Delivered, holders: &mut Holders<'_>) {
        let delivered = Volume::from_nanoliters(counters.delivered_nl);
        // Where the ring turned over, the first counters only say where the next ones begin.
        let before = self.delivered.replace(delivered);
        let more = delivered.saturating_sub(before.unwrap_or(delivered));
        if !self.flow_told && before.is_some() {
            self.guess_flow(counters);
        }
        self.delivered_known_ms = self.known_ms;
        self.counters = Counters {
            programmed: Volume::from_nanoliters(counters.programmed_nl),
            encoder_counts: counters.encoder_counts,
        };
        if let Some(bolus) = &mut self.bolus {
            bolus.delivered = delivered
                .saturating_sub(bolus.at_grant)
                .min(bolus.requested);
        }
        let to_patient = !matches!(self.infusing, Some((Purpose::Prime | Purpose::Purge, _)));
        if to_patient {
            self.count(more, holders);
        }
    }

    /// The journal no longer holds the event that began the infusion, but its counters go up.
    fn guess_flow(&mut self, counters: &Delivered) {
        let before = self.counters.programmed.as_nanoliters();
        let asked = counters.programmed_nl.saturating_sub(before);
        let ms = self.known_ms.saturating_sub(self.delivered_known_ms).max(1);
        let (nl_per_h, _) = divided(u128::from(asked) * u128::from(HOUR_MS), ms);
        let rate = FlowRate::from_nanoliters_per_hour(u32::try_from(nl_per_h).unwrap_or(u32::MAX));
        self.infusing = (asked > 0).then_some((Purpose::Therapy, rate));
    }

    fn count(&mut self, volume: Volume, holders: &mut Holders<'_>) {
        holders.windows.add(self.known_ms, volume);
        holders.dose.recall(self.known_ms, volume);
        holders
            .supervisor
            .recall(self.known_ms, volume.as_nanoliters());
    }

    /// Power failed while infusing: the most that left the pump after the last counters.
    fn count_unknown(&mut self, holders: &mut Holders<'_>) {
        let Some((Purpose::Therapy, rate)) = self.infusing else {
            return;
        };
        let (basal, _) = rate.volume_in(REPORT_MS, 0);
        let of_bolus = self.bolus.map_or(0, |b| {
            b.requested.saturating_sub(b.delivered).as_nanoliters()
        });
        let group = self.calibration.stroke.as_nanoliters() / 10;
        let most = basal.as_nanoliters() + group + of_bolus;
        self.count(Volume::from_nanoliters(most), holders);
    }
}

/// The bit of a key in masks of keys.
pub(crate) fn bit_of(key: Key) -> u16 {
    let place = Key::ALL.iter().position(|k| *k == key).unwrap_or(0);
    1u16.checked_shl(u32::try_from(place).unwrap_or(0))
        .unwrap_or(0)
}

/// Whether a recalled condition ends with a start, since nothing is infused after one. Conditions
/// of sensors and latches are looked at again instead.
pub(crate) fn ends_with_start(code: AlarmCode) -> bool {
    match code {
        AlarmCode::UnderDelivery
        | AlarmCode::KeyStuck
        | AlarmCode::Storage
        | AlarmCode::SelfTest => true,
        AlarmCode::DownstreamOcclusion
        | AlarmCode::UpstreamOcclusion
        | AlarmCode::AirInLine
        | AlarmCode::ReservoirLow
        | AlarmCode::ReservoirEmpty
        | AlarmCode::BatteryLow
        | AlarmCode::BatteryFlat
        | AlarmCode::OverDelivery
        | AlarmCode::DoorOpen
        | AlarmCode::SupervisorStop => false,
    }
}
