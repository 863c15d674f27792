//! Relates the pump's ticks to UTC at the gateway, with an uncertainty.

use crate::message::TimeReply;
use crate::time::Timestamp;

/// Latest exchanges that are kept, beside the best of the first ones.
const KEPT: usize = 16;
/// Drift between two crystals that is allowed for, parts per billion (`facts/firmware.md` §8).
const DRIFT_PPB: i128 = 50_000;
/// How far a drift that was measured may wander with the temperature, parts per billion.
const WANDER_PPB: i128 = 10_000;
/// Exchanges this close are neighbors.
const NEAR_MS: u64 = 30_000;
/// Exchanges this far apart show the drift.
const BASE_MS: i64 = 600_000;

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
    /// UTC less tick.
    offset_ms: i64,
    round_trip_ms: i64,
    tick_ms: i64,
}

impl Exchange {
    /// Half width of what it says of its own tick; 1 ms of rounding.
    fn half_ms(&self) -> i64 {
        self.round_trip_ms / 2 + 1
    }
}

/// Four-stamp exchanges of one start of the pump, and the drift that they show.
#[derive(Clone, Debug, Default)]
pub struct TimeSync {
    boot: u32,
    asked: Option<(u32, Timestamp)>,
    kept: [Option<Exchange>; KEPT],
    next: usize,
    seen: usize,
    /// The best of the first exchanges: the far end of the drift line.
    early: Option<Exchange>,
}

impl TimeSync {
    /// A request of this number left.
    pub fn note_asked(&mut self, id: u32, at: Timestamp) {
        self.asked = Some((id, at));
    }

    /// The clock that stamps requests was set; later is positive. What was learned is told in its
    /// new time from here on.
    pub fn note_step(&mut self, by_ms: i64) {
        self.asked = None;
        let all = self
            .kept
            .iter_mut()
            .chain(core::iter::once(&mut self.early));
        for exchange in all.flatten() {
            exchange.offset_ms = exchange.offset_ms.saturating_add(by_ms);
        }
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
            offset_ms: i64::midpoint(t1.saturating_sub(t2), t4.saturating_sub(t3)),
            round_trip_ms: t4.saturating_sub(t1).saturating_sub(t3 - t2).max(0),
            tick_ms: t3,
        };
        if let Some(slot) = self.kept.get_mut(self.next) {
            *slot = Some(exchange);
        }
        self.next = (self.next + 1) % KEPT;
        self.seen = self.seen.saturating_add(1);
        let better = |best: Exchange| exchange.round_trip_ms < best.round_trip_ms;
        if self.seen <= KEPT && self.early.is_none_or(better) {
            self.early = Some(exchange);
        }
    }

    /// UTC of a tick of this start; `None` before the first exchange.
    ///
    /// Each exchange leaves a range for it: half its round trip and 1 ms of rounding to either
    /// side, and the drift in the time between. The estimate is the middle of what all leave.
    pub fn at(&self, boot: u32, tick_ms: u64) -> Option<Estimate> {
        if boot != self.boot {
            return None;
        }
        let tick = i64::try_from(tick_ms).ok()?;
        let drift = self.drift_ppb();
        let ranges = self.all().map(|e| range_at(e, tick, drift));
        let (low, high) = ranges.reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)))?;
        if low > high {
            return self.nearest(tick);
        }
        let offset = low.saturating_add(high.saturating_sub(low) / 2);
        // No better than the best of them alone: two that barely agree are no proof of each other.
        let least = self.all().map(Exchange::half_ms).min()?;
        Some(Estimate {
            at: Timestamp::from_unix_millis(offset.saturating_add(tick)),
            uncertainty_ms: high.saturating_sub(offset).max(least),
        })
    }

    fn all(&self) -> impl Iterator<Item = &Exchange> {
        self.kept.iter().flatten().chain(&self.early)
    }

    /// Where the exchanges contradict each other, one of the clocks runs as no crystal does, or is
    /// being set in small steps: then the narrowest decides, in doubt by what its neighbors say.
    fn nearest(&self, tick: i64) -> Option<Estimate> {
        let width = |e: &Exchange| {
            let (low, high) = range_at(e, tick, (-DRIFT_PPB, DRIFT_PPB));
            high.saturating_sub(low)
        };
        let best = self.all().min_by_key(|e| width(e))?;
        let near = |e: &&Exchange| e.tick_ms.abs_diff(best.tick_ms) <= NEAR_MS;
        let doubt = self.all().filter(near);
        let doubt = doubt.map(|e| e.offset_ms.saturating_sub(best.offset_ms).saturating_abs());
        Some(Estimate {
            at: Timestamp::from_unix_millis(best.offset_ms.saturating_add(tick)),
            uncertainty_ms: (width(best) / 2 + 1).saturating_add(doubt.max().unwrap_or(0)),
        })
    }

    /// The least and the most that the offset may change a tick, parts per billion.
    fn drift_ppb(&self) -> (i128, i128) {
        let mut range = (-DRIFT_PPB, DRIFT_PPB);
        let Some(early) = self.early else {
            return range;
        };
        for late in self.kept.iter().flatten() {
            let base = late.tick_ms.saturating_sub(early.tick_ms);
            if base < BASE_MS {
                continue;
            }
            let change = i128::from(late.offset_ms.saturating_sub(early.offset_ms));
            let doubt = i128::from(late.half_ms().saturating_add(early.half_ms()));
            let base = i128::from(base);
            let slowest = (change - doubt) * 1_000_000_000 / base - WANDER_PPB - 1;
            let fastest = (change + doubt) * 1_000_000_000 / base + WANDER_PPB + 1;
            range = (range.0.max(slowest), range.1.min(fastest));
        }
        if range.0 > range.1 {
            return (-DRIFT_PPB, DRIFT_PPB);
        }
        range
    }
}

/// What an exchange leaves for the offset at some tick.
fn range_at(exchange: &Exchange, tick: i64, (slowest, fastest): (i128, i128)) -> (i64, i64) {
    let age = i128::from(tick) - i128::from(exchange.tick_ms);
    let (a, b) = (slowest * age, fastest * age);
    let low = (a.min(b)).div_euclid(1_000_000_000);
    let high = (a.max(b)).div_euclid(1_000_000_000) + 1;
    let clamp = |ms: i128| {
        let most = i128::from(i64::MAX / 4);
        i64::try_from(ms.clamp(-most, most)).unwrap_or(0)
    };
    let (offset, half) = (exchange.offset_ms, exchange.half_ms());
    (
        offset.saturating_sub(half).saturating_add(clamp(low)),
        offset.saturating_add(half).saturating_add(clamp(high)),
    )
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
    fn the_shortest_round_trip_decides_and_its_half_and_the_drift_are_the_uncertainty() {
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
        assert_eq!(seen.uncertainty_ms, 12);
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
