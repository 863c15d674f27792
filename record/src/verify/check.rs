//! The check itself: the file, the trial's words, every chain, event by event.

use super::coverage::written;
use super::{Evidence, Missing, Options, Report, WRONG_MAX};
use crate::import::ImportedTrial;
use crate::store::{
    Error, NO_TAG, RowsDigest, StoredRow, canonical_json, record_schema, schema_of, shown_name,
};
use crate::trial_record::{Hole, Record};
use protocol::bedside::{Fact, Stored};
use protocol::chain::{Broken, ChainCheck, Finding};
use protocol::event::{Body, Raw, encode};
use protocol::hex::{Digest, Hex, PublicKey};
use protocol::keys::fingerprint;
use protocol::manifest::{Manifest, SignedManifest};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of one source.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The seqs that are there, ascending.
    pub(super) seqs: Vec<u64>,
    /// Over all its rows.
    pub(super) digest: Option<Digest>,
}

impl Seen {
    pub(super) fn first(&self) -> u64 {
        self.seqs.first().copied().unwrap_or(0)
    }

    pub(super) fn last(&self) -> u64 {
        self.seqs.last().copied().unwrap_or(0)
    }
}

/// One source while its rows go by.
struct Walk {
    source: String,
    chain: Option<ChainCheck>,
    digest: RowsDigest,
    /// Rows that are there and cannot be put through the chain.
    unfit: BTreeSet<u64>,
}

pub(super) struct Check<'a> {
    pub(super) record: &'a Record,
    options: &'a Options,
    manifest: Option<(Manifest, SignedManifest)>,
    holes: Vec<Hole>,
    beds: BTreeSet<String>,
    pub(super) stored: Vec<(String, Stored)>,
    pub(super) seen: BTreeMap<String, Seen>,
    pub(super) report: Report,
}

impl<'a> Check<'a> {
    pub(super) fn new(record: &'a Record, options: &'a Options) -> Self {
        let report = Report {
            trial_id: String::new(),
            evidence: Evidence::Complete,
            events: 0,
            sources: Vec::new(),
            missing: Vec::new(),
            not_proven: 0,
            unsigned_from: Vec::new(),
            times_not_proven_from: Vec::new(),
            wrong: Vec::new(),
            wrong_count: 0,
            quarantined: 0,
            key: None,
            key_from_record: options.key.is_none(),
            gateway_keys: Vec::new(),
            sealed_by: Vec::new(),
            tables_sealed: false,
            unsealed_rows: 0,
            tags_checked: options.tag_secret.is_some(),
            digest: Hex::default(),
        };
        Self {
            record,
            options,
            manifest: None,
            holes: Vec::new(),
            beds: BTreeSet::new(),
            stored: Vec::new(),
            seen: BTreeMap::new(),
            report,
        }
    }

    pub(super) fn run(&mut self) -> Result<(), Error> {
        self.file();
        self.words()?;
        self.report.quarantined = self.record.quarantined()?;
        match self.record.holes() {
            Ok(holes) => self.holes = holes,
            Err(e) => self.wrong(format!("table hole: {e}")),
        }
        self.rows()?;
        if self.manifest.is_some() {
            self.coverage()?;
            self.noted_holes_at_the_end();
            self.words_of_the_gateway()?;
        }
        Ok(())
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.report.wrong_count += 1;
        if self.report.wrong.len() < WRONG_MAX {
            self.report.wrong.push(what);
        }
    }

    pub(super) fn found_wrong(&self) -> bool {
        self.report.wrong_count > 0
    }

    pub(super) fn finish(mut self) -> Report {
        let report = &mut self.report;
        report
            .missing
            .sort_by(|a, b| (&a.source, a.from_seq).cmp(&(&b.source, b.from_seq)));
        if report.wrong_count > 0 {
            report.evidence = Evidence::Altered;
        } else if report.evidence != Evidence::Imported {
            if !report.missing.is_empty() {
                report.evidence = Evidence::Gaps;
            } else if !(report.unsigned_from.is_empty() && report.times_not_proven_from.is_empty())
            {
                report.evidence = Evidence::Open;
            }
        }
        self.report
    }

    /// The pump's name.
    pub(super) fn pump(&self) -> Option<String> {
        let (manifest, _) = self.manifest.as_ref()?;
        Some(manifest.pump.to_string())
    }

    /// Whether any event is of a gateway.
    pub(super) fn has_gateway(&self) -> bool {
        let pump = self.pump();
        self.seen
            .keys()
            .any(|source| Some(source) != pump.as_ref() && self.is_gateway(source))
    }

