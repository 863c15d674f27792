//! Whoever sets a clock, at the gateway or at the pump, reorders nothing and moves no event by more
//! than is stated: the box's own engine through half a day of trial, second by second.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]
#![expect(dead_code, reason = "common to several test programs")]

mod common;

use common::{Journal, PUMP, TRIAL, VirtualPump};
use gateway::bedside::Bedside;
use gateway::clock::Mode;
use gateway::config::BedConfig;
use gateway::line::Line;
use protocol::keys::KeyPair;
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::EventRow;
use record::Spool;

/// 2026-03-28 20:00 UTC: the clocks of Europe go forward at 01:00 UTC of that night.
const START: i64 = 1_774_728_000_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const HOURS: i64 = 9;

/// What happens to the clocks and the cable.
struct Story {
    name: &'static str,
    /// The pump's crystal, parts per billion; positive is too fast.
    drift_ppb: i64,
    /// Error of the gateway's clock at its start.
    error_ms: i64,
    /// At this hour it is set by so much.
    steps: &'static [(i64, i64)],
    /// Hours without a line.
    unplugged: std::ops::Range<i64>,
}

/// True time, as the pump's own crystal counts it.
fn tick_of(true_ms: i64, drift_ppb: i64) -> u64 {
    let gained = i128::from(true_ms) * i128::from(drift_ppb) / 1_000_000_000;
    u64::try_from(true_ms + i64::try_from(gained).unwrap()).unwrap()
}

fn true_of(tick_ms: u64, drift_ppb: i64) -> i64 {
    let tick = i128::from(tick_ms);
    i64::try_from(tick * 1_000_000_000 / (1_000_000_000 + i128::from(drift_ppb))).unwrap()
}

/// Lives a story; gives the pump's rows, the gateway's, and the gateway's clock at each receipt.
fn lived(story: &Story, journal: &Journal) -> (Vec<EventRow>, Vec<EventRow>) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(&folder.path().join("gw-07.spool")).unwrap();
    let bed = BedConfig {
        port: "/dev/null".into(),
        bed: "07".into(),
        trial: TRIAL.into(),
        tag_key: None,
    };
    let error_at = |ms: i64| {
        let set = story.steps.iter().filter(|(hour, _)| ms >= hour * HOUR);
        story.error_ms + set.map(|(_, by)| by).sum::<i64>()
    };
    let now = |ms: i64| Now {
        uptime: Uptime::from_millis(u64::try_from(ms).unwrap()),
        utc: Timestamp::from_unix_millis(START + ms + error_at(ms)),
    };
    let mode = Mode::Wall;
    let bedside = Bedside::open(Box::new(spool), "gw-07", &[bed], mode, now(0)).unwrap();
    let pair = KeyPair::from_seed([5; 32]);
    let mut line = Line::new(bedside.beds[0].clone(), mode, pair, now(0).uptime);
    let mut pump = VirtualPump::new(journal);
    pump.all_at_once = false;
    for second in 0..HOURS * 3_600 {
        let ms = second * 1_000;
        let (there, back) = (second * 7 % 30, second * 11 % 25);
        let mut out = Vec::new();
        line.collect_out(now(ms), &mut out);
        if story.unplugged.contains(&(ms / HOUR)) {
            line.tick(now(ms + there + back), error_at(ms) - story.error_ms);
            continue;
        }
        let heard = ms + there;
        let uptime = now(heard).uptime;
        let said = pump.exchange(uptime, tick_of(heard, story.drift_ppb), &out);
        let arrived = heard + back;
        line.handle_bytes(now(arrived), &said);
        line.tick(now(arrived), error_at(arrived) - story.error_ms);
    }
    let rows = |source: &str| -> Vec<EventRow> {
        let all = bedside.store.rows_after(TRIAL, source, 0, usize::MAX >> 1);
        all.unwrap().into_iter().map(|stored| stored.row).collect()
    };
    (rows(PUMP), rows(&format!("gw-07.{TRIAL}")))
}

