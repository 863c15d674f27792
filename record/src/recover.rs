//! Makes a lost record again from a gateway's spool.
//!
//! The spool holds the same rows as the record, to the letter, so the proof is the same one: the
//! pump's chain, the gateway's, and the gateway's `stored` digests over all columns. What only a
//! recorder adds, its signed receipts, is not in it.

use crate::spool::Spool;
use crate::store::{Error, Unfinished};
use crate::trial_record::{Hole, Record};
use protocol::event::Body;
use protocol::topics::EventRow;
use std::path::Path;

/// Rows read and written at a time.
const STEP: usize = 1_024;

/// What was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Events in the record.
    pub events: u64,
    /// Sources that they are of.
    pub sources: usize,
    /// Holes, in words for people.
    pub holes: Vec<String>,
}

/// Makes the record `out` of a trial from the rows that `spool` holds of it.
///
/// Nothing is at `out` until the record is whole and on the disk. A hole's time of noting is the
/// receipt of the last event before it, since no clock is read here.
///
/// # Errors
/// [`Error::Exists`] where `out` is there; [`Error::Row`] where the spool has no such trial, with
/// the trials that it has; and where a file cannot be read or written.
pub fn recover(spool: &Path, trial: &str, out: &Path) -> Result<Recovered, Error> {
    let from = Spool::open_read_only(spool)?;
    let trials = from.trials()?;
    if !trials.iter().any(|there| there == trial) {
        let why = if trials.is_empty() {
            "not in this spool, which holds no trial".to_owned()
        } else {
            format!("not in this spool, which holds {}", trials.join(", "))
        };
        return Err(Error::Row {
            path: spool.into(),
            place: format!("trial {trial}"),
            why,
        });
    }
    let unfinished = Unfinished::new_file(out)?;
    let mut record = Record::create(unfinished.path())?;
    copy_words(&from, trial, &record)?;
    let mut done = Recovered {
        events: 0,
        sources: 0,
        holes: Vec::new(),
    };
    for (_, source) in from.sources()?.iter().filter(|(t, _)| t == trial) {
        done.sources += 1;
        copy_rows(&from, trial, source, &mut record, &mut done)?;
    }
    for row in from.quarantined(trial)? {
        record.set_aside(&row)?;
    }
    record.fold()?;
    drop(record);
    unfinished.publish()?;
    Ok(done)
}

/// The trial's words, and those that the recorder would have added.
fn copy_words(from: &Spool, trial: &str, record: &Record) -> Result<(), Error> {
    record.set_meta("trial_id", trial)?;
    record.set_meta("origin", "pump")?;
    let ending = format!(".{trial}");
    for (key, value) in from.words(trial)? {
        if matches!(key.as_str(), "trial_id" | "origin") {
            continue;
        }
        record.set_meta(&key, &value)?;
        let gw = key
            .strip_prefix("gateway_key.")
            .and_then(|source| source.strip_suffix(&ending));
        if let Some(gw) = gw
            && record.meta("gw")?.is_none()
        {
            record.set_meta("gw", gw)?;
        }
    }
    let manifest = record.manifest()?.and_then(|signed| signed.open().ok());
    if let Some(manifest) = manifest
        && record.meta("zone")?.is_none()
    {
        record.set_meta("zone", &manifest.zone)?;
    }
    Ok(())
}

fn copy_rows(
    from: &Spool,
    trial: &str,
    source: &str,
    record: &mut Record,
    done: &mut Recovered,
) -> Result<(), Error> {
    let mut read_to = 0;
    let mut gap = Gap {
        source,
        last_seq: 0,
        last_received: 0,
        damaged: None,
    };
    loop {
        let step = from.rows_after(trial, source, read_to, STEP)?;
        let Some(last) = step.last().map(|stored| stored.row.seq) else {
            break;
        };
        let mut good = Vec::with_capacity(step.len());
        for stored in step {
            if let Some(why) = stored.damaged {
                gap.damaged = Some(why);
                continue;
            }
            gap.before(&stored.row, record, done)?;
            good.push(stored.row);
        }
        done.events += record.append(&good, gap.last_received)?.new;
        if last <= read_to {
            // A damaged seq: nothing after it can be asked for.
            break;
        }
        read_to = last;
    }
    let (first, last) = (gap.last_seq + 1, read_to.max(gap.last_seq + 1));
    if let Some(why) = gap.damaged.take() {
        gap.note(first, last, damaged(&why), record, done)?;
    }
    Ok(())
}

/// What lies between the last good row and the next.
struct Gap<'a> {
    source: &'a str,
    last_seq: u64,
    last_received: i64,
    damaged: Option<String>,
}

impl Gap<'_> {
    fn before(
        &mut self,
        row: &EventRow,
        record: &Record,
        done: &mut Recovered,
    ) -> Result<(), Error> {
        let first = self.last_seq.saturating_add(1);
        if row.seq > first {
            let declared = match Body::from_json(&row.kind, &row.body) {
                Some(Body::JournalLost(lost)) => {
                    lost.from_seq <= first && lost.to_seq.checked_add(1) == Some(row.seq)
                }
                _ => false,
            };
            let reason = match self.damaged.take() {
                Some(why) => damaged(&why),
                None if declared => "lost in the pump's journal, declared by the pump".into(),
                None => "not in the spool that this was recovered from".into(),
            };
            self.note(first, row.seq - 1, reason, record, done)?;
        }
        self.damaged = None;
        self.last_seq = row.seq;
        self.last_received = row.received_at_utc_ms;
        Ok(())
    }

    fn note(
        &self,
        from_seq: u64,
        to_seq: u64,
        reason: String,
        record: &Record,
        done: &mut Recovered,
    ) -> Result<(), Error> {
        let source = self.source;
        done.holes.push(format!(
            "{source} seq {from_seq} to {to_seq} missing ({reason})"
        ));
        record.note_hole(&Hole {
            source: source.into(),
            from_seq,
            to_seq,
            reason,
            noted_at_utc_ms: self.last_received,
        })
    }
}

fn damaged(why: &str) -> String {
    format!("a row of the spool is damaged: {why}")
}
