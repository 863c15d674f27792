//! What a clinician may do at the pump. There is no other way to change delivery, and none of it
//! can be said over the serial line.

use crate::board::Board;
use crate::program::{LocalClock, Program};
use crate::pump::Pump;
use crate::settings::Settings;
use protocol::event::{
    AlarmCode, Body, ChangedBy, ClockSet, CloseReason, InfusionStarted, ProgramChanged, Purpose,
    Reservoir, ReservoirChange, StopReason, TrialClosed,
};
use protocol::units::{Concentration, FlowRate, Volume};
use protocol::wire_enum;

/// An act at the keypad, behind the clinician's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Begin to infuse: the program, or a line's filling or flushing at the prime rate.
    Start {
        /// What for.
        purpose: Purpose,
        /// Filling and flushing end by themselves after this volume. Not for therapy.
        until: Option<Volume>,
    },
    /// Stop infusing.
    Stop,
    /// One rate all day from now on; bolus and lockout stay.
    ChangeRate(FlowRate),
    /// Another program, bolus and lockout.
    ChangeProgram {
        /// Rates by day-part.
        program: Program,
        /// One patient bolus; at most the provisioned limit.
        bolus: Volume,
        /// Least time between two; at least the provisioned limit.
        lockout_ms: u32,
    },
    /// A new reservoir; only while stopped.
    ChangeReservoir {
        /// In it.
        volume: Volume,
        /// Of its drug.
        concentration: Concentration,
    },
    /// Set the pump's own clock.
    SetClock {
        /// UTC now.
        utc_ms: u64,
        /// Minutes east of UTC.
        offset_min: i16,
    },
    /// Let the pump infuse again after the supervisor stopped it.
    ReleaseLatch,
    /// End the trial. Nothing can be done at the pump after it.
    Close(CloseReason),
}

wire_enum!(Act {
    0 Start { purpose, until },
    1 Stop,
    2 ChangeRate(rate),
    3 ChangeProgram { program, bolus, lockout_ms },
    4 ChangeReservoir { volume, concentration },
    5 SetClock { utc_ms, offset_min },
    6 ReleaseLatch,
    7 Close(reason),
});

/// Why an act was not done. Nothing changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The trial is closed.
    Closed,
    /// Infusing already, or infusing where it must be stopped first.
    Infusing,
    /// Nothing is infused that could be stopped.
    NotInfusing,
    /// This condition forbids delivery.
    Condition(AlarmCode),
    /// The program has several day-parts and the clock is not set.
    ClockNotSet,
    /// The rates would pass a limit, with what was delivered before.
    OverLimit,
    /// A value that cannot be: a bolus above or a lockout below its limit, an empty reservoir.
    Value,
    /// The journal cannot be written.
    Storage,
}

wire_enum!(Refused {
    0 Closed,
    1 Infusing,
    2 NotInfusing,
    3 Condition(code),
    4 ClockNotSet,
    5 OverLimit,
    6 Value,
    7 Storage,
});

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Closed => f.write_str("the trial is closed"),
            Self::Infusing => f.write_str("the pump is infusing"),
            Self::NotInfusing => f.write_str("the pump is not infusing"),
            Self::Condition(code) => write!(f, "not while there is {}", code.word()),
            Self::ClockNotSet => f.write_str("the program needs the clock, which is not set"),
            Self::OverLimit => f.write_str("a limit of delivery would be passed"),
            Self::Value => f.write_str("a value that cannot be"),
            Self::Storage => f.write_str("the journal cannot be written"),
        }
    }
}

impl core::error::Error for Refused {}

impl<B: Board> Pump<B> {
    pub(crate) fn act(&mut self, act: Act) -> Result<(), Refused> {
        self.observe();
        if self.halted || self.windows.damaged() {
            self.halt();
            return Err(Refused::Condition(AlarmCode::SupervisorStop));
        }
        self.look();
        match act {
            Act::Start { purpose, until } => self.start_infusion(purpose, until),
            Act::Stop => {
                self.dose.following().ok_or(Refused::NotInfusing)?;
                self.stop(StopReason::Keypad);
                Ok(())
            }
            Act::ChangeRate(rate) => {
                let (bolus, lockout_ms) = (self.settings.bolus, self.settings.lockout_ms);
                self.change_program(Program::constant(rate), bolus, lockout_ms)
            }
            Act::ChangeProgram {
                program,
                bolus,
                lockout_ms,
            } => self.change_program(program, bolus, lockout_ms),
            Act::ChangeReservoir {
                volume,
                concentration,
            } => self.change_reservoir(volume, concentration),
            Act::SetClock { utc_ms, offset_min } => self.set_clock(utc_ms, offset_min),
            Act::ReleaseLatch => {
                self.set_alarm(AlarmCode::OverDelivery, false);
                self.set_alarm(AlarmCode::SupervisorStop, false);
                Ok(())
            }
            Act::Close(reason) => {
                self.stop(StopReason::Closed);
                self.log(TrialClosed { reason }).ok_or(Refused::Storage)?;
                self.checkpoint();
                self.closed = true;
                Ok(())
            }
        }
    }

