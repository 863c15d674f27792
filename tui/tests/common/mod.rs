//! A ward for tests and for the gallery: four days of a trial made by arithmetic.
#![expect(
    clippy::unwrap_used,
    reason = "the numbers are small, and a test that fails says where"
)]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "each test program uses a part of it"
)]

use protocol::event::{Condition, Priority};
use protocol::keys::KeyPair;
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::{
    AlarmRow, Alarms, At, BolusNow, DeliveryNow, LinkWord, ReservoirNow, ScoreNow, State,
    TREND_STEP_MS, Topic, TrendStep,
};
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use tui::{App, BedKey, Event, Incoming, Palette, Setup, Theme};

/// Tue 2026-11-17 10:04:17 in Vienna.
pub const TRIAL_NOW: i64 = 1_794_906_257_000;
const HOUR: i64 = 3_600_000;

/// The gateways' key.
pub fn key() -> KeyPair {
    KeyPair::from_seed([42; 32])
}

/// `ms` after the start of the dashboard, real time.
pub fn at(ms: u64) -> Now {
    Now {
        uptime: Uptime::from_millis(ms),
        utc: Timestamp::from_unix_millis(TRIAL_NOW + i64::try_from(ms).unwrap()),
    }
}

/// A dashboard that is connected.
pub fn app(palette: Palette, ascii: bool) -> App {
    with_theme(Theme::new(palette, ascii))
}

/// A connected dashboard of a look.
pub fn with_theme(theme: Theme) -> App {
    let mut app = App::new(
        Setup {
            site: "demo".into(),
            beds: Vec::new(),
            speed: 1,
            theme,
        },
        at(0),
    );
    app.update(
        at(0),
        Event::Broker {
            connected: true,
            detail: "127.0.0.1:1883".into(),
        },
    );
    app
}

fn trend(n: u32, sent_at: i64, start: i64) -> Vec<TrendStep> {
    let baseline = start - 24 * HOUR;
    let steps = (sent_at - baseline) / TREND_STEP_MS;
    (0..steps)
        .map(|i| {
            let at = baseline + i * TREND_STEP_MS;
            let hours = i / 6;
            let therapy = at >= start;
            let after = (at - start) / HOUR;
            let quiet = u8::try_from((after / 7).clamp(0, 5)).unwrap();
            let wobble = u8::try_from((hours * 7 + i64::from(n)) % 3).unwrap();
            let asked = i % 24 == i64::from(n % 5);
            let known = !(230..246).contains(&i) || n != 1;
            let rate: u64 = if after < 12 { 300_000 } else { 500_000 };
            let programmed = if therapy { rate / 6 } else { 0 };
            let delivered = if n == 2 && after > 20 {
                programmed * 9 / 10
            } else {
                programmed
            };
            TrendStep {
                start_utc_ms: at,
                score: (asked && known)
                    .then(|| 7 + wobble.min(1) - if therapy { quiet } else { 0 }),
                score_movement: None,
                delivered_nl: known.then_some(delivered),
                programmed_nl: known.then_some(programmed),
                boluses: u16::from(therapy && i % 31 == 3),
                refused: u16::from(therapy && i % 67 == 5),
                rescues: u16::from(i % 190 == 80),
                not_answered: u16::from(i % 144 == 20),
                alarms: u16::from(i % 301 == 250),
            }
        })
        .collect()
}

/// Bed `n` as its gateway sees it at `sent_at`.
pub fn state(n: u32, sent_at: i64) -> State {
    let start = TRIAL_NOW - 55 * HOUR;
    let bed = format!("{n:02}");
    let ago = |minutes: i64| sent_at - minutes * 60_000;
    let shift = i64::from(n) * 7 % 60;
    State {
        gw: format!("gw-{bed}"),
        trial: format!("T-{n:04}"),
        pump: Some(format!("EP-{:04}", 190 + n)),
        bed,
        simulated: false,
        speed: 1,
        sent_at_utc_ms: sent_at,
        link: LinkWord::Up,
        frame_age_ms: 400,
        zone: "Europe/Vienna".into(),
        drug: "morphine".into(),
        concentration_mcg_per_ml: 500,
        route: "intrathecal".into(),
        baseline_start_utc_ms: start - 24 * HOUR,
        trial_start_utc_ms: Some(start),
        closed: false,
        baseline_mean_centi: Some(752),
        pain: Some(At {
            at_utc_ms: TRIAL_NOW - (5 + shift) * 60_000,
            value: ScoreNow {
                score: u8::try_from(n * 3 % 8).unwrap(),
                confirmed: true,
                condition: Condition::Rest,
            },
        }),
        pain_movement: Some(At {
            at_utc_ms: ago(62),
            value: ScoreNow {
                score: 4,
                confirmed: false,
                condition: Condition::Movement,
            },
        }),
        delivery: Some(At {
            at_utc_ms: ago(1),
            value: DeliveryNow {
                infusing: true,
                programmed_nl_per_h: 500_000,
                delivered_nl: 24_800_000,
                programmed_nl: 25_100_000,
            },
        }),
        bolus: BolusNow {
            requested: 8,
            granted: 5,
            locked_until_utc_ms: Some(sent_at + 680_000),
        },
        reservoir: Some(At {
            at_utc_ms: ago(1),
            value: ReservoirNow {
                computed_nl: 31_200_000,
                measured_nl: None,
            },
        }),
        battery_percent: Some(At {
            at_utc_ms: ago(30),
            value: 80,
        }),
        rescues: 2,
        observations: vec![
            (
                "resp_rate".into(),
                At {
                    at_utc_ms: ago(3),
                    value: 14_000,
                },
            ),
            (
                "sedation_poss".into(),
                At {
                    at_utc_ms: ago(4),
                    value: 1_000,
                },
            ),
        ],
        stored_through_seq: 8_120,
        announced_seq: 8_120,
        recorded_through_seq: 8_101,
        holes: Vec::new(),
        trend: trend(n, sent_at, start),
    }
}

