//! What is wrong with a bed: the pump's own conditions, and the technical ones of the gateway.
//! Pure. Every change is also a fact of the gateway's chain.
//!
//! A condition that ended stays in the list as *ended* until somebody has seen it; silence is a
//! condition, and only a fresh frame ends it.

use crate::bed::Bed;
use crate::disk::Room;
use crate::doubts::Doubt;
use protocol::bedside::AlarmChanged;
use protocol::event::{AlarmCode, Priority};
use protocol::time::Timestamp;
use protocol::topics::{AlarmRow, LinkWord};
use std::collections::BTreeMap;

/// How long one that ended stays, trial milliseconds from its end.
const UNSEEN_FOR_MS: i64 = 24 * 3_600_000;

/// The alarms of one bed.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    rows: BTreeMap<String, AlarmRow>,
    ended_at: BTreeMap<String, i64>,
}

/// What the gateway itself sees.
#[derive(Clone, Debug, Default)]
pub struct Technical {
    /// The serial line.
    pub link: Option<LinkWord>,
    /// Seconds of silence on it.
    pub silent_s: u64,
    /// Why the store failed, where it did.
    pub store: Option<String>,
    /// The pump is not the one that was bound, or says impossible things.
    pub identity: Option<String>,
    /// Rows set aside.
    pub quarantined: u64,
    /// No recorder has confirmed anything for so long, seconds.
    pub unrecorded_s: Option<u64>,
    /// The broker refused or nobody listens.
    pub refused: Option<String>,
    /// There has been no broker for so long, seconds.
    pub broker_gone_s: Option<u64>,
    /// No dashboard has drawn anything for so long, seconds.
    pub not_watched_s: Option<u64>,
    /// Receipts and commands that were not signed by a key that is believed.
    pub not_believed: u64,
    /// Frames of the line lately: damaged, and all.
    pub frames: (u64, u64),
    /// Room for the spool.
    pub room: Option<Room>,
}

/// A broker may be gone for so long, seconds, before it is told.
const BROKER_GONE_S: u64 = 3;
/// Nobody may watch for so long, seconds.
const NOT_WATCHED_S: u64 = 30;
/// A line is bad where one frame in so many is damaged, of at least so many.
const BAD_ONE_IN: u64 = 10;
const BAD_OF: u64 = 8;

impl Technical {
    /// What is wrong with broker, dashboards, line and disk.
    fn more(&self) -> Vec<Doubt> {
        let mut rows = Vec::new();
        let mut add = |name, priority, words| rows.push((name, priority, words));
        if self.broker_gone_s.is_some_and(|s| s >= BROKER_GONE_S) {
            let words = "NO BROKER, data is kept at the bedside".into();
            add("no_broker", Priority::Medium, words);
        }
        if self.not_watched_s.is_some_and(|s| s >= NOT_WATCHED_S) {
            let words = "NO DASHBOARD WATCHES THIS BED, look at it there".into();
            add("not_watched", Priority::Medium, words);
        }
        if self.not_believed > 0 {
            let words = format!("SECURITY: {} PAYLOADS NOT BELIEVED", self.not_believed);
            add("not_believed", Priority::Medium, words);
        }
        let (bad, all) = self.frames;
        if all >= BAD_OF && bad.saturating_mul(BAD_ONE_IN) >= all {
            let words = format!(
                "SERIAL LINE BAD: {} % of its frames damaged",
                bad * 100 / all
            );
            add("line_bad", Priority::Low, words);
        }
        if let Some(room) = self.room.filter(Room::is_short) {
            let words = format!("DISK {} % FULL, make room", room.used_percent());
            add("disk_low", Priority::Medium, words);
        }
        rows
    }
}

/// The words for a condition of the pump.
pub fn pump_words(code: AlarmCode) -> &'static str {
    match code {
        AlarmCode::DownstreamOcclusion => "DOWNSTREAM OCCLUSION, check catheter and filter",
        AlarmCode::UpstreamOcclusion => "UPSTREAM OCCLUSION, check reservoir clamp",
        AlarmCode::AirInLine => "AIR IN LINE",
        AlarmCode::ReservoirLow => "RESERVOIR LOW",
        AlarmCode::ReservoirEmpty => "RESERVOIR EMPTY, no drug is delivered",
        AlarmCode::BatteryLow => "PUMP BATTERY LOW",
        AlarmCode::BatteryFlat => "PUMP BATTERY FLAT",
        AlarmCode::OverDelivery => "OVER-DELIVERY, assess the patient",
        AlarmCode::UnderDelivery => "UNDER-DELIVERY",
        AlarmCode::DoorOpen => "PUMP DOOR OPEN",
        AlarmCode::KeyStuck => "KEY STUCK, the patient may be unable to report pain",
        AlarmCode::SupervisorStop => "PUMP STOPPED ITSELF, replace the pump",
        AlarmCode::Storage => "PUMP JOURNAL FAILED, replace the pump",
        AlarmCode::SelfTest => "PUMP SELF-TEST FAILED, replace the pump",
    }
}

