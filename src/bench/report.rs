//! The report of a four-day trial with one event a second: time and peak memory of a process of
//! its own.

use crate::doctor::MicroClock;
use anyhow::{Context, ensure};
use protocol::event::{
    Body, BootReason, Condition, Delivered, Head, InfusionStarted, InfusionStopped, PainScore,
    PoweredOn, Purpose, StopReason,
};
use protocol::hex::Hex;
use protocol::message::Source;
use protocol::topics::EventRow;
use record::Record;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const ORIGIN_MS: i64 = 1_772_438_400_000;
const DAY_S: u64 = 86_400;

pub(crate) fn bench(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("T-BENCH.thecal");
    let events = write_record(&path)?;
    let clock = MicroClock::start();
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "report".as_ref(),
            path.as_os_str(),
            "--out".as_ref(),
            folder.join("report").as_os_str(),
        ])
        .stdout(Stdio::null())
        .spawn()
        .context("starting `thecal report`")?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kb = 0;
    let status = loop {
        let text = std::fs::read_to_string(&status_file).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kb = line
            .and_then(|l| l.split_whitespace().next())
            .and_then(|n| n.parse::<u64>().ok());
        peak_kb = peak_kb.max(kb.unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let ms = clock.micros() / 1_000;
    ensure!(status.success(), "`thecal report` failed: {status}");
    println!(
        "report   {events} events (4 days, one a second, and scores): {ms} ms, verification included, peak {} MB",
        peak_kb / 1_024
    );
    Ok(())
}

fn write_record(path: &Path) -> anyhow::Result<u64> {
    let mut record = Record::create(path)?;
    record.set_meta("trial_id", "T-BENCH")?;
    record.set_meta("origin", "import")?;
    record.set_meta("zone", "UTC")?;
    let day = i64::try_from(DAY_S * 1_000)?;
    let import = serde_json::json!({
        "trial_id": "T-BENCH", "bed": "01", "drug": "morphine", "concentration_mcg_per_ml": 500,
        "route": "intrathecal", "zone": "UTC", "baseline_start_utc_ms": ORIGIN_MS,
        "trial_start_utc_ms": ORIGIN_MS + day, "trial_end_utc_ms": ORIGIN_MS + 5 * day,
        "protocol": "pain-50", "run_in_h": 0, "accepts_implant": true, "also": [], "context": {},
    });
    record.set_meta("import", &import.to_string())?;
    record.set_meta("closed", "import")?;
    let source = Source::new("import").context("a name")?;
    let mut rows = Vec::new();
    let mut seq = 0;
    let mut add = |rows: &mut Vec<EventRow>, second: u64, body: Body| -> anyhow::Result<()> {
        seq += 1;
        let at = ORIGIN_MS + i64::try_from(second * 1_000)?;
        let raw = body.encode(Head {
            boot: 1,
            seq,
            tick_ms: u64::try_from(at)?,
        })?;
        rows.push(EventRow::new(source, &raw, Hex([0; 16]), at, Some(0), at)?);
        Ok(())
    };
    let on = PoweredOn {
        reason: BootReason::PowerOn,
        firmware: [0, 1, 0],
        own_clock_utc_ms: None,
    };
    add(&mut rows, 0, on.into())?;
    for second in 0..5 * DAY_S {
        if second % 7_200 == 3_600 {
            let pain = if second < DAY_S { 8 } else { 3 };
            let score = PainScore {
                score: pain + u8::try_from(second / 7_200 % 2)?,
                confirmed: true,
                condition: Condition::Rest,
                prompt_id: Some(u32::try_from(second / 7_200)?),
                answer_delay_ms: Some(20_000),
                corrects_seq: None,
            };
            add(&mut rows, second, score.into())?;
        }
        if second == DAY_S {
            let start = InfusionStarted {
                purpose: Purpose::Therapy,
                programmed_nl_per_h: 80_000,
            };
            add(&mut rows, second, start.into())?;
        }
        if second > DAY_S {
            let nl = (second - DAY_S) * 80_000 / 3_600;
            let count = Delivered {
                delivered_nl: nl,
                programmed_nl: nl,
                strokes: nl / 50_000,
                encoder_counts: nl / 62,
            };
            add(&mut rows, second, count.into())?;
        }
        if rows.len() >= 20_000 {
            record.append(&rows, ORIGIN_MS)?;
            rows.clear();
        }
    }
    add(
        &mut rows,
        5 * DAY_S,
        InfusionStopped {
            reason: StopReason::Closed,
        }
        .into(),
    )?;
    record.append(&rows, ORIGIN_MS)?;
    Ok(seq)
}
