//! Relates the pump's ticks to UTC at the gateway, with an uncertainty.

use crate::message::TimeReply;
use crate::time::Timestamp;

/// Exchanges that are kept; the one with the shortest round trip is used.
const KEPT: usize = 16;
/// Drift between two crystals that is allowed for, parts per million (`facts/firmware.md` §8).
const DRIFT_PPM: i64 = 50;

/// UTC of a tick, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The estimate.
    pub at: Timestamp,
    /// Half width, milliseconds.
    pub uncertainty_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    offset_ms: i64,
    round_trip_ms: i64,
    tick_ms: i64,
}

/// Four-stamp exchanges of one start of the pump.
#[derive(Clone, Debug, Default)]
pub struct TimeSync {
    boot: u32,
    asked: Option<(u32, Timestamp)>,
    kept: [Option<Exchange>; KEPT],
    next: usize,
}

impl TimeSync {
    /// A request of this number left.
    pub fn note_asked(&mut self, id: u32, at: Timestamp) {
        self.asked = Some((id, at));
    }

    /// The answer arrived. Answers to older requests are dropped; a new start begins anew.
    pub fn handle_reply(&mut self, at: Timestamp, reply: &TimeReply) {
        let Some((id, asked)) = self.asked.take() else {
            return;
        };
        if id != reply.id || at < asked || reply.sent_tick_ms < reply.received_tick_ms {
            return;
        }
        let (Ok(t2), Ok(t3)) = (
            i64::try_from(reply.received_tick_ms),
            i64::try_from(reply.sent_tick_ms),
        ) else {
            return;
        };
        if reply.boot != self.boot {
            *self = Self {
                boot: reply.boot,
                ..Self::default()
            };
        }
        let (t1, t4) = (asked.as_unix_millis(), at.as_unix_millis());
        let exchange = Exchange {
            // UTC less tick.
            offset_ms: i64::midpoint(t1.saturating_sub(t2), t4.saturating_sub(t3)),
            round_trip_ms: t4.saturating_sub(t1).saturating_sub(t3 - t2).max(0),
            tick_ms: t3,
        };
        if let Some(slot) = self.kept.get_mut(self.next) {
            *slot = Some(exchange);
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// UTC of a tick of this start; `None` before the first exchange.
    ///
    /// The uncertainty is half the round trip, plus 50 ppm of the time between, plus 1 ms of
    /// rounding.
    pub fn at(&self, boot: u32, tick_ms: u64) -> Option<Estimate> {
        if boot != self.boot {
            return None;
        }
        let tick = i64::try_from(tick_ms).ok()?;
        let best = self
            .kept
            .iter()
            .flatten()
            .min_by_key(|e| Self::width(e, tick))?;
        Some(Estimate {
            at: Timestamp::from_unix_millis(best.offset_ms.saturating_add(tick)),
            uncertainty_ms: Self::width(best, tick),
        })
    }

    fn width(exchange: &Exchange, tick: i64) -> i64 {
        let age = exchange.tick_ms.abs_diff(tick);
        let drift = i64::try_from(age)
            .unwrap_or(i64::MAX)
            .saturating_mul(DRIFT_PPM)
            / 1_000_000;
        (exchange.round_trip_ms / 2 + 1).saturating_add(drift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(id: u32, received: u64, sent: u64) -> TimeReply {
        TimeReply {
            id,
            boot: 1,
            received_tick_ms: received,
            sent_tick_ms: sent,
        }
    }

    #[test]
    fn the_shortest_round_trip_decides_and_its_half_is_the_uncertainty() {
        let mut sync = TimeSync::default();
        sync.note_asked(1, Timestamp::from_unix_millis(10_000));
        sync.handle_reply(Timestamp::from_unix_millis(10_900), &reply(1, 100, 100));
        sync.note_asked(2, Timestamp::from_unix_millis(20_000));
        sync.handle_reply(
            Timestamp::from_unix_millis(20_020),
            &reply(2, 10_010, 10_010),
        );
        let seen = sync.at(1, 12_000).unwrap();
        assert_eq!(seen.at.as_unix_millis(), 22_000);
        assert_eq!(seen.uncertainty_ms, 11);
        assert_eq!(sync.at(2, 12_000), None);
    }

    #[test]
    fn an_answer_to_another_question_is_not_taken() {
        let mut sync = TimeSync::default();
        sync.note_asked(5, Timestamp::from_unix_millis(0));
        sync.handle_reply(Timestamp::from_unix_millis(10), &reply(4, 1, 1));
        assert_eq!(sync.at(1, 1), None);
    }
}