impl Alarms {
    /// Holds the list against what is so now; gives the changes, to be stored.
    pub fn update(
        &mut self,
        now: Timestamp,
        bed: &Bed,
        technical: &Technical,
    ) -> Vec<AlarmChanged> {
        let mut is_so: BTreeMap<String, (bool, Priority, String, i64)> = BTreeMap::new();
        for (code, (priority, since)) in &bed.pump_alarms {
            let words = pump_words(*code).to_owned();
            is_so.insert(code.word().into(), (false, *priority, words, *since));
        }
        let since = now.as_unix_millis();
        let mut add = |name: &str, priority, words: String| {
            is_so.insert(name.into(), (true, priority, words, since));
        };
        match technical.link {
            Some(LinkWord::Lost) if !bed.is_closed() => {
                let words = "NO DATA FROM PUMP, check cable; the pump delivers on its own program";
                add("link_lost", Priority::High, words.into());
            }
            Some(LinkWord::NeverHeard) if technical.silent_s >= 60 => {
                add(
                    "never_heard",
                    Priority::Medium,
                    "PUMP NEVER HEARD, check cable".into(),
                );
            }
            Some(_) | None => {}
        }
        if let Some(why) = &technical.store {
            add(
                "store_failed",
                Priority::High,
                format!("STORE FAILED, pump keeps its data: {why}"),
            );
        }
        if let Some(why) = &technical.identity {
            add(
                "identity",
                Priority::High,
                format!("WRONG PUMP OR TRIAL: {why}"),
            );
        }
        if technical.quarantined > 0 {
            let words = format!("{} EVENTS SET ASIDE, see the record", technical.quarantined);
            add("quarantine", Priority::Medium, words);
        }
        if technical.unrecorded_s.is_some_and(|s| s >= 60) {
            let words = "NO RECORDER CONFIRMS, data is kept at the bedside".to_owned();
            add("not_recorded", Priority::Medium, words);
        }
        if let Some(why) = &technical.refused {
            add(
                "broker_refused",
                Priority::Medium,
                format!("BROKER REFUSES: {why}"),
            );
        }
        for (name, priority, words) in bed.doubts.rows(since) {
            let text = protocol::text::clean(&words, 80);
            is_so.insert(name.into(), (false, priority, text, since));
        }
        for (name, priority, words) in technical.more() {
            is_so.insert(name.into(), (true, priority, words, since));
        }
        self.settle(since, is_so)
    }

    fn settle(
        &mut self,
        now: i64,
        is_so: BTreeMap<String, (bool, Priority, String, i64)>,
    ) -> Vec<AlarmChanged> {
        let mut changes = Vec::new();
        let mut note = |row: &AlarmRow, change: &str| {
            changes.push(AlarmChanged {
                alarm: row.alarm.clone(),
                priority: row.priority,
                change: change.into(),
                text: row.text.chars().take(80).collect(),
            });
        };
        for (name, row) in &mut self.rows {
            if !row.ended && !is_so.contains_key(name) {
                row.ended = true;
                self.ended_at.insert(name.clone(), now);
                note(row, "cleared");
            }
        }
        let ended_at = &self.ended_at;
        self.rows.retain(|name, row| {
            let ended = ended_at.get(name).copied().unwrap_or(now);
            !row.ended || now - ended < UNSEEN_FOR_MS
        });
        for (alarm, (technical, priority, text, since_utc_ms)) in is_so {
            match self.rows.get_mut(&alarm) {
                Some(row) if !row.ended => {
                    row.priority = row.priority.max(priority);
                    row.text = text;
                }
                _ => {
                    let row = AlarmRow {
                        alarm: alarm.clone(),
                        technical,
                        priority,
                        text,
                        since_utc_ms,
                        ended: false,
                        acknowledged_by: None,
                    };
                    note(&row, "raised");
                    self.rows.insert(alarm, row);
                }
            }
        }
        changes
    }

