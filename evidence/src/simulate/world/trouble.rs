//! What goes wrong in a simulated trial, and when it is over.

use super::{Due, HOUR_MS, REPLUG_MS, World, entry};
use crate::simulate::broker::Who;
use crate::simulate::dice::Dice;
use crate::simulate::disk::Crash;
use crate::simulate::plan::Trouble;

impl World {
    pub(super) fn happen(&mut self, due: Due) {
        match due {
            Due::GatewayStarts => self.start_gateway(),
            Due::RecorderStarts => self.start_recorder(),
            Due::Begins(trouble, mean) => {
                self.begin_trouble(trouble);
                let next = self.now_ms + 1 + self.dice.around(mean);
                self.plan_due(next, Due::Begins(trouble, mean));
            }
            Due::Ends(trouble) => self.end_trouble(trouble),
            Due::Entry => {
                if self.calm {
                    return;
                }
                if self.waiting.is_none() {
                    self.numbers += 1;
                    self.waiting = Some(entry(self.numbers));
                }
                let next = self.now_ms + 1 + self.dice.around(self.wall(6 * HOUR_MS));
                self.plan_due(next, Due::Entry);
            }
        }
    }

    fn begin_trouble(&mut self, trouble: Trouble) {
        self.troubles += 1;
        self.note(|| format!("{trouble:?}"));
        let now_ms = self.now_ms;
        let lasts = |dice: &mut Dice, most: u64| Some(dice.spread(50, most));
        let ends = match trouble {
            Trouble::CablePulled => {
                self.plugged = false;
                (self.up.cut, self.down.cut) = (true, true);
                self.up.clear();
                self.down.clear();
                if let Some(gateway) = &mut self.gateway {
                    gateway.port = false;
                }
                let (least, most) = self.plan.cable_off_ms;
                Some(self.dice.spread(least, most))
            }
            Trouble::HalfOpen => {
                let up = self.dice.happens(0.5);
                (self.up.dead, self.down.dead) = (up, !up);
                lasts(&mut self.dice, 20_000)
            }
            Trouble::PumpOff => {
                self.bed.cut_power();
                None
            }
            Trouble::GatewayKilled | Trouble::GatewayOff => {
                if self.gateway.is_some() {
                    self.end_gateway(if trouble == Trouble::GatewayOff {
                        Crash::PowerCut
                    } else {
                        Crash::Killed
                    });
                }
                None
            }
            Trouble::RecorderKilled | Trouble::RecorderOff => {
                if self.recorder.is_some() {
                    self.end_recorder(if trouble == Trouble::RecorderOff {
                        Crash::PowerCut
                    } else {
                        Crash::Killed
                    });
                }
                None
            }
            Trouble::BrokerEnds => {
                self.broker.end(now_ms);
                lasts(&mut self.dice, 20_000)
            }
            Trouble::GatewayCut => {
                self.broker.cut(now_ms, Who::Gateway);
                None
            }
            Trouble::RecorderCut => {
                self.broker.cut(now_ms, Who::Recorder);
                None
            }
            Trouble::GatewayNamesake | Trouble::RecorderNamesake => {
                let who = if trouble == Trouble::GatewayNamesake {
                    Who::Gateway
                } else {
                    Who::Recorder
                };
                self.broker.cut(now_ms, who);
                // The other one comes back as soon as it was thrown out.
                let again = now_ms + self.dice.whole(100, 600);
                if self.dice.happens(0.9) {
                    self.plan_due(again, Due::Ends(trouble));
                }
                None
            }
            Trouble::BrokerMute => {
                self.broker.mute = true;
                lasts(&mut self.dice, 10_000)
            }
            Trouble::ClockSet => {
                let minute = 60_000;
                let steps = [minute, 60 * minute, 24 * 60 * minute, 800];
                let step = self.dice.pick(&steps);
                self.skew_ms += if self.dice.happens(0.5) { step } else { -step };
                None
            }
            Trouble::SpoolFull => {
                self.spool.set_full(true);
                lasts(&mut self.dice, 10_000)
            }
            Trouble::RecordFull => {
                self.record.set_full(true);
                lasts(&mut self.dice, 10_000)
            }
        };
        if let Some(lasts) = ends {
            self.plan_due(now_ms + lasts, Due::Ends(trouble));
        }
    }

    pub(super) fn end_trouble(&mut self, trouble: Trouble) {
        let now_ms = self.now_ms;
        match trouble {
            Trouble::CablePulled => {
                self.plugged = true;
                (self.up.cut, self.down.cut) = (false, false);
                if let Some(gateway) = &mut self.gateway {
                    gateway.reopen_ms = now_ms + self.dice.whole(0, REPLUG_MS);
                }
            }
            Trouble::HalfOpen => (self.up.dead, self.down.dead) = (false, false),
            Trouble::BrokerEnds => self.broker.begin(),
            Trouble::BrokerMute => self.broker.mute = false,
            Trouble::GatewayNamesake | Trouble::RecorderNamesake => {
                if !self.calm {
                    self.begin_trouble(trouble);
                }
            }
            Trouble::SpoolFull => {
                self.spool.set_full(false);
                // A failed store is final for its process: somebody starts it again.
                if self.gateway.is_some() {
                    self.end_gateway(Crash::Killed);
                }
            }
            Trouble::RecordFull => self.record.set_full(false),
            Trouble::PumpOff
            | Trouble::GatewayKilled
            | Trouble::GatewayOff
            | Trouble::RecorderKilled
            | Trouble::RecorderOff
            | Trouble::GatewayCut
            | Trouble::RecorderCut
            | Trouble::ClockSet => {}
        }
    }
}
