//! Holds the record against what truly happened, after a trial.

use super::bed::PUMP;
use super::world::{GW, World};
use protocol::bedside::Fact;
use protocol::chain::{ChainCheck, Finding};
use protocol::event::{Body, Raw};
use protocol::hex::PublicKey;
use record::store::{RowsDigest, StoredRow};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Rows = BTreeMap<u64, Arc<StoredRow>>;

/// What did hold, for counting.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Events that are missing, declared, and could not be had any more.
    pub(crate) lost_declared: u64,
    /// The gateway's chain was not judged: its disk had lied, and power failed.
    pub(crate) excused: bool,
}

/// Judges a trial that ran to its end.
///
/// # Errors
/// The first promise that does not hold.
pub(crate) fn judge(world: &World) -> Result<Judged, String> {
    let own = format!("{GW}.{}", super::bed::TRIAL);
    let (mut rows, set_aside, sealed, closed) = world.record.look(|image| {
        let sealed = image.sealed.clone();
        (image.rows.clone(), image.set_aside, sealed, image.closed)
    });
    let pump = rows.remove(PUMP).unwrap_or_default();
    let gateway = rows.remove(&own).unwrap_or_default();
    let mut judged = Judged {
        lost_declared: same_events(world, &pump)?,
        excused: world.spool.counts().lost_to_lies > 0,
    };
    let root = world.bed.manifest.as_chain_root();
    let (key, secret) = (world.bed.keys.public(), world.bed.keys.tag_secret());
    chain(&pump, root, key, &secret, judged.lost_declared > 0)
        .map_err(|e| format!("the pump's chain: {e}"))?;
    in_time(&pump)?;
    ticks(world, &pump)?;
    volume(world, &pump)?;
    judged.excused &= set_aside > 0 || world.plan.liar;
    if judged.excused {
        return Ok(judged);
    }
    if let Some(source) = rows.keys().next() {
        return Err(format!("the record has rows of {source}"));
    }
    let (key, secret) = (world.gateway_keys.public(), world.gateway_keys.tag_secret());
    chain(&gateway, root, key, &secret, false).map_err(|e| format!("the gateway's chain: {e}"))?;
    in_time(&gateway)?;
    entries(world, &gateway)?;
    digests(&pump, &gateway)?;
    let aside = (set_aside, world.spool.look(|image| image.set_aside));
    if aside != (0, 0) {
        return Err(format!(
            "rows were set aside: {aside:?} at recorder and gateway"
        ));
    }
    let whole = BTreeMap::from([(PUMP.to_owned(), pump.len()), (own, gateway.len())]);
    if !closed || sealed != whole {
        return Err(format!(
            "the record is not closed, or its seals cover other rows: {closed} {sealed:?}, wanted {whole:?}"
        ));
    }
    Ok(judged)
}

/// Byte for byte what the journal held, each once; gives how many are lost and had to be.
fn same_events(world: &World, rows: &Rows) -> Result<u64, String> {
    let truth = &world.bed.truth.events;
    for (seq, row) in rows {
        let Some((raw, tag)) = truth.get(seq) else {
            return Err(format!("event {seq} is recorded and never happened"));
        };
        if row.row.raw != raw.as_bytes() || row.row.tag != *tag {
            return Err(format!("event {seq} is recorded with other bytes"));
        }
        row.row.check().map_err(|e| format!("event {seq}: {e}"))?;
    }
    let holes = world.record.look(|image| image.holes.clone());
    let mut lost = 0;
    for seq in truth.keys().filter(|seq| !rows.contains_key(seq)) {
        let named = |h: &record::trial_record::Hole| {
            h.source == PUMP && (h.from_seq..=h.to_seq).contains(seq)
        };
        if !holes.iter().any(named) {
            return Err(format!("event {seq} is missing and no hole names it"));
        }
        let in_spool = world.spool.look(|image| {
            let mut all = image.rows.iter().filter(|((_, source), _)| source == PUMP);
            all.any(|(_, rows)| rows.contains_key(seq))
        });
        if in_spool || world.bed.could_be_had(*seq) {
            return Err(format!("event {seq} is declared lost and could be had"));
        }
        lost += 1;
    }
    Ok(lost)
}

