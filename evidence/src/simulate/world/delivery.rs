//! What the broker delivers, and to whom.

use super::World;
use crate::simulate::broker::{Delivery, Mail, Who};
use gateway::mqtt::Answer;
use protocol::time::Uptime;
use protocol::topics::Topic;

impl World {
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Connected(Who::Gateway) => {
                if let Some(gateway) = &mut self.gateway {
                    let now = Uptime::from_millis(self.now_ms - gateway.started_ms);
                    gateway.uplink.handle_connected(now);
                    gateway.uplink_ms = self.now_ms;
                }
            }
            Delivery::Disconnected(Who::Gateway) => {
                let late = self.dice.happens(0.5);
                if let Some(gateway) = &mut self.gateway {
                    gateway.uplink.handle_disconnected();
                    // The client library tells at once, or when it is connected again.
                    for number in gateway.out.keys() {
                        let at_ms = self.now_ms + if late { 700 } else { 0 };
                        let gone = Delivery::Answer(*number, Answer::Gone);
                        self.broker.tell_anyway(at_ms, gone);
                    }
                }
            }
            Delivery::Answer(number, answer) => {
                if let Some(gateway) = &mut self.gateway
                    && let Some(key) = gateway.out.remove(&number)
                {
                    let now = Uptime::from_millis(self.now_ms - gateway.started_ms);
                    gateway.uplink.handle_answer(now, Some(key), answer);
                    gateway.uplink_ms = self.now_ms;
                }
            }
            Delivery::Message(Who::Gateway, mail) => self.receipt(&mail),
            Delivery::Message(Who::Recorder, mail) => self.recorder_hears(&mail),
            Delivery::Connected(Who::Recorder) => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.connected = true;
                    recorder.commit_ms = self.now_ms;
                }
            }
            Delivery::Disconnected(Who::Recorder) => {}
        }
    }

    pub(super) fn receipt(&mut self, mail: &Mail) {
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        let Some(Topic::Receipt { recorder, .. }) = self.topics.parse(&mail.0) else {
            return;
        };
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        let news = gateway
            .uplink
            .handle_receipt(now, &recorder, mail.1.as_bytes(), false);
        for news in news.unwrap_or_default() {
            let Some(gateway) = &self.gateway else { return };
            let utc = now.utc.as_unix_millis();
            let _ = gateway.bedside.store.write(|spool| {
                let (trial, source) = &news.key;
                spool.note_receipt(trial, source, &news.recorder, news.through_seq, utc)
            });
            if self.gateway_ended() {
                return;
            }
        }
    }
}