    fn is_gateway(&self, source: &str) -> bool {
        source.ends_with(&format!(".{}", self.report.trial_id))
    }

    /// Pages, tables and triggers.
    fn file(&mut self) {
        let db = self.record.db();
        let (wanted, there) = match (record_schema(), schema_of(db)) {
            (Ok(wanted), Ok(there)) => (wanted, there),
            (Err(e), _) | (_, Err(e)) => return self.wrong(format!("the file is damaged: {e}")),
        };
        for (kind, name, _) in wanted.iter().filter(|one| !there.contains(one)) {
            self.wrong(format!("{kind} {name}: is missing or changed"));
        }
        let known = |name: &String| wanted.iter().any(|(_, there, _)| there == name);
        for (kind, name, _) in there.iter().filter(|(_, name, _)| !known(name)) {
            self.wrong(format!("{kind} {name}: was added to the file"));
        }
        let sound: String = db
            .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
            .unwrap_or_else(|e| e.to_string());
        if sound != "ok" {
            self.wrong(format!("the file is damaged: {sound}"));
        }
    }

    /// The trial's own words, and the manifest's signature.
    fn words(&mut self) -> Result<(), Error> {
        self.report.trial_id = self.record.meta("trial_id")?.unwrap_or_default();
        let origin = self.record.meta("origin")?;
        let text = self.record.meta("manifest")?;
        let signed = match text.as_deref().map(serde_json::from_str::<SignedManifest>) {
            Some(Ok(signed)) => Some(signed),
            Some(Err(e)) => {
                self.wrong(format!("trial manifest: {e}"));
                None
            }
            None => None,
        };
        let Some(signed) = signed else {
            if origin.as_deref() == Some("import") && !self.found_wrong() {
                self.report.evidence = Evidence::Imported;
                return self.imported_words();
            }
            if !self.found_wrong() {
                self.wrong("trial manifest: missing, so nothing can be held against it".into());
            }
            return Ok(());
        };
        match signed.open() {
            Ok(manifest) => {
                if text != serde_json::to_string(&signed).ok() {
                    self.wrong("trial manifest: is not written as it was stored".into());
                }
                self.manifest_words(manifest, signed)?;
            }
            Err(e) => self.wrong(format!("trial manifest: {e}")),
        }
        if origin.as_deref() != Some("pump") {
            self.wrong("trial origin: not \"pump\", though a manifest is there".into());
        }
        Ok(())
    }

    fn manifest_words(&mut self, manifest: Manifest, signed: SignedManifest) -> Result<(), Error> {
        let id = self.report.trial_id.clone();
        if manifest.trial_id.as_ref().is_some_and(|named| *named != id) {
            self.wrong(format!(
                "trial trial_id: is {id:?}, the manifest says otherwise"
            ));
        }
        let zone = self.record.meta("zone")?;
        if zone.is_some_and(|zone| zone != manifest.zone) {
            self.wrong("trial zone: the manifest says otherwise".into());
        }
        let key = self.options.key.unwrap_or(manifest.pump_key);
        if key != manifest.pump_key {
            self.wrong(format!(
                "trial manifest: it names another pump key, {}",
                fingerprint(&manifest.pump_key)
            ));
        }
        self.report.key = Some(fingerprint(&key));
        self.manifest = Some((manifest, signed));
        Ok(())
    }

    /// What the gateway says of itself, against the trial's words.
    fn words_of_the_gateway(&mut self) -> Result<(), Error> {
        let bed = self.record.meta("bed")?;
        if bed.is_some_and(|bed| !self.beds.is_empty() && !self.beds.contains(&bed)) {
            self.wrong("trial bed: the gateway's chain says otherwise".into());
        }
        let gw = self.record.meta("gw")?;
        if let Some(gw) = gw.filter(|_| self.has_gateway()) {
            let source = format!("{gw}.{}", self.report.trial_id);
            if !self.seen.contains_key(&source) {
                self.wrong(format!("trial gw: no event is of {source}"));
            }
        }
        Ok(())
    }

    fn key_of(&self, source: &str) -> Result<Option<PublicKey>, Error> {
        let Some((manifest, _)) = &self.manifest else {
            return Ok(None);
        };
        if source == manifest.pump.as_str() {
            return Ok(Some(self.options.key.unwrap_or(manifest.pump_key)));
        }
        if !self.is_gateway(source) {
            return Ok(None);
        }
        if manifest.gateway_key.is_some() {
            return Ok(manifest.gateway_key);
        }
        let key = self.record.meta(&format!("gateway_key.{source}"))?;
        Ok(key.and_then(|text| written(&text)))
    }

