//! The limits of patient boluses: 1 h, 4 h and 24 h, looking forward.
//!
//! A rule that counts only what was delivered grants a bolus on room that committed basal flow uses
//! up later (the Open PCA overdose in `facts/devices-and-faults.md` F7). Here a bolus is granted
//! only where *every* window that ends from now on keeps its limit: what was delivered in the
//! window's past, the bolus, what is on its way, and the basal flow that the program is committed
//! to.
//!
//! Volume is kept by the minute, and a minute that lies partly in a window counts wholly. Time in
//! which the pump was off does not pass here: what was delivered before stays in its windows.

use crate::provision::Limits;
use crate::seal::Coded;
use protocol::units::{FlowRate, HOUR_MS, Volume};

const MINUTE_MS: u64 = 60_000;
/// A day, and the minute that is not over.
const MINUTES: usize = 24 * 60 + 1;
/// A wait for a bolus is looked for so far ahead.
const AHEAD_MIN: u64 = 24 * 60;

/// Delivered volume of the last 24 h, by the minute of known time.
#[derive(Clone, Debug)]
pub struct Windows {
    newest: u64,
    nl: [Coded; MINUTES],
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            newest: 0,
            nl: [Coded::ZERO; MINUTES],
        }
    }
}

impl Windows {
    /// This volume was delivered at this moment of known time, which does not fall.
    pub fn add(&mut self, known_ms: u64, volume: Volume) {
        self.advance(known_ms / MINUTE_MS);
        let place = place(self.newest);
        // What cannot be read stays so, and is found by `damaged`.
        if let Some(cell) = self.nl.get_mut(place)
            && let Some(before) = cell.get()
        {
            *cell = Coded::new(u64::from(before).saturating_add(volume.as_nanoliters()));
        }
    }

    fn advance(&mut self, minute: u64) {
        let steps = minute.saturating_sub(self.newest);
        if steps >= all_minutes() {
            self.nl.fill(Coded::ZERO);
        } else {
            for skipped in self.newest + 1..=minute {
                if let Some(cell) = self.nl.get_mut(place(skipped)) {
                    *cell = Coded::ZERO;
                }
            }
        }
        self.newest = self.newest.max(minute);
    }

    fn at(&self, minute: u64) -> u64 {
        if minute > self.newest || self.newest - minute >= all_minutes() {
            return 0;
        }
        let cell = self.nl.get(place(minute));
        // A minute that cannot be read is full.
        cell.map_or(0, |nl| u64::from(nl.get().unwrap_or(Coded::MAX)))
    }

    /// Whether a minute can no longer be read.
    pub(crate) fn damaged(&self) -> bool {
        self.nl.iter().any(|cell| cell.get().is_none())
    }

    #[cfg(test)]
    pub(crate) fn flip(&mut self, number: u32) {
        crate::seal::flip(&mut self.nl, number);
    }

    /// The newest minute, for the seal of what is small.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Delivered in the last `span_min` minutes and the one that is not over.
    pub fn delivered_in(&self, known_ms: u64, span_min: u64) -> Volume {
        let now = known_ms / MINUTE_MS;
        let sum = (now.saturating_sub(span_min)..=now)
            .map(|m| self.at(m))
            .sum();
        Volume::from_nanoliters(sum)
    }

    /// How long until `extra` could be given at once without any window passing its limit; 0 for
    /// now. None where not within a day. `basal` gives the committed rate so many milliseconds
    /// from now.
    pub fn wait_ms(
        &self,
        known_ms: u64,
        extra: Volume,
        limits: &Limits,
        basal: impl Fn(u64) -> FlowRate,
    ) -> Option<u64> {
        let mut wait = 0;
        // Each limit can only move the moment further away: at most a few rounds.
        for _ in 0..8 {
            let mut moved = false;
            for (span_min, most) in spans(limits) {
                let later = self.wait_for(known_ms, extra, span_min, most, wait, &basal)?;
                moved |= later > wait;
                wait = later;
            }
            if !moved {
                return Some(wait);
            }
        }
        None
    }

