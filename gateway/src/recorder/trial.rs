//! One trial's record, and how far its sources are complete.

use super::folder::{RecordFile, RecordFolder};
use protocol::bedside::Fact;
use protocol::chain::ChainHead;
use protocol::event::Body;
use protocol::keys::KeyPair;
use protocol::time::{Now, Uptime};
use protocol::topics::{EvBatch, SourceReceipt};
use record::progress::Progress;
use record::trial_record::Hole;
use std::collections::BTreeMap;

/// A hole is noted when it stood so long, wall milliseconds.
const HOLE_AFTER_MS: u64 = 10_000;

/// A trial that the recorder has heard of.
#[derive(Debug)]
pub(super) struct Trial {
    name: String,
    file: Option<Box<dyn RecordFile>>,
    gw: Option<String>,
    genesis: Option<ChainHead>,
    sources: BTreeMap<String, SourceState>,
    closed: bool,
}

#[derive(Debug)]
struct SourceState {
    progress: Progress,
    hole_since: Option<(Uptime, (u64, u64))>,
}

impl SourceState {
    fn new(genesis: Option<ChainHead>) -> Self {
        Self {
            progress: Progress::new(genesis.unwrap_or(ChainHead::genesis(b""))),
            hole_since: None,
        }
    }
}

impl Trial {
    /// Takes up the trial's record, or begins it.
    pub(super) fn open(folder: &dyn RecordFolder, name: &str) -> Result<Self, record::Error> {
        let file = folder.open(name)?;
        file.set_meta("trial_id", name)?;
        file.set_meta("origin", "pump")?;
        let mut opened = Self {
            name: name.to_owned(),
            genesis: file
                .manifest()?
                .map(|m| ChainHead::genesis(m.as_chain_root())),
            gw: file.meta("gw")?,
            closed: file.meta("closed")?.is_some(),
            sources: BTreeMap::new(),
            file: None,
        };
        file.for_each_event(&mut |stored| {
            if let Ok((raw, _)) = protocol::event::Raw::parse(&stored.row.raw) {
                let source = stored.row.source.to_string();
                let state = opened.sources.entry(source);
                let state = state.or_insert_with(|| SourceState::new(opened.genesis));
                state.progress.note(stored.row.seq, &raw);
            }
            Ok(())
        })?;
        if !opened.closed {
            opened.file = Some(file);
        }
        Ok(opened)
    }

    /// The gateway whose trial it is.
    pub(super) fn gw(&self) -> Option<&String> {
        self.gw.as_ref()
    }

    fn writable(
        &mut self,
        folder: &dyn RecordFolder,
    ) -> Result<&mut dyn RecordFile, record::Error> {
        if self.file.is_none() {
            self.file = Some(folder.open(&self.name)?);
        }
        Ok(self.file.as_mut().expect("opened just now").as_mut())
    }

    /// The trial's own words, from the batches that carry them.
    fn learn(&mut self, folder: &dyn RecordFolder, batch: &EvBatch) -> Result<(), record::Error> {
        let knows_key = self.gw.is_some();
        let manifest = batch.manifest.as_ref().filter(|_| self.genesis.is_none());
        if knows_key && manifest.is_none() {
            return Ok(());
        }
        let file = self.writable(folder)?;
        if !knows_key {
            file.set_meta("gw", &batch.gw)?;
            let name = format!("gateway_key.{}.{}", batch.gw, batch.trial);
            file.set_meta(&name, &batch.gateway_key.to_string())?;
        }
        let mut genesis = None;
        if let Some(signed) = manifest
            && let Ok(opened) = signed.open()
        {
            file.set_meta("zone", &opened.zone)?;
            let text = serde_json::to_string(signed).unwrap_or_default();
            file.set_meta("manifest", &text)?;
            genesis = Some(ChainHead::genesis(signed.as_chain_root()));
        }
        self.gw = Some(batch.gw.clone());
        if genesis.is_some() {
            self.genesis = genesis;
        }
        Ok(())
    }