    fn start_infusion(&mut self, purpose: Purpose, until: Option<Volume>) -> Result<(), Refused> {
        if self.dose.following().is_some() {
            return Err(Refused::Infusing);
        }
        if let Some(code) = self.alarms.forbids_delivery() {
            return Err(Refused::Condition(code));
        }
        let rate = match purpose {
            Purpose::Therapy => {
                if until.is_some() {
                    return Err(Refused::Value);
                }
                self.check_program(&self.settings.program)?;
                self.programmed_rate(0)
            }
            Purpose::Prime | Purpose::Purge => self.provision.prime_rate,
        };
        let started = InfusionStarted {
            purpose,
            programmed_nl_per_h: rate.as_nanoliters_per_hour(),
        };
        self.report();
        self.log(started).ok_or(Refused::Storage)?;
        self.follow(purpose, rate);
        self.stop_at = until.and_then(|volume| self.dose.delivered().checked_add(volume));
        Ok(())
    }

    /// Whether a program can be followed: within the limits by itself, and with what was delivered
    /// before. Four hours are checked at the highest rate of the day.
    fn check_program(&self, program: &Program) -> Result<(), Refused> {
        if program.needs_clock() && self.clock.is_none() {
            return Err(Refused::ClockNotSet);
        }
        let limits = &self.provision.limits;
        let peak = u64::from(program.peak().as_nanoliters_per_hour());
        let alone = peak <= limits.max_1h.as_nanoliters()
            && peak * 4 <= limits.max_4h.as_nanoliters()
            && program.volume_a_day() <= limits.max_24h;
        let rate_at = |ahead: u64| {
            let at = self.now.saturating_add(ahead);
            program.rate_at(self.clock.map(|clock| clock.minute_of_day(at)))
        };
        let on_its_way = self.dose.on_its_way();
        let with_past = self
            .windows
            .basal_fits(self.known_ms(), on_its_way, limits, rate_at);
        if alone && with_past {
            Ok(())
        } else {
            Err(Refused::OverLimit)
        }
    }

    fn change_program(
        &mut self,
        program: Program,
        bolus: Volume,
        lockout_ms: u32,
    ) -> Result<(), Refused> {
        let limits = &self.provision.limits;
        let bolus_nl = u32::try_from(bolus.as_nanoliters()).map_err(|_| Refused::Value)?;
        if bolus > limits.bolus || lockout_ms < limits.lockout_ms || bolus == Volume::ZERO {
            return Err(Refused::Value);
        }
        self.check_program(&program)?;
        let minute = self.clock.map(|clock| clock.minute_of_day(self.now));
        let settings = Settings {
            program,
            bolus,
            lockout_ms,
            revision: self.settings.revision.saturating_add(1),
            ..self.settings
        };
        let changed = ProgramChanged {
            revision: settings.revision,
            programmed_nl_per_h: program.rate_at(minute).as_nanoliters_per_hour(),
            concentration_mcg_per_ml: settings.concentration.as_micrograms_per_milliliter(),
            bolus_nl,
            lockout_ms,
        };
        self.change_settings(settings, changed)?;
        self.follow_program(ChangedBy::Keypad);
        self.renew_day_part();
        Ok(())
    }

    fn change_reservoir(
        &mut self,
        volume: Volume,
        concentration: Concentration,
    ) -> Result<(), Refused> {
        if self.dose.following().is_some() {
            return Err(Refused::Infusing);
        }
        if volume == Volume::ZERO || concentration.as_micrograms_per_milliliter() == 0 {
            return Err(Refused::Value);
        }
        let settings = Settings {
            reservoir: volume,
            delivered_at_change: self.dose.delivered(),
            ..self.settings
        };
        let measured_nl = self.board.sensors().measured_reservoir_nl;
        let changed = Reservoir {
            what: ReservoirChange::Changed,
            measured_nl,
            computed_nl: volume.as_nanoliters(),
        };
        self.change_settings(settings, changed)?;
        if concentration != settings.concentration {
            let settings = Settings {
                concentration,
                revision: settings.revision.saturating_add(1),
                ..settings
            };
            let bolus = settings.bolus.as_nanoliters();
            let changed = ProgramChanged {
                revision: settings.revision,
                programmed_nl_per_h: self.programmed_rate(0).as_nanoliters_per_hour(),
                concentration_mcg_per_ml: concentration.as_micrograms_per_milliliter(),
                bolus_nl: u32::try_from(bolus).unwrap_or(u32::MAX),
                lockout_ms: settings.lockout_ms,
            };
            self.change_settings(settings, changed)?;
        }
        self.look();
        Ok(())
    }

    fn set_clock(&mut self, utc_ms: u64, offset_min: i16) -> Result<(), Refused> {
        if !(-14 * 60..=14 * 60).contains(&offset_min) {
            return Err(Refused::Value);
        }
        let settings = Settings {
            offset_min,
            ..self.settings
        };
        let set = ClockSet {
            before_utc_ms: self.board.own_clock_utc_ms(),
            after_utc_ms: utc_ms,
            offset_min,
        };
        self.change_settings(settings, set)?;
        self.board.set_own_clock(utc_ms);
        let clock = LocalClock::new(self.now, utc_ms, offset_min);
        self.clock = Some(clock);
        self.prompts.set_clock(self.now, clock);
        self.follow_program(ChangedBy::Keypad);
        self.renew_day_part();
        Ok(())
    }

    /// Writes the settings, then the event that brings them into force, then uses them.
    fn change_settings(
        &mut self,
        settings: Settings,
        event: impl Into<Body>,
    ) -> Result<(), Refused> {
        let seq = self.ledger.reserve(&mut self.board, self.now);
        let saved = self.store.save(&mut self.board, seq, &settings).is_ok();
        if !saved || self.log(event).is_none() {
            // Where even this fails, the seq was given up and its settings never come into force.
            let _ = self.store.withdraw(&mut self.board);
            return Err(Refused::Storage);
        }
        self.store.keep();
        self.settings = settings;
        Ok(())
    }
}