    /// All active ones and those that ended unseen: most urgent first, then oldest first.
    pub fn rows(&self) -> Vec<AlarmRow> {
        let mut rows: Vec<_> = self.rows.values().cloned().collect();
        rows.sort_by_key(|r| (r.ended, std::cmp::Reverse(r.priority), r.since_utc_ms));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_line_is_an_alarm_until_a_frame_comes_and_then_stays_as_ended() {
        let bed = Bed::new("gw", "07", "T", 1);
        let mut alarms = Alarms::default();
        let at = Timestamp::from_unix_millis;
        let lost = Technical {
            link: Some(LinkWord::Lost),
            ..Technical::default()
        };
        assert_eq!(alarms.update(at(0), &bed, &lost).len(), 1);
        for hour in 1..72 {
            assert_eq!(alarms.update(at(hour * 3_600_000), &bed, &lost), []);
            assert!(!alarms.rows()[0].ended, "silent for {hour} h");
        }
        let up = Technical {
            link: Some(LinkWord::Up),
            ..Technical::default()
        };
        let changes = alarms.update(at(72 * 3_600_000), &bed, &up);
        assert_eq!(changes[0].change, "cleared");
        let day = 24 * 3_600_000;
        assert_eq!(alarms.update(at(4 * day - 1), &bed, &up), []);
        assert!(alarms.rows()[0].ended, "a day from its end");
        alarms.update(at(4 * day), &bed, &up);
        assert_eq!(alarms.rows(), []);
    }

    #[test]
    fn what_is_wrong_behind_the_line_is_an_alarm_from_its_mark_on() {
        let bed = Bed::new("gw", "07", "T", 1);
        let names = |technical: &Technical| {
            let mut alarms = Alarms::default();
            alarms.update(Timestamp::from_unix_millis(0), &bed, technical);
            let rows = alarms.rows().into_iter();
            rows.map(|row| (row.alarm, row.priority))
                .collect::<Vec<_>>()
        };
        let none = Technical::default();
        let full = Room {
            free: 1 << 20,
            total: 1 << 30,
        };
        let empty = Room {
            free: 1 << 30,
            total: 1 << 30,
        };
        let with = |change: &dyn Fn(&mut Technical)| {
            let mut technical = none.clone();
            change(&mut technical);
            names(&technical)
        };
        let medium = |name: &str| vec![(name.to_owned(), Priority::Medium)];
        assert_eq!(names(&none), []);
        assert_eq!(with(&|t| t.broker_gone_s = Some(2)), []);
        assert_eq!(with(&|t| t.broker_gone_s = Some(3)), medium("no_broker"));
        assert_eq!(with(&|t| t.not_watched_s = Some(29)), []);
        assert_eq!(with(&|t| t.not_watched_s = Some(30)), medium("not_watched"));
        assert_eq!(with(&|t| t.not_believed = 1), medium("not_believed"));
        assert_eq!(with(&|t| t.frames = (0, 1_000)), []);
        assert_eq!(with(&|t| t.frames = (99, 1_000)), []);
        let bad = vec![("line_bad".to_owned(), Priority::Low)];
        assert_eq!(with(&|t| t.frames = (100, 1_000)), bad);
        assert_eq!(with(&|t| t.frames = (2, 3)), [], "too few to tell");
        assert_eq!(with(&|t| t.room = Some(empty)), []);
        assert_eq!(with(&|t| t.room = Some(full)), medium("disk_low"));
    }

    #[test]
    fn a_pump_that_was_never_heard_is_an_alarm_after_a_minute_and_stays_one() {
        let bed = Bed::new("gw", "07", "T", 1);
        let mut alarms = Alarms::default();
        for silent_s in [0, 59, 60, 3_600, 259_200] {
            let never = Technical {
                link: Some(LinkWord::NeverHeard),
                silent_s,
                ..Technical::default()
            };
            let at = Timestamp::from_unix_millis(i64::try_from(silent_s).unwrap() * 1_000);
            alarms.update(at, &bed, &never);
            let active = alarms
                .rows()
                .iter()
                .any(|r| r.alarm == "never_heard" && !r.ended);
            assert_eq!(active, silent_s >= 60, "{silent_s} s");
        }
    }
}