    /// Every row once, source by source.
    fn rows(&mut self) -> Result<(), Error> {
        let mut walk: Option<Walk> = None;
        let mut all = Sha256::new();
        let record = self.record;
        record.for_each_held(|held| {
            let stored = StoredRow::read(held, 0);
            let source = held.get_ref(0).map_or_else(|_| "?".into(), shown_name);
            self.report.events += 1;
            if walk.as_ref().is_none_or(|w| w.source != source) {
                if let Some(done) = walk.take() {
                    self.end_of_source(done, &mut all);
                }
                walk = Some(self.begin_source(&source)?);
            }
            if let Some(walk) = &mut walk {
                if let Err(e) = walk.digest.add_as_held(held) {
                    self.wrong(format!("{}: {e}", stored.id()));
                }
                self.one_row(&stored, walk);
            }
            Ok(())
        })?;
        if let Some(done) = walk.take() {
            self.end_of_source(done, &mut all);
        }
        self.report.digest = Hex(all.finalize().into());
        if let Some(pump) = self.pump() {
            // Of whose chain nothing is left, everything is unsigned.
            let gw = self.record.meta("gw")?;
            let gateway = gw.map(|gw| format!("{gw}.{}", self.report.trial_id));
            let absent = [Some(pump), gateway].into_iter().flatten();
            let absent = absent.filter(|source| !self.seen.contains_key(source));
            let absent: Vec<_> = absent.map(|source| (source, 1)).collect();
            self.report.unsigned_from.extend(absent);
        }
        if self.report.evidence == Evidence::Imported {
            self.imported_digest()?;
        }
        Ok(())
    }

    fn begin_source(&mut self, source: &str) -> Result<Walk, Error> {
        let mut chain = None;
        if let Some((manifest, signed)) = &self.manifest {
            if let Some(key) = self.key_of(source)? {
                let is_pump = source == manifest.pump.as_str();
                let secret = self.options.tag_secret.filter(|_| is_pump);
                let root = signed.as_chain_root();
                chain = Some(ChainCheck::new(root, key, secret.as_ref()));
                if !is_pump {
                    let used = (source.to_owned(), fingerprint(&key));
                    self.report.gateway_keys.push(used);
                }
            } else {
                let why = if self.is_gateway(source) {
                    "no public key is named for"
                } else {
                    "the manifest does not name"
                };
                self.wrong(format!("{source}: events of a source that {why} it"));
            }
        }
        self.seen.insert(source.to_owned(), Seen::default());
        Ok(Walk {
            source: source.to_owned(),
            chain,
            digest: RowsDigest::default(),
            unfit: BTreeSet::new(),
        })
    }

    fn end_of_source(&mut self, walk: Walk, all: &mut Sha256) {
        let digest = walk.digest.finish();
        all.update(digest.0);
        let seen = self.seen.entry(walk.source.clone()).or_default();
        seen.digest = Some(digest);
        let last = seen.last();
        let checkpoints = walk.chain.as_ref().map_or(0, |chain| chain.checkpoints);
        self.report
            .sources
            .push((walk.source.clone(), last, checkpoints));
        if let Some(chain) = walk.chain {
            self.report.not_proven += chain.not_proven;
            if !chain.closed() {
                let from = chain.proven_through.saturating_add(1);
                self.report.unsigned_from.push((walk.source, from));
            }
        }
    }

    fn one_row(&mut self, stored: &StoredRow, walk: &mut Walk) {
        if let Some(damaged) = &stored.damaged {
            self.wrong(damaged.clone());
        }
        let seq = stored.row.seq;
        if let Some(seen) = self.seen.get_mut(&walk.source) {
            seen.seqs.push(seq);
        }
        if self.report.evidence == Evidence::Imported {
            return self.one_imported_row(stored);
        }
        let id = stored.id();
        let checked = stored.row.check().map_err(|e| e.to_string());
        let checked = checked.and_then(|(raw, fact)| {
            written_so(stored, &raw, &fact).map_err(String::from)?;
            Ok((raw, fact))
        });
        let (raw, fact) = match checked {
            Ok(good) if stored.damaged.is_none() => good,
            Ok(_) => {
                walk.unfit.insert(seq);
                return;
            }
            Err(e) => {
                if stored.damaged.is_none() {
                    self.wrong(format!("{id}: {e}"));
                }
                walk.unfit.insert(seq);
                return;
            }
        };
        let is_pump = self.pump().is_some_and(|pump| pump == walk.source);
        if !is_pump && walk.chain.is_some() {
            self.gateway_row(stored, &fact);
        }
        if let Some(chain) = &mut walk.chain {
            self.one_link(&id, &raw, &fact, stored, chain, &walk.unfit);
        }
        if let Fact::Stored(range) = fact
            && !is_pump
            && walk.chain.is_some()
        {
            self.stored.push((id, range));
        }
    }

