//! What goes wrong at the simulated pump, and its supply.

use super::{Due, Error, Power, Running, Simulation};
use crate::board::SimBoard;
use crate::fault::{Change, What};
use crate::machine::{Hung, ImagePump, Machine, NativePump};
use crate::plant::Plant;
use firmware::board::Board;
use firmware::pump::Input;
use firmware::watchdog::TIMEOUT_MS;
use protocol::event::BootReason;

/// A board feels edges of an encoder that moves by itself so often.
const EDGE_MS: u64 = 1_000;

impl Simulation {
    pub(super) fn change(&mut self, change: Change) {
        let begins = change.begins;
        match change.what {
            What::CablePulled | What::Silence { .. } | What::BadLine(_) => {
                self.line_changes.push(change);
                return;
            }
            What::PowerCut {
                after_bytes,
                warned,
            } => {
                if begins && warned {
                    self.input(Input::PowerFailing);
                }
                match (begins, after_bytes) {
                    (true, Some(bytes)) => {
                        self.board_mut(|board| board.memory.set_fuse(bytes));
                    }
                    (true, None) => self.switch_off(),
                    (false, _) => self.restart(BootReason::BrownOut),
                }
                return;
            }
            What::FlashRot(back) => {
                if begins {
                    self.rot(back);
                }
                return;
            }
            What::WornFlash => {
                self.board_mut(|board| board.memory.set_failing(begins));
                return;
            }
            What::OwnClock(utc_ms) => {
                if begins {
                    self.board_mut(|board| board.set_own_clock(utc_ms));
                }
                return;
            }
            What::FreeFlow(nl_per_h) => {
                self.board_mut(|board| {
                    board.plant.free_flow_nl_per_h = if begins { nl_per_h } else { 0 };
                });
                if begins {
                    self.plan(self.now_ms + EDGE_MS, Due::Edge);
                }
                return;
            }
            What::StuckKey(key) => {
                self.happen(Due::Key {
                    key,
                    pressed: begins,
                });
                return;
            }
            What::ProgramHangs => {
                self.hung.program = begins;
                return;
            }
            What::LineHangs => {
                self.hung.line = begins;
                return;
            }
            What::Occlusion
            | What::UpstreamOcclusion
            | What::Leak(_)
            | What::Air
            | What::Door
            | What::Stall
            | What::EncoderSlip(_)
            | What::MotorRuns(_)
            | What::ReservoirHolds(_)
            | What::BatteryHolds(_) => {}
        }
        self.board_mut(|board| harm(&mut board.plant, change.what, begins));
        self.input(Input::Sensors);
    }

    /// The program ends where it is and begins anew.
    fn restart(&mut self, reason: BootReason) {
        self.switch_off();
        if let Err(error) = self.switch_on(reason) {
            self.refused.push((self.now_ms, error.to_string()));
        }
    }

    /// The encoder moved although nothing was told to the motor: the board feels its edges.
    pub(super) fn edge(&mut self) {
        let flows = self.board_mut(|board| board.plant.free_flow_nl_per_h > 0);
        if flows == Some(true) {
            self.input(Input::Sensors);
            self.plan(self.now_ms + EDGE_MS, Due::Edge);
        }
    }

    fn rot(&mut self, back: u64) {
        let Power::On(on) = &mut self.power else {
            return;
        };
        let seq = on.pump.last_seq().saturating_sub(back);
        if let Some((raw, _)) = on.pump.event(seq) {
            on.pump.board_mut().memory.rot(raw.as_bytes());
        }
    }

    pub(super) fn switch_off(&mut self) {
        self.power = match core::mem::replace(&mut self.power, Power::Between) {
            Power::On(on) => Power::Off(on.pump.into_board()),
            off @ (Power::Off(_) | Power::Between) => off,
        };
        self.view.infusing = false;
        self.asked = None;
        (self.hung, self.starving_since_ms) = (Hung::default(), None);
    }

