//! Which pump belongs to which trial: hello, manifest, and what the spool knows of both.

use super::{Bound, Line};
use crate::gate::Gate;
use crate::gateway::lock;
use crate::own_chain::OwnChain;
use protocol::bedside::Fact;
use protocol::link::TimeSync;
use protocol::manifest::{MANIFEST_MAX, Manifest, SignedManifest};
use protocol::message::{Hello, ManifestPart};
use protocol::time::{Now, Timestamp};
use record::progress::Progress;
use record::store::RowsDigest;
use std::collections::BTreeSet;

impl Line {
    pub(super) fn handle_hello(&mut self, now: Now, hello: Hello) {
        let mine = protocol::PROTOCOL_VERSION;
        if !(hello.protocol_min..=hello.protocol_max).contains(&mine) {
            let (min, max) = (hello.protocol_min, hello.protocol_max);
            return self.identity(Some(format!(
                "pump speaks protocol {min} to {max}, this gateway {mine}"
            )));
        }
        if self.mode.speed() > 1 && !hello.simulated {
            return self.identity(Some(
                "an accelerated clock is for simulated pumps; start with --clock wall".into(),
            ));
        }
        if self
            .bound
            .as_ref()
            .is_some_and(|b| b.source != hello.source)
            || self
                .hello
                .is_some_and(|h| h.manifest != hello.manifest && self.bound.is_some())
        {
            return self.identity(Some(format!(
                "pump {} is on the line of another pump's trial",
                hello.source
            )));
        }
        self.hello = Some(hello);
        let known = self.stored_manifest();
        match known {
            Some(signed) if signed.digest() == hello.manifest => self.bind(now, &hello, &signed),
            Some(_) => self.identity(Some(format!(
                "pump {} was provisioned for another trial than {}",
                hello.source, self.parts.config.trial
            ))),
            None => {
                self.manifest.clear();
                self.receiver.bind(0, true);
            }
        }
    }

    fn stored_manifest(&self) -> Option<SignedManifest> {
        let trial = self.parts.config.trial.clone();
        let text = self
            .parts
            .store
            .with(move |spool| spool.meta(&trial, "manifest"))
            .ok()?
            .ok()??;
        serde_json::from_str(&text).ok()
    }

    /// Parts come in order; one out of order means that the rest is to come again.
    pub(super) fn handle_part(&mut self, now: Now, part: &ManifestPart) {
        let Some(hello) = self.hello else { return };
        if self.bound.is_some() {
            return;
        }
        if part.offset == 0 {
            self.manifest.clear();
        }
        let whole = usize::from(hello.manifest_len);
        if usize::from(part.offset) != self.manifest.len() || whole > MANIFEST_MAX + 256 {
            return;
        }
        self.manifest.extend_from_slice(part.bytes());
        if self.manifest.len() < whole {
            return;
        }
        let Some(signed) = SignedManifest::from_bytes(&self.manifest) else {
            return self.identity(Some("the pump's manifest is of another form".into()));
        };
        if signed.digest() == hello.manifest {
            self.bind(now, &hello, &signed);
        }
    }

    /// The pump, its manifest and this bed belong together: from here on events are taken.
    fn bind(&mut self, now: Now, hello: &Hello, signed: &SignedManifest) {
        let config = &self.parts.config;
        let manifest = match signed.open() {
            Ok(manifest) => manifest,
            Err(e) => return self.identity(Some(e.to_string())),
        };
        if let Some(why) = misfit(&manifest, hello, &config.trial, &config.bed) {
            // It is here and refused; it need not come again each second.
            self.receiver.note_manifest();
            return self.identity(Some(why));
        }
        match self.try_bind(now, hello, signed, &manifest) {
            Ok(()) => self.identity(None),
            Err(why) => lock(&self.parts.view).technical.store = Some(why),
        }
    }