    /// Whether the committed basal flow alone, after what was delivered, keeps all limits.
    pub fn basal_fits(
        &self,
        known_ms: u64,
        on_its_way: Volume,
        limits: &Limits,
        basal: impl Fn(u64) -> FlowRate,
    ) -> bool {
        spans(limits).into_iter().all(|(span_min, most)| {
            let mut ahead = Basal::new(known_ms, &basal);
            let now = known_ms / MINUTE_MS;
            let mut past = self.delivered_in(known_ms, span_min).as_nanoliters();
            (0..span_min).all(|k| {
                let sum = past + ahead.next_minute() + on_its_way.as_nanoliters();
                past -= self.at((now + k).wrapping_sub(span_min));
                sum <= most.as_nanoliters() || ahead.total_nl() == 0
            })
        })
    }

    /// For one limit: goes minute by minute through the ends of windows. A window that is too full
    /// moves the bolus behind it.
    fn wait_for(
        &self,
        known_ms: u64,
        extra: Volume,
        span_min: u64,
        most: Volume,
        from_ms: u64,
        basal: &impl Fn(u64) -> FlowRate,
    ) -> Option<u64> {
        if extra > most {
            return None;
        }
        let now = known_ms / MINUTE_MS;
        let (mut lead, mut lag) = (Basal::new(known_ms, basal), Basal::new(known_ms, basal));
        let mut past = self.delivered_in(known_ms, span_min).as_nanoliters();
        let mut wait_ms = from_ms;
        let mut k = 0;
        while end_of(known_ms, k) <= wait_ms.saturating_add((span_min + 1) * MINUTE_MS) {
            let committed = lead.next_minute();
            let gone = if k > span_min {
                lag.next_minute_rounded_down()
            } else {
                0
            };
            let sum = past + committed.saturating_sub(gone) + extra.as_nanoliters();
            let end = end_of(known_ms, k);
            if sum > most.as_nanoliters() && end > wait_ms {
                wait_ms = end;
            }
            if wait_ms > AHEAD_MIN * MINUTE_MS {
                return None;
            }
            if k <= span_min {
                past -= self.at((now + k).wrapping_sub(span_min)).min(past);
            }
            k += 1;
        }
        Some(wait_ms)
    }
}

/// Milliseconds from now to the end of the minute that is `k` after this one.
fn end_of(known_ms: u64, k: u64) -> u64 {
    (known_ms / MINUTE_MS + k + 1) * MINUTE_MS - known_ms
}

fn spans(limits: &Limits) -> [(u64, Volume); 3] {
    [
        (60, limits.max_1h),
        (4 * 60, limits.max_4h),
        (24 * 60, limits.max_24h),
    ]
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % all_minutes()).unwrap_or(0)
}

fn all_minutes() -> u64 {
    u64::try_from(MINUTES).unwrap_or(u64::MAX)
}

/// Committed basal volume from now to the end of a minute, a minute further at each call.
struct Basal<'a, F> {
    rate: &'a F,
    known_ms: u64,
    minute: u64,
    /// nL·ms/h
    most: u64,
    least: u64,
}

impl<'a, F: Fn(u64) -> FlowRate> Basal<'a, F> {
    fn new(known_ms: u64, rate: &'a F) -> Self {
        Self {
            rate,
            known_ms,
            minute: 0,
            most: 0,
            least: 0,
        }
    }

    fn step(&mut self) {
        let end = end_of(self.known_ms, self.minute);
        let start = match self.minute {
            0 => 0,
            m => end_of(self.known_ms, m - 1),
        };
        let at = |ms| u64::from((self.rate)(ms).as_nanoliters_per_hour());
        let (a, b) = (at(start), at(end));
        self.most = self.most.saturating_add(a.max(b) * (end - start));
        self.least = self.least.saturating_add(a.min(b) * (end - start));
        self.minute += 1;
    }

    fn total_nl(&self) -> u64 {
        self.most.div_ceil(HOUR_MS)
    }