fn chain(
    rows: &Rows,
    root: &[u8],
    key: PublicKey,
    secret: &[u8; 32],
    holes: bool,
) -> Result<(), String> {
    let mut check = ChainCheck::new(root, key, Some(secret));
    for (seq, row) in rows {
        let (raw, _) = Raw::parse(&row.row.raw).map_err(|e| format!("{seq}: {e}"))?;
        loop {
            match check.next(&raw, &row.row.tag) {
                Finding::Hole { from_seq, to_seq } if !holes => {
                    return Err(format!("{from_seq} to {to_seq} are missing"));
                }
                Finding::Hole { .. } => {}
                Finding::Broken(why) => return Err(format!("{seq}: {why}")),
                Finding::NotProven if !holes => return Err(format!("{seq} is not proven")),
                Finding::Good | Finding::Proven | Finding::NotProven => break,
            }
        }
    }
    if check.closed() {
        Ok(())
    } else {
        Err("it is not closed".into())
    }
}

/// No event is of before the one that it follows, however clocks were set.
fn in_time(rows: &Rows) -> Result<(), String> {
    for ((_, before), (seq, row)) in rows.iter().zip(rows.iter().skip(1)) {
        let (before, row) = (&before.row, &row.row);
        if before.boot == row.boot && before.tick_ms > row.tick_ms {
            return Err(format!("the clock runs backwards at {} {seq}", row.source));
        }
    }
    Ok(())
}

/// Each tick that the patient saw is one score in the record, and no score is there that nobody
/// saw ticked but those that were journaled in the moment of a cut.
fn ticks(world: &World, rows: &Rows) -> Result<(), String> {
    let truth = &world.bed.truth;
    let mut unseen = 0;
    let mut seen = 0;
    for (seq, row) in rows {
        let Ok((_, Fact::Pump(Body::PainScore(score)))) = row.row.check() else {
            continue;
        };
        match truth.ticked.get(seq) {
            Some(ticked) if (ticked.score, ticked.confirmed) == (score.score, score.confirmed) => {
                seen += 1;
            }
            Some(ticked) => {
                return Err(format!(
                    "score {seq}: ticked {ticked:?}, recorded {score:?}"
                ));
            }
            None => unseen += 1,
        }
    }
    let missing = truth.ticked.len() - seen;
    let lost = truth.ticked.keys().filter(|seq| !rows.contains_key(seq));
    if missing != lost.count() || unseen > truth.unseen {
        return Err(format!(
            "{missing} ticked scores are not recorded, {unseen} recorded ones were never ticked"
        ));
    }
    Ok(())
}

/// The record's last counters are the motor's, less what moved after a report that a cut followed.
fn volume(world: &World, rows: &Rows) -> Result<(), String> {
    let truth = &world.bed.truth;
    let mut before = 0;
    for (seq, row) in rows {
        if let Ok((_, Fact::Pump(Body::Delivered(told)))) = row.row.check() {
            if told.encoder_counts < before {
                return Err(format!("the counters fall at {seq}"));
            }
            before = told.encoder_counts;
        }
    }
    let moved = truth.counts - truth.unreported;
    let error_nl = (i128::from(before) - i128::from(moved)) * 50_000 / 800;
    if error_nl == 0 {
        Ok(())
    } else {
        Err(format!(
            "the volume is {error_nl} nL off: {before} counts recorded, {moved} moved"
        ))
    }
}

/// Each entry that the gateway took is there once.
fn entries(world: &World, rows: &Rows) -> Result<(), String> {
    let facts = rows.values().filter_map(|row| row.row.check().ok());
    let mut ids = BTreeSet::new();
    for (_, fact) in facts {
        if let Some(id) = fact.entry_id()
            && !ids.insert(id.to_owned())
        {
            return Err(format!("entry {id} is recorded twice"));
        }
    }
    match world.entered.iter().find(|id| !ids.contains(*id)) {
        Some(id) => Err(format!("entry {id} was taken and is not recorded")),
        None => Ok(()),
    }
}

/// The gateway's digests over the pump's rows hold, and together they cover every row.
fn digests(pump: &Rows, gateway: &Rows) -> Result<(), String> {
    let mut covered = BTreeSet::new();
    for row in gateway.values() {
        let Ok((_, Fact::Stored(stored))) = row.row.check() else {
            continue;
        };
        let rows = if stored.source == PUMP { pump } else { gateway };
        let mut digest = RowsDigest::default();
        for (seq, row) in rows.range(stored.from_seq..=stored.to_seq) {
            digest.add(&row.row, &row.body_text);
            if stored.source == PUMP {
                covered.insert(*seq);
            }
        }
        if digest.finish() != stored.digest {
            return Err(format!(
                "the digest over {} {} to {} does not hold",
                stored.source, stored.from_seq, stored.to_seq
            ));
        }
    }
    match pump.keys().find(|seq| !covered.contains(*seq)) {
        Some(seq) => Err(format!("no digest covers event {seq}")),
        None => Ok(()),
    }
}