/// The event of a state that came as it was sent.
pub fn live(state: State) -> Event {
    Event::State {
        state: Box::new(state),
        retained: false,
    }
}

/// One alarm.
pub fn row(alarm: &str, priority: Priority, technical: bool, text: &str, since: i64) -> AlarmRow {
    AlarmRow {
        alarm: alarm.into(),
        technical,
        priority,
        text: text.into(),
        since_utc_ms: since,
        ended: false,
        acknowledged_by: None,
    }
}

/// The alarms of bed `n`.
pub fn alarms(n: u32, sent_at: i64, alarms: Vec<AlarmRow>) -> Alarms {
    Alarms {
        gw: format!("gw-{n:02}"),
        bed: format!("{n:02}"),
        sent_at_utc_ms: sent_at,
        alarms,
    }
}

/// `count` beds, all but some of them well: 3 late, 4 stale, 5 lost, 6 never heard; alarms on 2
/// and 7. Heard 70 s after the start.
pub fn ward(app: &mut App, count: u32) -> Now {
    for n in 1..=count {
        let (heard, link) = match n {
            3 => (66_000, LinkWord::Up),
            4 => (39_000, LinkWord::Up),
            5 => (500, LinkWord::Lost),
            6 => (69_800, LinkWord::NeverHeard),
            _ => (69_000, LinkWord::Up),
        };
        let sent = TRIAL_NOW + i64::try_from(heard).unwrap();
        let frame_age_ms = if n == 6 { 70_000 } else { 400 };
        app.update(
            at(heard),
            live(State {
                link,
                frame_age_ms,
                ..state(n, sent)
            }),
        );
    }
    let now = TRIAL_NOW + 70_000;
    let limit = row(
        "resp_rate_low",
        Priority::High,
        false,
        "RESP RATE 7 /min (limit 8)",
        now - 42_000,
    );
    let mut low = row(
        "reservoir_low",
        Priority::Low,
        false,
        "RESERVOIR LOW",
        now - 7_200_000,
    );
    low.acknowledged_by = Some("JM".into());
    if count >= 7 {
        app.update(at(69_500), Event::Alarms(alarms(7, now, vec![limit])));
    } else {
        app.update(at(69_500), Event::Alarms(alarms(1, now, vec![limit])));
    }
    app.update(at(69_500), Event::Alarms(alarms(2, now, vec![low])));
    at(70_000)
}

/// The topic of a bed's state and the signed payload.
pub fn payload(state: &State, retained: bool) -> Incoming {
    Incoming::Payload {
        topic: Topic::State {
            gw: state.gw.clone(),
            bed: state.bed.clone(),
        },
        retained,
        text: key().sign_json(state).into_bytes(),
    }
}

/// What stands on a screen of this size, a line a row, without spaces at its end.
pub fn text(app: &App, now: Now, width: u16, height: u16) -> String {
    lines(&buffer(app, now, width, height))
}

/// A screen of this size.
pub fn buffer(app: &App, now: Now, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    tui::view(app, now, area, &mut buffer);
    buffer
}

/// A buffer's text.
pub fn lines(buffer: &Buffer) -> String {
    let row = |cells: &[Cell]| {
        let row: String = cells.iter().map(Cell::symbol).collect();
        format!("{}\n", row.trim_end())
    };
    let width = usize::from(buffer.area.width);
    buffer.content.chunks(width).map(row).collect()
}

/// The name of a bed.
pub fn bed(n: u32) -> BedKey {
    BedKey {
        gw: format!("gw-{n:02}"),
        bed: format!("{n:02}"),
    }
}