const STORIES: [Story; 10] = [
    Story {
        name: "nothing happens",
        drift_ppb: 0,
        error_ms: 0,
        steps: &[],
        unplugged: 0..0,
    },
    Story {
        name: "4 s a day",
        drift_ppb: 46_296,
        error_ms: 0,
        steps: &[],
        unplugged: 0..0,
    },
    Story {
        name: "4 s a day, and 5 h without a line",
        drift_ppb: -46_296,
        error_ms: 0,
        steps: &[],
        unplugged: 2..7,
    },
    Story {
        name: "an hour forward",
        drift_ppb: 20_000,
        error_ms: 0,
        steps: &[(3, HOUR)],
        unplugged: 0..0,
    },
    Story {
        name: "an hour back",
        drift_ppb: 20_000,
        error_ms: 0,
        steps: &[(3, -HOUR)],
        unplugged: 0..0,
    },
    Story {
        name: "a day forward and back again",
        drift_ppb: 0,
        error_ms: 0,
        steps: &[(2, DAY), (5, -DAY)],
        unplugged: 0..0,
    },
    Story {
        name: "a day back, while unplugged",
        drift_ppb: 0,
        error_ms: 0,
        steps: &[(4, -DAY)],
        unplugged: 3..6,
    },
    Story {
        name: "reset to 1970",
        drift_ppb: 10_000,
        error_ms: 0,
        steps: &[(3, -START - 3 * HOUR)],
        unplugged: 0..0,
    },
    Story {
        name: "reset to 2008 and set right",
        drift_ppb: 10_000,
        error_ms: 0,
        steps: &[
            (3, 1_199_145_600_000 - START),
            (6, START - 1_199_145_600_000),
        ],
        unplugged: 0..0,
    },
    Story {
        name: "starts in 1970, set right after 2 h",
        drift_ppb: 0,
        error_ms: -START,
        steps: &[(2, START)],
        unplugged: 0..0,
    },
];

#[test]
fn whoever_sets_a_clock_reorders_nothing_and_moves_no_score_beyond_what_is_stated() {
    let journal = Journal::spaced(50, 300_000);
    for story in &STORIES {
        let (pump, own) = lived(story, &journal);
        assert!(pump.len() > 90, "{}: {} events", story.name, pump.len());
        let mut known = 0;
        for (row, seq) in pump.iter().zip(1..) {
            assert_eq!(row.seq, seq, "{}", story.name);
            let truth = START + true_of(row.tick_ms, story.drift_ppb);
            let Some(stated) = row.at_uncertainty_ms else {
                continue;
            };
            known += 1;
            let off = (row.at_utc_ms - truth).unsigned_abs();
            assert!(
                off <= stated + 1,
                "{}: seq {seq} is off by {off} ms, stated {stated} ms",
                story.name
            );
        }
        // The first events come before any exchange of clocks; a clock without a time gives none.
        let without_time = pump.len() - known;
        let most = if story.error_ms == 0 { 3 } else { 30 };
        assert!(without_time <= most, "{}: {without_time}", story.name);
        // The gateway's own clock is told as it is, steps and all, and never backwards in its chain.
        let steps = own.iter().filter(|row| row.kind == "clock_stepped").count();
        assert_eq!(steps, story.steps.len(), "{}", story.name);
        assert!(own.is_sorted_by_key(|row| row.tick_ms), "{}", story.name);
        for anchor in own.iter().filter(|row| row.kind == "boot_anchored") {
            let at = anchor.body["at_utc_ms"].as_i64().unwrap();
            let stated = anchor.body["uncertainty_ms"].as_u64().unwrap();
            assert!(
                (at - START).unsigned_abs() <= stated + 1,
                "{}: {:?}",
                story.name,
                anchor.body
            );
        }
    }
}

#[test]
fn what_is_stated_is_narrow_where_nothing_happens_and_after_a_night_without_a_line() {
    let journal = Journal::spaced(50, 300_000);
    let widest = |story: &Story| {
        let (pump, _) = lived(story, &journal);
        pump.iter()
            .filter_map(|row| row.at_uncertainty_ms)
            .max()
            .unwrap()
    };
    assert!(widest(&STORIES[1]) <= 40, "{} ms", widest(&STORIES[1]));
    // Five hours at 50 ppm from either side alone would be 450 ms in the middle.
    assert!(widest(&STORIES[2]) <= 300, "{} ms", widest(&STORIES[2]));
}
