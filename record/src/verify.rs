//! Holds a record against its own proof. Needs no secret: manifest, chain, checkpoints, digests
//! and receipts are all checked with public keys.

use crate::store::{Error, StoredRow, triggers};
use crate::trial_record::{Record, RowsReceipt};
use protocol::bedside::{Fact, Stored};
use protocol::chain::{ChainCheck, Finding, signature_holds};
use protocol::hex::{Digest, Hex, PublicKey};
use protocol::keys::fingerprint;
use protocol::manifest::Manifest;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What to check with.
#[derive(Debug, Default)]
pub struct Options {
    /// The pump's public key; without it the manifest's is used, and that is said.
    pub key: Option<PublicKey>,
    /// The pump's tag secret: then every tag of the pump is checked too.
    pub tag_secret: Option<[u8; 32]>,
}

/// What a record is worth, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// Complete and unaltered since the pump stored it.
    Complete,
    /// Made from a diary: nothing was chained.
    Imported,
    /// Not closed: unsigned from some seq on.
    Open,
    /// Unaltered, with named holes.
    Gaps,
    /// Altered or forged.
    Altered,
}

impl Evidence {
    /// The words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Complete => "COMPLETE, unaltered since the pump stored it",
            Self::Imported => "IMPORTED, NOT CHAINED",
            Self::Open => "OPEN, not closed",
            Self::Gaps => "COMPLETE WITH NAMED GAPS",
            Self::Altered => "NOT VERIFIED, altered or forged",
        }
    }

    /// The exit code of `thecal verify`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Imported => 5,
            Self::Open | Self::Gaps => 3,
            Self::Altered => 4,
        }
    }
}

/// Missing events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whose.
    pub source: String,
    /// First.
    pub from_seq: u64,
    /// Last.
    pub to_seq: u64,
    /// As noted by the recorder, or that nobody noted it.
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seq {} to {} missing ({})",
            self.source, self.from_seq, self.to_seq, self.reason
        )
    }
}

/// What a check of one record found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The trial.
    pub trial_id: String,
    /// What it is worth.
    pub evidence: Evidence,
    /// Events in it.
    pub events: u64,
    /// Sources with their last seq and the number of checkpoints that held.
    pub sources: Vec<(String, u64, u64)>,
    /// Missing events, in order.
    pub missing: Vec<Missing>,
    /// Events after a hole that no checkpoint has proven.
    pub not_proven: u64,
    /// Where each source is unsigned from, when it is not closed.
    pub unsigned_from: Vec<(String, u64)>,
    /// What is wrong, first place first.
    pub wrong: Vec<String>,
    /// Rows set aside.
    pub quarantined: u64,
    /// Fingerprint of the pump's key that was used.
    pub key: Option<String>,
    /// The key was taken from the record itself.
    pub key_from_record: bool,
    /// Every tag of the pump was checked.
    pub tags_checked: bool,
    /// SHA-256 over all rows.
    pub digest: Digest,
}

impl Report {
    /// One line for people.
    pub fn line(&self, path: &Path) -> String {
        let mut parts = vec![format!("{} events", self.events)];
        if let Some(first) = self.wrong.first() {
            parts.push(format!("first: {first}"));
            if self.wrong.len() > 1 {
                parts.push(format!("{} more", self.wrong.len() - 1));
            }
        }
        parts.extend(self.missing.iter().take(5).map(ToString::to_string));
        if self.missing.len() > 5 {
            parts.push(format!("{} more holes", self.missing.len() - 5));
        }
        if self.not_proven > 0 {
            parts.push(format!("{} present, not proven", self.not_proven));
        }
        for (source, seq) in &self.unsigned_from {
            parts.push(format!("{source} unsigned from seq {seq}"));
        }
        if self.quarantined > 0 {
            parts.push(format!("{} rows in quarantine", self.quarantined));
        }
        if let Some(key) = &self.key {
            let from = if self.key_from_record {
                ", key taken from the record"
            } else {
                ""
            };
            let tags = if self.tags_checked {
                ", every tag checked"
            } else {
                ""
            };
            parts.push(format!("pump key {key}{from}{tags}"));
        }
        format!(
            "{}: {}: {}",
            path.display(),
            self.evidence.words(),
            parts.join("; ")
        )
    }
}