    /// Makes a batch durable; says what came with another body.
    pub(super) fn store(
        &mut self,
        folder: &dyn RecordFolder,
        now: Now,
        batch: &EvBatch,
    ) -> Result<Vec<String>, record::Error> {
        let utc = now.utc.as_unix_millis();
        self.learn(folder, batch)?;
        let mut good = Vec::new();
        let mut bad = Vec::new();
        for row in &batch.events {
            match row.check() {
                Ok((raw, fact)) => good.push((row.clone(), raw, fact)),
                Err(e) => bad.push((row, e.to_string())),
            }
        }
        let rows: Vec<_> = good.iter().map(|(row, ..)| row.clone()).collect();
        let file = self.writable(folder)?;
        for (row, why) in bad {
            file.quarantine(row, &why, utc)?;
        }
        let appended = file.append(&rows, utc)?;
        for (row, raw, fact) in good {
            let state = self.sources.entry(row.source.to_string());
            let state = state.or_insert_with(|| SourceState::new(self.genesis));
            state.progress.note(row.seq, &raw);
            if let (Fact::Pump(Body::JournalLost(lost)), Some(file)) = (fact, &self.file) {
                file.note_hole(&Hole {
                    source: row.source.to_string(),
                    from_seq: lost.from_seq,
                    to_seq: lost.to_seq,
                    reason: "lost in the pump's journal, declared by the pump".into(),
                    noted_at_utc_ms: utc,
                })?;
            }
        }
        self.note_absent(batch);
        if self.closed {
            // What came again after the close does not hold the file open: it would be locked, with
            // a -wal beside it.
            self.file = None;
        }
        Ok(appended.conflicts)
    }

    /// What lies between the events of a batch is not at the gateway.
    fn note_absent(&mut self, batch: &EvBatch) {
        let (Some(mut before), Some(first)) = (batch.after_seq, batch.events.first()) else {
            return;
        };
        let Some(state) = self.sources.get_mut(first.source.as_str()) else {
            return;
        };
        for row in &batch.events {
            if let (Some(from_seq), Some(to_seq)) = (before.checked_add(1), row.seq.checked_sub(1))
            {
                state.progress.note_absent(from_seq, to_seq);
            }
            before = row.seq;
        }
    }

    /// Notes holes that stand.
    pub(super) fn note_holes(&mut self, now: Now) -> Result<(), record::Error> {
        for (source, state) in &mut self.sources {
            let since = match (state.progress.hole(), state.hole_since) {
                (Some(hole), Some((since, seen))) if hole == seen => since,
                (Some(hole), _) => {
                    state.hole_since = Some((now.uptime, hole));
                    continue;
                }
                (None, _) => {
                    state.hole_since = None;
                    continue;
                }
            };
            let Some((_, (from_seq, to_seq))) = state.hole_since else {
                continue;
            };
            if now.uptime.millis_since(since) >= HOLE_AFTER_MS
                && let Some(file) = &self.file
            {
                let (source, reason) = (source.clone(), "not received".to_owned());
                let noted_at_utc_ms = now.utc.as_unix_millis();
                file.note_hole(&Hole {
                    source,
                    from_seq,
                    to_seq,
                    reason,
                    noted_at_utc_ms,
                })?;
            }
        }
        Ok(())
    }

    /// Seals and folds the record once both chains are closed; says whether it did.
    pub(super) fn close_if_whole(
        &mut self,
        folder: &dyn RecordFolder,
        now: Now,
        recorder: &str,
        pair: &KeyPair,
    ) -> Result<bool, record::Error> {
        let whole = |s: &SourceState| s.progress.closed() && s.progress.hole().is_none();
        if self.closed || self.sources.len() < 2 || !self.sources.values().all(whole) {
            return Ok(false);
        }
        let sources: Vec<_> = self.sources.keys().cloned().collect();
        let file = self.writable(folder)?;
        for source in sources {
            file.seal(&source, recorder, pair, now.utc.as_unix_millis())?;
        }
        let utc = now.utc.as_unix_millis();
        file.close_sealed("closed by pump and gateway", recorder, pair, utc)?;
        self.closed = true;
        // Closing the file leaves no -wal behind.
        self.file = None;
        Ok(true)
    }

    /// What is on disk of each source.
    pub(super) fn receipts(&self) -> impl Iterator<Item = SourceReceipt> {
        self.sources.iter().map(|(source, state)| SourceReceipt {
            trial: self.name.clone(),
            source: source.clone(),
            stored_through_seq: state.progress.through(),
            holes: state.progress.lost().to_vec(),
            head: state.progress.head().map(|head| head.0),
        })
    }
}