    /// The gateway stamps its own events with its clock: all time columns are one.
    fn gateway_row(&mut self, stored: &StoredRow, fact: &Fact) {
        let (row, id) = (&stored.row, stored.id());
        let tick = i64::try_from(row.tick_ms).ok();
        let times = [
            ("at_utc_ms", tick == Some(row.at_utc_ms)),
            ("received_at_utc_ms", tick == Some(row.received_at_utc_ms)),
            ("at_uncertainty_ms", row.at_uncertainty_ms == Some(0)),
        ];
        for (column, _) in times.iter().filter(|(_, same)| !same) {
            self.wrong(format!("{id}: {column} differs from raw"));
        }
        if let Fact::GatewayStarted(started) = fact {
            if started.trial != self.report.trial_id {
                let trial = &started.trial;
                self.wrong(format!("{id}: the gateway bound it to trial {trial:?}"));
            }
            self.beds.insert(started.bed.clone());
        }
    }

    fn one_link(
        &mut self,
        id: &str,
        raw: &Raw,
        fact: &Fact,
        stored: &StoredRow,
        chain: &mut ChainCheck,
        unfit: &BTreeSet<u64>,
    ) {
        let proven = chain.proven_through;
        loop {
            match chain.next(raw, &stored.row.tag) {
                Finding::Good | Finding::Proven | Finding::NotProven => return,
                Finding::Hole { from_seq, to_seq } => {
                    let declared = matches!(fact, Fact::Pump(Body::JournalLost(lost))
                        if lost.from_seq <= from_seq && lost.to_seq >= to_seq);
                    let source = stored.row.source.as_str();
                    let mut from = from_seq;
                    for there in unfit.range(from_seq..=to_seq) {
                        self.missing(source, from, there - 1, declared);
                        from = there + 1;
                    }
                    self.missing(source, from, to_seq, declared);
                }
                Finding::Broken(why) => {
                    let (from, to) = (proven + 1, stored.row.seq.saturating_sub(1));
                    let place = if why == Broken::Head {
                        format!(" (somewhere in seq {from} to {to})")
                    } else {
                        String::new()
                    };
                    return self.wrong(format!("{id}: {why}{place}"));
                }
            }
        }
    }

    fn missing(&mut self, source: &str, from_seq: u64, to_seq: u64, declared: bool) {
        if from_seq > to_seq {
            return;
        }
        let noted = self
            .holes
            .iter()
            .find(|h| h.source == source && h.from_seq <= from_seq && h.to_seq >= to_seq);
        let reason = match noted {
            Some(hole) => protocol::text::clean(&hole.reason, 120),
            None if declared => "declared lost by their source".into(),
            None => "nobody noted why".into(),
        };
        self.report.missing.push(Missing {
            source: source.into(),
            from_seq,
            to_seq,
            reason,
        });
    }

    /// Rows beyond a source's last one that somebody vouched for; named once.
    pub(super) fn missing_at_end(&mut self, source: &str, from_seq: u64, to_seq: u64) {
        let from_seq = from_seq.max(1);
        let named = |m: &&mut Missing| m.source == source && m.to_seq >= from_seq - 1;
        let Some(there) = self.report.missing.iter_mut().find(named) else {
            return self.missing(source, from_seq, to_seq, false);
        };
        there.from_seq = there.from_seq.min(from_seq);
        there.to_seq = there.to_seq.max(to_seq);
    }

    /// Whether rows of the range are missing, so that no digest over it can be made again.
    pub(super) fn is_incomplete(&self, source: &str, from: u64, to: u64) -> bool {
        let missing = &self.report.missing;
        missing
            .iter()
            .any(|m| m.source == source && m.from_seq <= to && m.to_seq >= from)
    }