    fn next_minute(&mut self) -> u64 {
        self.step();
        self.total_nl()
    }

    fn next_minute_rounded_down(&mut self) -> u64 {
        self.step();
        self.least / HOUR_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        bolus: Volume::from_nanoliters(100_000),
        lockout_ms: 0,
        max_1h: Volume::from_nanoliters(1_000_000),
        max_4h: Volume::from_nanoliters(3_000_000),
        max_24h: Volume::from_nanoliters(15_000_000),
    };

    fn nl(nl: u64) -> Volume {
        Volume::from_nanoliters(nl)
    }

    #[test]
    fn room_that_committed_basal_will_use_is_no_room() {
        // 0.9 mL in the last minutes, 0.5 mL/h to come: a bolus of 0.1 mL fits what was
        // delivered and would be 1.5 mL in the hour that ends in an hour.
        let mut windows = Windows::default();
        windows.add(7_200_000, nl(900_000));
        let basal = |_| FlowRate::from_nanoliters_per_hour(500_000);
        let wait = windows.wait_ms(7_200_000, nl(100_000), &LIMITS, basal);
        assert!(wait.is_some_and(|w| w > 55 * 60_000), "{wait:?}");
        let none = |_| FlowRate::ZERO;
        assert_eq!(
            windows.wait_ms(7_200_000, nl(100_000), &LIMITS, none),
            Some(0)
        );
        assert!(!windows.basal_fits(7_200_000, nl(0), &LIMITS, basal));
    }

    #[test]
    fn a_bolus_above_a_limit_has_no_moment() {
        let none = |_| FlowRate::ZERO;
        let windows = Windows::default();
        assert_eq!(windows.wait_ms(0, nl(1_000_001), &LIMITS, none), None);
        let basal = |_| FlowRate::from_nanoliters_per_hour(990_000);
        assert_eq!(windows.wait_ms(0, nl(100_000), &LIMITS, basal), None);
    }

    proptest! {
        #[test]
        fn boluses_that_were_granted_never_pass_a_limit_in_any_window(
            presses in proptest::collection::vec(1u64..3_000_000, 1..120),
            rates in proptest::array::uniform3(0u32..600_000),
        ) {
            // Known truth: volume by the second, the rate changes each 2 h.
            let rate = |ms: u64| {
                let part = usize::try_from(ms / 7_200_000 % 3).unwrap();
                FlowRate::from_nanoliters_per_hour(rates[part])
            };
            let mut windows = Windows::default();
            let mut given: Vec<(u64, u64)> = Vec::new();
            let (mut now, mut owed) = (0u64, 0u64);
            let mut basal_until = |from: u64, to: u64, windows: &mut Windows, given: &mut Vec<(u64, u64)>| {
                let mut at = from;
                while at < to {
                    let next = (at / 10_000 + 1).saturating_mul(10_000).min(to);
                    owed += u64::from(rate(at).as_nanoliters_per_hour()) * (next - at);
                    at = next;
                    if owed >= HOUR_MS {
                        windows.add(at, nl(owed / HOUR_MS));
                        given.push((at, owed / HOUR_MS));
                        owed %= HOUR_MS;
                    }
                }
            };
            for press in presses {
                basal_until(now, now + press, &mut windows, &mut given);
                now += press;
                let wait = windows.wait_ms(now, nl(100_001), &LIMITS, |ahead| rate(now + ahead));
                if wait == Some(0) {
                    windows.add(now, nl(100_000));
                    given.push((now, 100_000));
                }
            }
            basal_until(now, now + 86_400_000, &mut windows, &mut given);
            for (span, most) in [(3_600_000, 1_000_000), (14_400_000, 3_000_000), (86_400_000, 15_000_000u64)] {
                let (mut first, mut sum) = (0, 0);
                for (at, volume) in &given {
                    sum += volume;
                    while given[first].0 + span <= *at {
                        sum -= given[first].1;
                        first += 1;
                    }
                    prop_assert!(sum <= most, "{sum} nL in {span} ms to {at}");
                }
            }
        }
    }
}