    fn try_bind(
        &mut self,
        now: Now,
        hello: &Hello,
        signed: &SignedManifest,
        manifest: &Manifest,
    ) -> Result<(), String> {
        let parts = self.parts.clone();
        let config = &parts.config;
        if self.bound.is_none() {
            let text = serde_json::to_string(signed).map_err(|e| e.to_string())?;
            let (trial, bed) = (config.trial.clone(), config.bed.clone());
            let name = format!("{}.{}", parts.gw, config.trial);
            let key = self.pair.public().to_string();
            let words = [
                ("manifest".to_owned(), text),
                ("bed".into(), bed),
                ("zone".into(), manifest.zone.clone()),
                (format!("gateway_key.{name}"), key),
            ];
            parts
                .store
                .write(move |spool| {
                    words
                        .iter()
                        .try_for_each(|(key, value)| spool.set_meta(&trial, key, value))
                })
                .map_err(|e| e.to_string())?;
            let mut own = lock(&parts.own);
            if own.is_none() {
                let root = signed.as_chain_root();
                let chain = OwnChain::open(
                    &parts.store,
                    &config.trial,
                    &parts.gw,
                    root,
                    self.pair.clone(),
                )
                .map_err(|e| e.to_string())?;
                *own = Some(chain);
            }
            drop(own);
            let bound = self.recall(now, hello, signed, manifest)?;
            self.wall.note_stored(now.utc, bound.received);
            self.bound = Some(bound);
            self.say(
                now,
                &protocol::bedside::GatewayStarted {
                    software: crate::SOFTWARE.into(),
                    bed: config.bed.clone(),
                    trial: config.trial.clone(),
                    pump: hello.source.to_string(),
                }
                .into(),
            );
            let mut view = lock(&parts.view);
            view.manifest = Some(signed.clone());
        }
        let through = self.bound.as_mut().map_or(0, |bound| {
            bound.gate.forget_held();
            bound.progress.through()
        });
        self.receiver.bind(through, false);
        Ok(())
    }

    /// Reads back what the spool has of this trial, so that the bed looks as before.
    fn recall(
        &self,
        now: Now,
        hello: &Hello,
        signed: &SignedManifest,
        manifest: &Manifest,
    ) -> Result<Bound, String> {
        let config = &self.parts.config;
        let genesis = protocol::chain::ChainHead::genesis(signed.as_chain_root());
        let read = |source: &str| {
            self.parts
                .store
                .rows_after(&config.trial, source, 0, usize::MAX >> 1)
                .map_err(|e| e.to_string())
        };
        let own_name = format!("{}.{}", self.parts.gw, config.trial);
        let own_rows = read(&own_name)?;
        let digested = crate::own_chain::digested_through(&own_rows, hello.source.as_str());
        let mut bound = Bound {
            source: hello.source,
            progress: Progress::new(genesis),
            gate: Gate::new(
                signed.as_chain_root(),
                manifest.pump_key,
                self.tag_secret.as_ref(),
            ),
            received: Timestamp::default(),
            time: TimeSync::default(),
            anchored: BTreeSet::new(),
            digest: RowsDigest::default(),
            digest_from: digested + 1,
            digest_at: now.uptime,
        };
        let mut view = lock(&self.parts.view);
        view.bed.handle_manifest(manifest);
        for stored in own_rows {
            let Ok((_, fact)) = stored.row.check() else {
                continue;
            };
            if let Fact::BootAnchored(anchor) = &fact {
                bound.anchored.insert(anchor.boot);
            }
            view.entries.extend(fact.entry_id().map(String::from));
            let at = Timestamp::from_unix_millis(stored.row.at_utc_ms);
            view.bed.handle_fact(at, stored.row.seq, &fact);
        }
        for stored in read(hello.source.as_str())? {
            let (raw, fact) = stored
                .row
                .check()
                .map_err(|e| format!("{}: {e}", stored.id()))?;
            bound
                .gate
                .recall(&raw, &stored.row.tag)
                .map_err(|e| format!("the spool holds what is not the pump's: {e}"))?;
            bound.received = Timestamp::from_unix_millis(stored.row.received_at_utc_ms);
            bound.progress.note(stored.row.seq, &raw);
            if stored.row.seq > digested {
                bound.digest.add(&stored.row, &stored.body_text);
            }
            let at = Timestamp::from_unix_millis(stored.row.at_utc_ms);
            view.bed.handle_fact(at, stored.row.seq, &fact);
        }
        Ok(bound)
    }
}

/// Why pump, manifest, trial and bed do not belong together.
fn misfit(manifest: &Manifest, hello: &Hello, trial: &str, bed: &str) -> Option<String> {
    if manifest.pump != hello.source || manifest.pump_key != hello.key {
        return Some(format!(
            "pump {} is not the one that its manifest names",
            hello.source
        ));
    }
    if manifest.simulated.is_some() != hello.simulated {
        return Some("the manifest and the pump differ on whether there is a patient".into());
    }
    if manifest.trial_id.as_ref().is_some_and(|id| id != trial) {
        return Some(format!(
            "pump {} belongs to another trial than {trial}",
            hello.source
        ));
    }
    if manifest.bed.as_ref().is_some_and(|b| b != bed) {
        return Some(format!(
            "pump {} belongs to another bed than {bed}",
            hello.source
        ));
    }
    None
}