    /// One turn of the pump's own loop, which serves its watchdog. A real pump turns each second;
    /// between two events such a turn changes nothing, so here it turns after each event.
    pub(super) fn turn(&mut self) {
        let (now_ms, uptime) = (self.now_ms, self.uptime);
        let Power::On(on) = &mut self.power else {
            return;
        };
        let tick = now_ms.saturating_sub(on.booted_ms);
        self.starving_since_ms = if on.pump.turn(uptime, tick, self.hung) {
            None
        } else {
            self.starving_since_ms.or(Some(now_ms))
        };
    }

    /// When the watchdog resets the pump, if nothing changes.
    pub(super) fn watchdog_at_ms(&self) -> u64 {
        self.starving_since_ms
            .map_or(u64::MAX, |at| at.saturating_add(TIMEOUT_MS))
    }

    /// The watchdog was not fed in time.
    pub(super) fn reset(&mut self) {
        self.switch_off();
        if let Err(error) = self.switch_on(BootReason::Watchdog) {
            self.refused.push((self.now_ms, error.to_string()));
        }
    }

    pub(super) fn switch_on(&mut self, reason: BootReason) -> Result<(), Error> {
        let Power::Off(mut board) = core::mem::replace(&mut self.power, Power::Between) else {
            return Ok(());
        };
        board.power_on();
        match self.start_pump(board, reason) {
            Ok(pump) => {
                let booted_ms = self.now_ms;
                self.boots.push((pump.boot(), booted_ms));
                self.power = Power::On(Running { pump, booted_ms });
                self.after();
                Ok(())
            }
            Err((why, board)) => {
                self.power = Power::Off(board);
                Err(Error::Start(why))
            }
        }
    }

    fn start_pump(
        &self,
        board: Box<SimBoard>,
        reason: BootReason,
    ) -> Result<Box<dyn Machine>, (String, Box<SimBoard>)> {
        if let Some(place) = &self.place {
            let pump = ImagePump::start(board, place, reason)?;
            return Ok(Box::new(pump));
        }
        match NativePump::start(*board, &self.provision, reason, self.uptime) {
            Ok(pump) => Ok(Box::new(pump)),
            Err((error, board)) => Err((format!("{error:?}"), board)),
        }
    }

    /// The pump's hardware reset itself: the pump starts again, and no person notices at once.
    pub(super) fn see_reset(&mut self) {
        let Power::On(on) = &mut self.power else {
            return;
        };
        let Some(reason) = on.pump.take_reset() else {
            return;
        };
        on.pump.board_mut().power_on();
        on.pump.start_again(reason);
        on.booted_ms = self.now_ms;
        self.boots.push((on.pump.boot(), self.now_ms));
        self.view.infusing = false;
        self.asked = None;
    }
}

fn harm(plant: &mut Plant, what: What, begins: bool) {
    match what {
        What::Occlusion => plant.catheter.block(begins),
        What::UpstreamOcclusion => plant.upstream_blocked = begins,
        What::Leak(part) => plant.catheter.leak(if begins { part } else { 0.0 }),
        What::Air => plant.air = begins,
        What::Door => plant.door_open = begins,
        What::Stall => plant.stalled = begins,
        What::EncoderSlip(part) => plant.encoder_sees = if begins { part } else { 1.0 },
        What::MotorRuns(times) => plant.motor_gain = if begins { times } else { 1.0 },
        What::ReservoirHolds(nl) if begins => plant.fill(nl),
        What::BatteryHolds(percent) if begins => plant.charge(percent),
        What::ReservoirHolds(_)
        | What::BatteryHolds(_)
        | What::StuckKey(_)
        | What::FreeFlow(_)
        | What::PowerCut { .. }
        | What::ProgramHangs
        | What::LineHangs
        | What::WornFlash
        | What::FlashRot(_)
        | What::OwnClock(_)
        | What::CablePulled
        | What::Silence { .. }
        | What::BadLine(_) => {}
    }
}