/// Checks a record.
///
/// # Errors
/// Where the file is no record that can be read: nothing can be said of it then.
pub fn verify(path: &Path, options: &Options) -> Result<Report, Error> {
    let record = Record::open_read_only(path)?;
    let mut check = Check::new(&record, options)?;
    check.structure()?;
    if check.report.evidence == Evidence::Imported {
        check.imported_rows()?;
    } else {
        check.chains()?;
        check.digests()?;
    }
    check.report.digest = record.digest()?;
    Ok(check.finish())
}

struct Check<'a> {
    record: &'a Record,
    options: &'a Options,
    manifest: Option<(Manifest, Vec<u8>)>,
    stored: Vec<(String, Stored)>,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(record: &'a Record, options: &'a Options) -> Result<Self, Error> {
        let report = Report {
            trial_id: record.meta("trial_id")?.unwrap_or_default(),
            evidence: Evidence::Complete,
            events: 0,
            sources: Vec::new(),
            missing: Vec::new(),
            not_proven: 0,
            unsigned_from: Vec::new(),
            wrong: Vec::new(),
            quarantined: record.quarantined()?,
            key: None,
            key_from_record: options.key.is_none(),
            tags_checked: options.tag_secret.is_some(),
            digest: Hex::default(),
        };
        Ok(Self {
            record,
            options,
            manifest: None,
            stored: Vec::new(),
            report,
        })
    }

    fn wrong(&mut self, what: String) {
        self.report.wrong.push(what);
    }

    /// Triggers, the trial's own words, the manifest's signature.
    fn structure(&mut self) -> Result<(), Error> {
        let db = self.record.db();
        for (name, sql) in triggers() {
            let there: Option<String> = db
                .query_row(
                    "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1",
                    [&name],
                    |r| r.get(0),
                )
                .ok();
            if there.as_deref() != Some(sql.as_str()) {
                self.wrong(format!("trigger {name} is missing or changed"));
            }
        }
        let sound: String = db
            .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
            .unwrap_or_else(|e| e.to_string());
        if sound != "ok" {
            self.wrong(format!("the file is damaged: {sound}"));
        }
            let origin = self.record.meta("origin")?;
        let manifest = match self.record.manifest() {
            Ok(manifest) => manifest,
            Err(e) => {
                self.wrong(e.to_string());
                None
            }
        };
        if origin.as_deref() == Some("import") && manifest.is_none() {
            self.report.evidence = Evidence::Imported;
            return Ok(());
        }
        let Some(signed) = manifest else {
            if self.report.wrong.is_empty() {
                self.wrong("trial manifest: missing, so nothing can be held against it".into());
            }
            return Ok(());
        };
        match signed.open() {
            Ok(manifest) => {
                if manifest
                    .trial_id
                    .as_ref()
                    .is_some_and(|id| *id != self.report.trial_id)
                {
                    let id = &self.report.trial_id;
                    self.wrong(format!(
                        "trial trial_id: is {id:?}, the manifest says otherwise"
                    ));
                }
                if self
                    .record
                    .meta("zone")?
                    .is_some_and(|zone| zone != manifest.zone)
                {
                    self.wrong("trial zone: the manifest says otherwise".into());
                }
                let key = self.options.key.unwrap_or(manifest.pump_key);
                if key != manifest.pump_key {
                    self.wrong(format!(
                        "the manifest names another pump key, {}",
                        fingerprint(&manifest.pump_key)
                    ));
                }
                self.report.key = Some(fingerprint(&key));
                self.manifest = Some((manifest, signed.as_chain_root().to_vec()));
            }
            Err(e) => self.wrong(format!("trial manifest: {e}")),
        }
        if origin.as_deref() != Some("pump") {
            self.wrong("trial origin: not \"pump\", though a manifest is there".into());
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
        if !source.ends_with(&format!(".{}", self.report.trial_id)) {
            return Ok(None);
        }
        if manifest.gateway_key.is_some() {
            return Ok(manifest.gateway_key);
        }
        let key = self.record.meta(&format!("gateway_key.{source}"))?;
        Ok(key.and_then(|text| Hex::parse(&text)))
    }

    /// Every event of every source through its chain.
    fn chains(&mut self) -> Result<(), Error> {
        let Some((manifest, root)) = self.manifest.clone() else {
            return self.imported_rows();
        };
        let mut current: Option<(String, ChainCheck)> = None;
        let record = self.record;
        let mut unknown = BTreeMap::new();
        record.for_each_event(|stored| {
            let source = stored.row.source.as_str();
            self.report.events += 1;
            if current.as_ref().is_none_or(|(name, _)| name != source) {
                if let Some((name, chain)) = current.take() {
                    self.end_of_chain(&name, &chain);
                }
                let Some(key) = self.key_of(source)? else {
                    *unknown.entry(source.to_owned()).or_insert(0u64) += 1;
                    return Ok(());
                };
                let is_pump = source == manifest.pump.as_str();
                let secret = self.options.tag_secret.filter(|_| is_pump);
                current = Some((
                    source.to_owned(),
                    ChainCheck::new(&root, key, secret.as_ref()),
                ));
            }
            if let Some((_, chain)) = &mut current {
                self.one_event(&stored, chain, manifest.pump.as_str());
            }
            Ok(())
        })?;
        if let Some((name, chain)) = current.take() {
            self.end_of_chain(&name, &chain);
        }
        for (source, rows) in unknown {
            self.wrong(format!(
                "{source}: {rows} events of a source that the manifest does not name"
            ));
        }
        if !self
            .report
            .sources
            .iter()
            .any(|(name, ..)| name == manifest.pump.as_str())
        {
            self.report
                .unsigned_from
                .push((manifest.pump.as_str().into(), 1));
        }
        Ok(())
    }

    fn one_event(&mut self, stored: &StoredRow, chain: &mut ChainCheck, pump: &str) {
        let id = stored.id();
        let (raw, fact) = match stored.row.check() {
            Ok(good) => good,
            Err(e) => return self.wrong(format!("{id}: {e}")),
        };
        if stored.row.source.as_str() != pump {
            // The gateway stamps its own events with its clock: all three columns are one.
            let tick = i64::try_from(stored.row.tick_ms).ok();
            let same = tick == Some(stored.row.at_utc_ms)
                && tick == Some(stored.row.received_at_utc_ms)
                && stored.row.at_uncertainty_ms == Some(0);
            if !same {
                self.wrong(format!("{id}: a time differs from raw"));
            }
            if let Fact::GatewayStarted(started) = &fact
                && started.trial != self.report.trial_id
            {
                self.wrong(format!(
                    "{id}: the gateway bound it to trial {:?}",
                    started.trial
                ));
            }
        }
        if let Fact::Stored(range) = fact {
            self.stored.push((id.clone(), range));
        }
        loop {
            match chain.next(&raw, &stored.row.tag) {
                Finding::Good | Finding::Proven => break,
                Finding::NotProven => {
                    self.report.not_proven += 1;
                    break;
                }
                Finding::Hole { from_seq, to_seq } => {
                    let source = stored.row.source.as_str();
                    self.missing(source, from_seq, to_seq);
                }
                Finding::Broken(why) => {
                    self.wrong(format!("{id}: {why}"));
                    break;
                }
            }
        }
    }

    fn missing(&mut self, source: &str, from_seq: u64, to_seq: u64) {
        let noted = self.record.holes().unwrap_or_default();
        let reason = noted
            .iter()
            .find(|h| h.source == source && h.from_seq <= from_seq && h.to_seq >= to_seq)
            .map_or("nobody noted why", |h| h.reason.as_str());
        let reason = protocol::text::clean(reason, 120);
        self.report.missing.push(Missing {
            source: source.into(),
            from_seq,
            to_seq,
            reason,
        });
    }

    fn end_of_chain(&mut self, source: &str, chain: &ChainCheck) {
        let last = self.record.sources().ok().and_then(|all| {
            all.into_iter()
                .find(|(name, ..)| name == source)
                .map(|(_, _, last)| last)
        });
        self.report
            .sources
            .push((source.into(), last.unwrap_or(0), chain.checkpoints));
        if !chain.closed() {
            self.report
                .unsigned_from
                .push((source.into(), chain.proven_through + 1));
        }
    }

    /// The gateway's digests and the recorders' signed ones, over all columns.
    fn digests(&mut self) -> Result<(), Error> {
        for (id, range) in std::mem::take(&mut self.stored) {
            let what = format!(
                "{id} (digest of {} seq {} to {})",
                range.source, range.from_seq, range.to_seq
            );
            self.one_digest(
                &what,
                &range.source,
                range.from_seq,
                range.to_seq,
                range.digest,
            )?;
        }
        for receipt in self.record.receipts()? {
            self.one_receipt(&receipt)?;
        }
        Ok(())
    }

    fn one_receipt(&mut self, receipt: &RowsReceipt) -> Result<(), Error> {
        let what = format!("receipt by {} of {}", receipt.recorder, receipt.source);
        let parts = (
            Hex::parse(&receipt.key),
            Hex::parse(&receipt.signature),
            Hex::parse(&receipt.digest),
        );
        let (Some(key), Some(signature), Some(digest)) = parts else {
            self.wrong(format!("{what}: key, signature or digest is no hex"));
            return Ok(());
        };
        if !signature_holds(&key, receipt.message().as_bytes(), &signature) {
            self.wrong(format!("{what}: its signature does not hold"));
            return Ok(());
        }
        self.one_digest(
            &what,
            &receipt.source,
            receipt.from_seq,
            receipt.to_seq,
            digest,
        )
    }

    fn one_digest(
        &mut self,
        what: &str,
        source: &str,
        from: u64,
        to: u64,
        wanted: Digest,
    ) -> Result<(), Error> {
        let last = self
            .record
            .sources()?
            .into_iter()
            .find(|(name, ..)| name == source)
            .map_or(0, |(_, _, last)| last);
        if last < to {
            // Rows that somebody had stored are gone from the end.
            let from = last.max(from.saturating_sub(1)) + 1;
            if !self
                .report
                .missing
                .iter()
                .any(|m| m.source == source && m.to_seq >= to)
            {
                self.missing(source, from, to);
            }
            return Ok(());
        }
        let hole = |m: &Missing| m.source == source && m.from_seq <= to && m.to_seq >= from;
        if self.report.missing.iter().any(hole) {
            return Ok(());
        }
        let (digest, ..) = self.record.rows_digest(source, from, to)?;
        if digest != wanted {
            self.wrong(format!("{what}: the rows are not as they were stored"));
        }
        Ok(())
    }

    fn imported_rows(&mut self) -> Result<(), Error> {
        let record = self.record;
        record.for_each_event(|stored| {
            self.report.events += 1;
            if let Err(e) = stored.row.check() {
                self.wrong(format!("{}: {e}", stored.id()));
            }
            Ok(())
        })
    }

    fn finish(mut self) -> Report {
        let report = &mut self.report;
        if !report.wrong.is_empty() {
            report.evidence = Evidence::Altered;
        } else if report.evidence != Evidence::Imported {
            if !report.missing.is_empty() {
                report.evidence = Evidence::Gaps;
            } else if !report.unsigned_from.is_empty() {
                report.evidence = Evidence::Open;
            }
        }
        self.report
    }
}
