//! What a pump says on its line: bound to a trial, made durable, then acknowledged and shown.
//! Bytes in, bytes out; the port itself is [`crate::serial`]'s.

use crate::clock::{Clock, Mode};
use crate::config::BedConfig;
use crate::gateway::{BedParts, lock};
use crate::own_chain::OwnChain;
use protocol::bedside::{BootAnchored, Fact, LinkChanged, Stored};
use protocol::event::{Body, CloseReason, Raw};
use protocol::frame::{Deframer, Error as FrameError, Piece, decode_from_pump, encode_to_pump};
use protocol::keys::KeyPair;
use protocol::link::{Receiver, State, Taken, TimeSync};
use protocol::manifest::{MANIFEST_MAX, Manifest, SignedManifest};
use protocol::message::{Hello, ManifestPart, Source, ToPump};
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::{EventRow, LinkWord};
use record::progress::Progress;
use record::spool::Outcome;
use record::store::{RowsDigest, canonical_json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows of one digest.
const DIGEST_ROWS: u64 = 64;
/// A digest is added after so long, wall milliseconds, also with fewer rows.
const DIGEST_EVERY_MS: u64 = 60_000;
/// The gateway's chain is closed so long after the pump's, wall milliseconds, so that the last
/// entries come in.
const CLOSE_GRACE_MS: u64 = 3_000;

/// What is known of the pump behind the line.
struct Bound {
    source: Source,
    progress: Progress,
    time: TimeSync,
    anchored: BTreeSet<u32>,
    digest: RowsDigest,
    digest_from: u64,
    digest_at: Uptime,
}

/// One bed's line and everything that hangs on it.
pub(crate) struct Line {
    parts: Arc<BedParts>,
    clock: Clock,
    pair: KeyPair,
    receiver: Receiver,
    deframer: Deframer,
    bound: Option<Bound>,
    hello: Option<Hello>,
    manifest: Vec<u8>,
    link: LinkWord,
    silent_since: Uptime,
    closed_at: Option<Uptime>,
    wall_step_ms: i64,
    broken: bool,
}

impl Line {
    /// Of a bed whose pump was not heard yet.
    pub(crate) fn new(parts: Arc<BedParts>, clock: Clock, pair: KeyPair) -> Self {
        let now = clock.now().uptime;
        Self {
            parts,
            clock,
            pair,
            receiver: Receiver::new(now, 0, false),
            deframer: Deframer::default(),
            bound: None,
            hello: None,
            manifest: Vec::new(),
            link: LinkWord::NeverHeard,
            silent_since: now,
            closed_at: None,
            wall_step_ms: 0,
            broken: false,
        }
    }

    /// What is to go to the pump now.
    pub(crate) fn collect_out(&mut self, out: &mut Vec<u8>) {
        let now = self.clock.now();
        while let Some(message) = self.receiver.poll_send(now.uptime) {
            if let (ToPump::TimeRequest(request), Some(bound)) = (&message, &mut self.bound) {
                bound.time.note_asked(request.id, now.utc);
            }
            if let Ok(frame) = encode_to_pump(&message) {
                out.extend_from_slice(frame.as_bytes());
            }
        }
    }

    /// Bytes from the pump: what they hold is on disk when this returns, or was not taken.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) {
        let mut rows = Vec::new();
        let mut deframer = std::mem::take(&mut self.deframer);
        for byte in bytes {
            match deframer.push(*byte) {
                Some(Piece::Bytes(piece)) => match decode_from_pump(piece) {
                    Ok(message) => {
                        let now = self.clock.now();
                        let taken = self.receiver.handle_message(now.uptime, message);
                        self.handle_taken(now, taken, &mut rows);
                    }
                    Err(FrameError::Version(seen)) => self.identity(Some(format!(
                        "pump speaks protocol version {seen}, this gateway {}",
                        protocol::PROTOCOL_VERSION
                    ))),
                    Err(_) => lock(&self.parts.view).damaged_frames += 1,
                },
                Some(Piece::TooLong) => lock(&self.parts.view).damaged_frames += 1,
                None => {}
            }
        }
        self.deframer = deframer;
        self.store(&rows);
    }

    /// The port was opened: from here on the pump must say who it is first.
    pub(crate) fn reopen(&mut self) {
        self.receiver.reopen(self.clock.now().uptime);
        self.deframer = Deframer::default();
    }

    /// Whether the gateway stops.
    pub(crate) fn is_stopping(&self) -> bool {
        self.parts.stop.load(Ordering::Relaxed)
    }

    /// The bed and its port.
    pub(crate) fn config(&self) -> &BedConfig {
        &self.parts.config
    }

    /// Says what does not belong together, once, and raises the alarm; or ends it.
    fn identity(&self, what: Option<String>) {
        let mut view = lock(&self.parts.view);
        if let Some(why) = what
            .as_ref()
            .filter(|why| Some(*why) != view.technical.identity.as_ref())
        {
            eprintln!(
                "thecal gateway: bed {}: not taken: {why}",
                self.parts.config.bed
            );
        }
        view.technical.identity = what;
    }

    fn handle_taken(&mut self, now: Now, taken: Taken, rows: &mut Vec<EventRow>) {
        match taken {
            Taken::Hello(hello) => self.handle_hello(now, hello),
            Taken::ManifestPart(part) => self.handle_part(now, &part),
            Taken::TimeReply(reply) => {
                if let Some(bound) = &mut self.bound {
                    bound.time.handle_reply(now.utc, &reply);
                }
                self.anchor(now, reply.boot);
            }
            Taken::Event { raw, tag, .. } | Taken::Repeat { raw, tag, .. } => {
                let Some(bound) = &self.bound else {
                    self.receiver.forget_unstored();
                    return;
                };
                let (at, uncertainty) = bound.at(now, &raw, self.clock.mode());
                match EventRow::new(
                    bound.source,
                    &raw,
                    tag,
                    at,
                    uncertainty,
                    now.utc.as_unix_millis(),
                ) {
                    Ok(row) => rows.push(row),
                    Err(e) => self.identity(Some(format!("an event does not decode: {e}"))),
                }
            }
            Taken::Heartbeat(beat) => {
                if self.bound.is_some() && self.hello.is_some_and(|h| h.boot != beat.boot) {
                    // The pump started again behind an open line.
                    self.receiver.reopen(now.uptime);
                }
            }
            Taken::Nothing => {}
        }
    }

    fn handle_hello(&mut self, now: Now, hello: Hello) {
        let mine = protocol::PROTOCOL_VERSION;
        if !(hello.protocol_min..=hello.protocol_max).contains(&mine) {
            let (min, max) = (hello.protocol_min, hello.protocol_max);
            return self.identity(Some(format!(
                "pump speaks protocol {min} to {max}, this gateway {mine}"
            )));
        }
        if self.clock.mode().speed() > 1 && !hello.simulated {
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
    fn handle_part(&mut self, now: Now, part: &ManifestPart) {
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
                .with(move |spool| {
                    words
                        .iter()
                        .try_for_each(|(key, value)| spool.set_meta(&trial, key, value))
                })
                .map_err(|e| e.to_string())?
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
            self.bound = Some(self.recall(now, hello, signed, manifest)?);
            self.say(
                now.utc,
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
        let through = self.bound.as_ref().map_or(0, |b| b.progress.through());
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
            bound.progress.note(stored.row.seq, &raw);
            if stored.row.seq > digested {
                bound.digest.add(&stored.row, &stored.body_text);
            }
            let at = Timestamp::from_unix_millis(stored.row.at_utc_ms);
            view.bed.handle_fact(at, stored.row.seq, &fact);
        }
        Ok(bound)
    }

    /// Makes rows durable, and only then shows and acknowledges them.
    fn store(&mut self, rows: &[EventRow]) {
        if rows.is_empty() || self.broken {
            return;
        }
        let now = self.clock.now();
        let outcomes = match self
            .parts
            .store
            .append(&self.parts.config.trial, rows.to_vec())
        {
            Ok(outcomes) => outcomes,
            Err(e) => {
                // Final: nothing more is acknowledged, the pump's journal holds.
                self.broken = true;
                self.receiver.forget_unstored();
                lock(&self.parts.view).technical.store = Some(e.to_string());
                eprintln!(
                    "thecal gateway: bed {}: {e}; nothing is acknowledged any more, the pump keeps its data",
                    self.parts.config.bed
                );
                return;
            }
        };
        let Some(bound) = &mut self.bound else { return };
        let mut view = lock(&self.parts.view);
        let mut boots = BTreeSet::new();
        for (row, outcome) in rows.iter().zip(outcomes) {
            match outcome {
                Outcome::Stored => {
                    let Ok((raw, fact)) = row.check() else {
                        continue;
                    };
                    bound.progress.note(row.seq, &raw);
                    bound.digest.add(row, &canonical_json(&row.body));
                    boots.insert(row.boot);
                    let at = Timestamp::from_unix_millis(row.at_utc_ms);
                    view.bed.handle_fact(at, row.seq, &fact);
                    if row.kind != "delivered" {
                        self.parts.news.store(true, Ordering::Relaxed);
                    }
                }
                Outcome::Repeat => view.repeats += 1,
                Outcome::Conflict => view.technical.quarantined += 1,
            }
        }
        let through = bound.progress.through();
        drop(view);
        self.receiver.note_stored(through);
        self.parts.note_stored(bound.source.as_str(), through);
        if self
            .bound
            .as_ref()
            .is_some_and(|b| b.digest.rows >= DIGEST_ROWS)
        {
            self.end_digest(false);
        }
        for boot in boots {
            self.anchor(now, boot);
        }
    }

    /// Says something of our own, durably.
    fn say(&self, now: Timestamp, fact: &Fact) {
        let mut own = lock(&self.parts.own);
        let Some(chain) = own.as_mut().filter(|c| !c.is_closed()) else {
            return;
        };
        match chain.add(&self.parts.store, now, fact) {
            Ok(_) => {
                let (source, seq) = (chain.source().to_owned(), chain.seq());
                drop(own);
                self.parts.note_stored(&source, seq);
            }
            Err(e) => lock(&self.parts.view).technical.store = Some(e.to_string()),
        }
    }

    /// Where a start of the pump lies in time, once a start.
    fn anchor(&mut self, now: Now, boot: u32) {
        let Some(bound) = &mut self.bound else { return };
        if bound.anchored.contains(&boot) {
            return;
        }
        let Some(estimate) = bound.time.at(boot, 0) else {
            return;
        };
        bound.anchored.insert(boot);
        let anchor = BootAnchored {
            source: bound.source.to_string(),
            boot,
            at_utc_ms: estimate.at.as_unix_millis(),
            uncertainty_ms: widened(estimate.uncertainty_ms, self.clock.mode()),
        };
        self.say(now.utc, &anchor.into());
    }

    /// Closes the running digest over the pump's rows with a fact.
    pub(crate) fn end_digest(&mut self, even_if_few: bool) {
        let now = self.clock.now();
        let Some(bound) = &mut self.bound else { return };
        let rows = bound.digest.rows;
        if rows == 0 || !(even_if_few || rows >= DIGEST_ROWS) {
            bound.digest_at = now.uptime;
            return;
        }
        let stored = Stored {
            source: bound.source.to_string(),
            from_seq: bound.digest_from,
            to_seq: bound.progress.through(),
            digest: std::mem::take(&mut bound.digest).finish(),
        };
        bound.digest_from = stored.to_seq + 1;
        bound.digest_at = now.uptime;
        self.say(now.utc, &stored.into());
    }

    /// What is due by time: link state, alarms, digests, checkpoints, the close.
    pub(crate) fn tick(&mut self) {
        let now = self.clock.now();
        self.watch_link(now);
        self.watch_wall_clock(now);
        if self.bound.as_ref().is_some_and(|b| {
            b.digest.rows > 0 && now.uptime.millis_since(b.digest_at) >= DIGEST_EVERY_MS
        }) {
            self.end_digest(true);
        }
        let changes = {
            let mut view = lock(&self.parts.view);
            let crate::gateway::View {
                bed,
                alarms,
                technical,
                ..
            } = &mut *view;
            alarms.update(now.utc, bed, technical)
        };
        for change in changes {
            self.say(now.utc, &change.into());
            self.parts.changed.notify_one();
        }
        let mut own = lock(&self.parts.own);
        if let Some(chain) = own.as_mut() {
            let before = chain.seq();
            if let Err(e) = chain.checkpoint_if_due(&self.parts.store, now.utc) {
                lock(&self.parts.view).technical.store = Some(e.to_string());
            }
            let (source, seq) = (chain.source().to_owned(), chain.seq());
            drop(own);
            if seq != before {
                self.parts.note_stored(&source, seq);
            }
        } else {
            drop(own);
        }
        self.close_if_due(now);
    }

    fn watch_link(&mut self, now: Now) {
        let (word, silent_ms) = match self.receiver.state(now.uptime) {
            State::NeverHeard => (LinkWord::NeverHeard, self.receiver.silence_ms(now.uptime)),
            State::Up { .. } => (LinkWord::Up, self.receiver.silence_ms(now.uptime)),
            State::Lost { .. } => (LinkWord::Lost, self.receiver.silence_ms(now.uptime)),
        };
        {
            let mut view = lock(&self.parts.view);
            view.technical.link = Some(word);
            view.technical.silent_s = silent_ms / 1_000;
            view.frame_age_ms = silent_ms;
            view.frame_seen_at = now.uptime;
            view.announced_seq = self.receiver.announced();
            view.stored_through_seq = self.receiver.stored();
        }
        if word == self.link {
            return;
        }
        let silent_ms = match word {
            LinkWord::Up => now.uptime.millis_since(self.silent_since),
            LinkWord::Lost | LinkWord::NeverHeard => silent_ms,
        };
        if word == LinkWord::Lost {
            self.silent_since = now.uptime;
        }
        let first = self.link == LinkWord::NeverHeard;
        self.link = word;
        self.parts.news.store(true, Ordering::Relaxed);
        if let (Some(bound), false) = (&self.bound, first) {
            let pump = bound.source.to_string();
            self.say(
                now.utc,
                &LinkChanged {
                    pump,
                    up: word == LinkWord::Up,
                    silent_ms,
                }
                .into(),
            );
        }
        self.parts.changed.notify_one();
    }

    /// Steps of the machine's own clock are facts.
    fn watch_wall_clock(&mut self, now: Now) {
        let step = self.clock.wall_step_ms();
        let by_ms = step - self.wall_step_ms;
        if by_ms.abs() >= 500 {
            self.wall_step_ms = step;
            if self.bound.is_some() {
                self.say(now.utc, &protocol::bedside::ClockStepped { by_ms }.into());
            }
        }
    }

    /// Closes our chain a little after the pump closed its own.
    fn close_if_due(&mut self, now: Now) {
        let Some(bound) = &self.bound else { return };
        if !bound.progress.closed()
            || lock(&self.parts.own)
                .as_ref()
                .is_none_or(OwnChain::is_closed)
        {
            return;
        }
        let since = *self.closed_at.get_or_insert(now.uptime);
        let last_entry = lock(&self.parts.view).last_entry_at.unwrap_or(since);
        if now.uptime.millis_since(since.max(last_entry)) < CLOSE_GRACE_MS {
            return;
        }
        self.end_digest(true);
        let reason = self.close_reason();
        let mut own = lock(&self.parts.own);
        let Some(chain) = own.as_mut() else { return };
        let source = chain.source().to_owned();
        let closed = self.digest_of_own(chain).and_then(|stored| {
            chain
                .add(&self.parts.store, now.utc, &stored.into())
                .map_err(|e| e.to_string())?;
            chain
                .close(&self.parts.store, now.utc, reason)
                .map_err(|e| e.to_string())
        });
        let seq = chain.seq();
        drop(own);
        self.parts.note_stored(&source, seq);
        match closed {
            Ok(()) => {
                let trial = self.parts.config.trial.clone();
                let word = reason.word();
                let _ = self
                    .parts
                    .store
                    .with(move |spool| spool.set_meta(&trial, "closed", word));
            }
            Err(why) => lock(&self.parts.view).technical.store = Some(why),
        }
    }

    fn digest_of_own(&self, chain: &OwnChain) -> Result<Stored, String> {
        let trial = &self.parts.config.trial;
        let rows = self
            .parts
            .store
            .rows_after(trial, chain.source(), 0, usize::MAX >> 1)
            .map_err(|e| e.to_string())?;
        let mut digest = RowsDigest::default();
        for stored in &rows {
            digest.add(&stored.row, &stored.body_text);
        }
        Ok(Stored {
            source: chain.source().into(),
            from_seq: 1,
            to_seq: chain.seq(),
            digest: digest.finish(),
        })
    }

    fn close_reason(&self) -> CloseReason {
        let Some(bound) = &self.bound else {
            return CloseReason::Technical;
        };
        let after = bound.progress.through().saturating_sub(3);
        let rows = self
            .parts
            .store
            .rows_after(&self.parts.config.trial, bound.source.as_str(), after, 8)
            .unwrap_or_default();
        let reason = rows.iter().find_map(|stored| match stored.row.check() {
            Ok((_, Fact::Pump(Body::TrialClosed(closed)))) => Some(closed.reason),
            _ => None,
        });
        reason.unwrap_or(CloseReason::Technical)
    }
}

impl Bound {
    /// When an event happened, and how far that may be off; the time of receipt where no exchange
    /// of clocks was possible yet.
    fn at(&self, now: Now, raw: &Raw, mode: Mode) -> (i64, Option<u64>) {
        let estimate = raw
            .head()
            .ok()
            .and_then(|head| self.time.at(head.boot, head.tick_ms));
        match estimate {
            Some(e) => (e.at.as_unix_millis(), Some(widened(e.uncertainty_ms, mode))),
            None => (now.utc.as_unix_millis(), None),
        }
    }
}

/// A simulated pump may pause its clock while it waits for the line: an accelerated trial's
/// estimates are off by as much as a wall second of it.
fn widened(uncertainty_ms: i64, mode: Mode) -> u64 {
    let pause = if mode.speed() > 1 {
        1_000 * u64::from(mode.speed())
    } else {
        0
    };
    u64::try_from(uncertainty_ms).unwrap_or(0).max(pause)
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
