//! A bed: what was last heard of it, how it came, and what it is worth now.

use crate::fresh::{Came, Freshness, Heard, Pace};
use crate::words;
use jiff::tz::TimeZone;
use protocol::time::{Now, Uptime};
use protocol::topics::{AlarmRow, LinkWord, State};

/// A bed of a gateway. Ordered as a ward is: by the bed's number, then by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BedKey {
    /// The gateway.
    pub gw: String,
    /// The bed.
    pub bed: String,
}

impl BedKey {
    fn order(&self) -> (u64, &str, &str) {
        let number = self.bed.parse().unwrap_or(u64::MAX);
        (number, &self.bed, &self.gw)
    }
}

impl Ord for BedKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for BedKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What is known of a bed.
#[derive(Clone, Debug)]
pub struct Bed {
    /// The latest state that was taken.
    pub state: Option<State>,
    /// How it came.
    pub heard: Option<Heard>,
    /// Its alarms.
    pub alarms: Vec<AlarmRow>,
    /// Since when we know that there is this bed.
    pub known_since: Uptime,
    pace: Pace,
    zone: TimeZone,
    zone_name: String,
    clock_is_ours: bool,
}

impl Bed {
    pub(crate) fn new(now: Uptime) -> Self {
        Self {
            state: None,
            heard: None,
            alarms: Vec::new(),
            known_since: now,
            pace: Pace::default(),
            zone: TimeZone::UTC,
            zone_name: "UTC".into(),
            clock_is_ours: true,
        }
    }

    /// Takes a state. A kept one that says nothing new does not age a live one.
    pub(crate) fn hear(&mut self, now: Uptime, state: State, retained: bool, our_speed: u32) {
        let newest = self.state.as_ref().map(|s| s.sent_at_utc_ms);
        let heard_live = self.heard.is_some_and(|h| h.came == Came::Live);
        if retained && heard_live && newest >= Some(state.sent_at_utc_ms) {
            return;
        }
        let delay_ms = if retained {
            0
        } else {
            self.pace.delay_ms(now, state.sent_at_utc_ms, state.speed)
        };
        self.heard = Some(Heard {
            at: now,
            delay_ms,
            came: if retained { Came::Retained } else { Came::Live },
        });
        if self.state.as_ref().is_none_or(|s| s.zone != state.zone) {
            (self.zone, self.zone_name) = words::zone(&state.zone);
        }
        self.clock_is_ours = state.speed.max(1) == our_speed;
        self.state = Some(state);
    }

    /// Trial time of this bed, UTC milliseconds: from what was sent, as long as anything live was
    /// heard; else by the caller's clock, where it runs as fast as the trial's.
    pub fn trial_now_utc_ms(&self, now: Now) -> i64 {
        match (&self.state, &self.heard) {
            (Some(state), Some(heard)) if heard.came != Came::Retained => {
                let wall = now
                    .uptime
                    .millis_since(heard.at)
                    .saturating_add(heard.delay_ms);
                let trial = wall.saturating_mul(u64::from(state.speed.max(1)));
                let trial = i64::try_from(trial).unwrap_or(i64::MAX);
                state.sent_at_utc_ms.saturating_add(trial)
            }
            (Some(state), _) if !self.clock_is_ours => state.sent_at_utc_ms,
            _ => now.utc.as_unix_millis(),
        }
    }

    fn kept_ms(&self, now: Now) -> Option<u64> {
        let state = self.state.as_ref().filter(|_| self.clock_is_ours)?;
        let trial = words::since(now.utc.as_unix_millis(), state.sent_at_utc_ms);
        Some(trial / u64::from(state.speed.max(1)))
    }

    /// What the pump's values are worth.
    pub fn freshness(&self, now: Now) -> Freshness {
        match (&self.state, &self.heard) {
            (Some(state), Some(heard)) if state.link != LinkWord::NeverHeard => {
                heard.freshness(state.frame_age_ms, self.kept_ms(now), now.uptime)
            }
            _ => Freshness::NeverHeard,
        }
    }

    /// What the gateway's own words are worth: entries of people, what is stored.
    pub fn gateway_freshness(&self, now: Now) -> Freshness {
        match &self.heard {
            Some(heard) => heard.freshness(0, self.kept_ms(now), now.uptime),
            None => Freshness::NeverHeard,
        }
    }

    /// The zone of its times, and the zone's name.
    pub fn zone(&self) -> (&TimeZone, &str) {
        (&self.zone, &self.zone_name)
    }

    /// The trial is closed.
    pub fn closed(&self) -> bool {
        self.state.as_ref().is_some_and(|s| s.closed)
    }
}
