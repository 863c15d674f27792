//! The gateway of a simulated trial: its start, what it hears and says on the line, its uplink, its end.

use super::{Due, GW, Gateway, LINE_TICK_MS, RECORDER, World};
use crate::simulate::bed::{BED, TRIAL};
use crate::simulate::broker::Who;
use crate::simulate::disk::Crash;
use crate::simulate::files::SimSpool;
use crate::simulate::plan::Trouble;
use gateway::bedside::Bedside;
use gateway::clock::Mode;
use gateway::config::BedConfig;
use gateway::entries::add_entry;
use gateway::key_files::Trust;
use gateway::line::Line;
use gateway::uplink::{Speaker, Uplink};
use protocol::time::{Now, Timestamp};
use protocol::topics::EntryCommand;
use std::collections::BTreeMap;
use std::sync::Arc;

impl World {
    pub(super) fn start_gateway(&mut self) {
        self.spool.light();
        let now = self.now_at(self.now_ms);
        let mode = Mode::Accelerated {
            origin: Timestamp::from_unix_millis(self.plan.origin_utc_ms),
            speed: self.plan.speed,
            anchor: None,
        };
        let beds = [BedConfig {
            port: "simulated".into(),
            bed: BED.into(),
            trial: TRIAL.into(),
            tag_key: None,
        }];
        let opened = SimSpool::open(&self.spool)
            .and_then(|spool| Bedside::open(Box::new(spool), GW, &beds, mode, now));
        let bedside = match opened {
            Ok(bedside) => bedside,
            Err(e) => {
                self.note(|| format!("the gateway does not start: {e}"));
                return self.end_gateway(Crash::Killed);
            }
        };
        self.note(|| "the gateway starts".into());
        let [part] = bedside.beds.as_slice() else {
            return;
        };
        let line = Line::new(part.clone(), mode, self.gateway_keys.clone(), now.uptime);
        let keys = [(self.recorder_keys.public(), RECORDER.to_owned())];
        let speaker = Speaker {
            gw: GW.into(),
            topics: self.topics.clone(),
            pair: self.gateway_keys.clone(),
            trust: Arc::new(Trust::Folder(BTreeMap::from(keys))),
            beds: BTreeMap::from([(TRIAL.into(), BED.into())]),
        };
        let uplink = Uplink::new(Arc::new(speaker), bedside.outbox.clone());
        let now_ms = self.now_ms;
        self.gateway = Some(Gateway {
            bedside,
            line,
            uplink,
            started_ms: now_ms,
            line_ms: now_ms,
            uplink_ms: now_ms,
            out: BTreeMap::new(),
            skew_ms: self.skew_ms,
            port: false,
            reopen_ms: now_ms,
        });
        self.broker.set_runs(now_ms, Who::Gateway, true);
    }

    pub(super) fn end_gateway(&mut self, crash: Crash) {
        self.note(|| format!("the gateway ends: {crash:?}"));
        self.spool.end(crash);
        self.gateway = None;
        self.up.clear();
        self.broker.set_runs(self.now_ms, Who::Gateway, false);
        let rest = if self.calm {
            500
        } else {
            self.dice.spread(200, 20_000)
        };
        self.plan_due(self.now_ms + rest, Due::GatewayStarts);
    }

    /// A place between two steps of the gateway; true where it has ended there.
    pub(super) fn gateway_ended(&mut self) -> bool {
        if self.gateway.is_none() {
            return true;
        }
        let killed = self.dice.happens(self.plan.crash_a_step);
        if killed || self.spool.down() {
            self.end_gateway(Crash::Killed);
            return true;
        }
        let failed_syncs = self.spool.counts().failed_syncs;
        if failed_syncs > self.failed_syncs {
            // A failed store is final for its process; somebody sees the alarm.
            self.failed_syncs = failed_syncs;
            self.note(|| "the gateway's disk failed".into());
            let seen = self.now_ms + self.dice.spread(500, 20_000);
            self.plan_due(seen, Due::Ends(Trouble::SpoolFull));
        }
        false
    }

    pub(super) fn gateway_hears(&mut self, bytes: &[u8]) {
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        if !gateway.port {
            return;
        }
        gateway.line.handle_bytes(now, bytes);
        if !self.gateway_ended() {
            self.gateway_speaks(now);
        }
    }

    fn gateway_speaks(&mut self, now: Now) {
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        for notice in gateway.line.take_notices() {
            self.note(|| format!("the gateway says: {notice}"));
        }
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        let mut out = Vec::new();
        gateway.line.collect_out(now, &mut out);
        self.down.send(self.now_ms, out, &mut self.dice);
    }

    pub(super) fn gateway_ticks(&mut self) {
        let (now_ms, plugged, skew_ms) = (self.now_ms, self.plugged, self.skew_ms);
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        gateway.line_ms = now_ms + LINE_TICK_MS;
        gateway.port &= plugged;
        if plugged && !gateway.port && gateway.reopen_ms <= now_ms {
            gateway.port = true;
            gateway.line.reopen(now);
        }
        gateway.line.tick(now, skew_ms - gateway.skew_ms);
        let port = gateway.port;
        if self.gateway_ended() {
            return;
        }
        if port {
            self.gateway_speaks(now);
        }
        self.enter(now);
    }

    /// The nurse tries an entry until it is stored.
    fn enter(&mut self, now: Now) {
        let Some(command) = self.waiting.clone() else {
            return;
        };
        let Some(gateway) = &self.gateway else { return };
        let [part] = gateway.bedside.beds.as_slice() else {
            return;
        };
        let command = EntryCommand {
            at_utc_ms: now.utc.as_unix_millis(),
            ..command
        };
        match add_entry(part, now, &command, self.plan.speed) {
            Ok(_) => {
                self.entered.insert(command.entry_id);
                self.waiting = None;
            }
            // Closed: nobody was told that it is stored.
            Err(why) if why.contains("closed") => self.waiting = None,
            Err(_) => {}
        }
        self.gateway_ended();
    }

    pub(super) fn gateway_sends(&mut self) {
        let (now_ms, every) = (self.now_ms, self.plan.uplink_every_ms);
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        if let Some(gateway) = &mut self.gateway {
            gateway.uplink_ms = now_ms + every;
        }
        loop {
            let Some(gateway) = &mut self.gateway else {
                return;
            };
            let Some((key, after)) = gateway.uplink.poll_batch(now.uptime) else {
                return;
            };
            let store = &gateway.bedside.store;
            let batch = gateway.uplink.read_batch(store, &key, after);
            if self.gateway_ended() {
                return;
            }
            let Ok(Some(batch)) = batch else { return };
            self.numbers += 1;
            let number = self.numbers;
            if let Some(gateway) = &mut self.gateway {
                gateway.out.insert(number, key);
            }
            let mail = Arc::new((batch.topic, batch.payload));
            self.broker.publish(now_ms, Who::Gateway, number, &mail);
        }
    }
}