    /// Whether all that is missing of the range is in the table of holes.
    pub(super) fn is_noted(&self, source: &str, from: u64, to: u64) -> bool {
        let of_range = |m: &&Missing| m.source == source && m.from_seq <= to && m.to_seq >= from;
        self.report.missing.iter().filter(of_range).all(|m| {
            let mut next = m.from_seq.max(from);
            for hole in self.holes.iter().filter(|hole| hole.source == source) {
                if hole.from_seq > next {
                    break;
                }
                next = next.max(hole.to_seq.saturating_add(1));
            }
            next > m.to_seq.min(to)
        })
    }

    /// Holes that were noted after a source's last event.
    fn noted_holes_at_the_end(&mut self) {
        for hole in std::mem::take(&mut self.holes) {
            let last = self.seen.get(&hole.source).map_or(0, Seen::last);
            let from = hole.from_seq.max(last.saturating_add(1));
            if from <= hole.to_seq && !self.is_incomplete(&hole.source, from, hole.to_seq) {
                let reason = protocol::text::clean(&hole.reason, 120);
                self.report.missing.push(Missing {
                    source: hole.source,
                    from_seq: from,
                    to_seq: hole.to_seq,
                    reason,
                });
            }
        }
    }

    fn imported_words(&mut self) -> Result<(), Error> {
        let Some(text) = self.record.meta("import")? else {
            self.wrong("trial import: missing".into());
            return Ok(());
        };
        match serde_json::from_str::<ImportedTrial>(&text) {
            Err(e) => self.wrong(format!("trial import: {e}")),
            Ok(import) => {
                if import.trial_id != self.report.trial_id {
                    self.wrong("trial trial_id: the import says otherwise".into());
                }
                if self.record.meta("zone")?.as_ref() != Some(&import.zone) {
                    self.wrong("trial zone: the import says otherwise".into());
                }
            }
        }
        Ok(())
    }

    /// An import writes one form of row only; nothing chains them, but what has another form was
    /// not written by it.
    fn one_imported_row(&mut self, stored: &StoredRow) {
        if stored.damaged.is_some() {
            return;
        }
        let (row, id) = (&stored.row, stored.id());
        let fact = match row.check() {
            Ok((raw, fact)) => match written_so(stored, &raw, &fact) {
                Ok(()) => fact,
                Err(e) => return self.wrong(format!("{id}: {e}")),
            },
            Err(e) => return self.wrong(format!("{id}: {e}")),
        };
        let is_diary = matches!(
            fact,
            Fact::ScoreEntry(_)
                | Fact::Observation(_)
                | Fact::Rescue(_)
                | Fact::Pump(Body::Delivered(_))
        );
        let tick = i64::try_from(row.tick_ms).ok();
        let of_import = row.source.as_str() == crate::import::SOURCE
            && row.boot == 1
            && row.tag == NO_TAG
            && tick == Some(row.at_utc_ms)
            && tick == Some(row.received_at_utc_ms)
            && row.at_uncertainty_ms == Some(0);
        if !(is_diary && of_import) {
            self.wrong(format!(
                "{id}: no row of an import, though origin is \"import\""
            ));
        }
    }

    fn imported_digest(&mut self) -> Result<(), Error> {
        let seen = self.seen.get(crate::import::SOURCE);
        let last = seen.map_or(0, Seen::last);
        let there = seen.map_or(0, |s| s.seqs.len());
        let digest = seen
            .and_then(|s| s.digest)
            .unwrap_or_else(|| RowsDigest::default().finish());
        if u64::try_from(there).ok() != Some(last) {
            self.wrong("import: rows were removed after the import".into());
        }
        let wanted = self.record.meta("import_digest")?;
        if wanted != Some(digest.to_string()) {
            self.wrong("trial import_digest: the rows are not as they were imported".into());
        }
        Ok(())
    }
}

/// Bytes and text that decode to the right values can still be other bytes than any program of
/// ours writes.
fn written_so(stored: &StoredRow, raw: &Raw, fact: &Fact) -> Result<(), &'static str> {
    if stored.body_text != canonical_json(&stored.row.body) {
        return Err("body is not written as it was stored");
    }
    let head = raw.head();
    let same = if let Fact::Pump(Body::Unknown(number)) = fact {
        // Of what we do not know we know the head.
        head.and_then(|head| encode(*number, head, &()))
            .is_ok_and(|again| raw.body().starts_with(again.body()))
    } else {
        head.and_then(|head| fact.encode(head))
            .is_ok_and(|again| again == *raw)
    };
    if same {
        Ok(())
    } else {
        Err("raw is not written as its source writes it")
    }
}
