//! What a pump says on its line: bound to a trial, made durable, then acknowledged and shown.
//!
//! Bytes in, bytes out, time as an argument; the port itself is [`crate::serial`]'s. `binding` is
//! which pump belongs to which trial, `storing` the step from a frame to a durable row, `closing`
//! the end of a trial.

mod binding;
mod closing;
mod storing;

use crate::bedside::BedParts;
use crate::clock::Mode;
use crate::config::BedConfig;
use crate::gate::Gate;
use crate::gateway::lock;
use crate::wall_clock::{WallClock, is_plausible};
use protocol::bedside::LinkChanged;
use protocol::frame::{Deframer, Error as FrameError, Piece, decode_from_pump, encode_to_pump};
use protocol::keys::KeyPair;
use protocol::link::{Receiver, State, Taken, TimeSync};
use protocol::message::{Hello, Source, ToPump};
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::{EventRow, LinkWord};
use record::progress::Progress;
use record::store::RowsDigest;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A start whose checkpoint does not come for so long, wall milliseconds, is an alarm.
const HELD_LONG_MS: u64 = 4_000;
/// A digest is added after so long, wall milliseconds, also with fewer rows.
const DIGEST_EVERY_MS: u64 = 60_000;

/// Damage of the line is told of so long a time, wall milliseconds.
const FRAMES_MS: u64 = 10_000;

/// Frames of the last moments.
struct Frames {
    since: Uptime,
    bad: u64,
    all: u64,
}

/// What is known of the pump behind the line.
struct Bound {
    source: Source,
    progress: Progress,
    gate: Gate,
    /// When the newest row was received that was there at the binding.
    received: Timestamp,
    time: TimeSync,
    anchored: BTreeSet<u32>,
    digest: RowsDigest,
    digest_from: u64,
    digest_at: Uptime,
}

/// One bed's line and everything that hangs on it.
pub struct Line {
    parts: Arc<BedParts>,
    mode: Mode,
    pair: KeyPair,
    receiver: Receiver,
    deframer: Deframer,
    bound: Option<Bound>,
    hello: Option<Hello>,
    manifest: Vec<u8>,
    link: LinkWord,
    silent_since: Uptime,
    closed_at: Option<Uptime>,
    wall: WallClock,
    /// UTC less uptime when the clock was first looked at.
    utc_less_uptime_ms: Option<i64>,
    wall_step_ms: i64,
    held_since: Option<Uptime>,
    tag_secret: Option<[u8; 32]>,
    broken: bool,
    frames: Frames,
    notices: Vec<String>,
    failure_said: bool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("bed", &self.parts.config.bed)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Line {
    /// Of a bed whose pump was not heard yet, in a trial that runs by this clock.
    pub fn new(parts: Arc<BedParts>, mode: Mode, pair: KeyPair, now: Uptime) -> Self {
        Self {
            parts,
            mode,
            pair,
            receiver: Receiver::new(now, 0, false),
            deframer: Deframer::default(),
            bound: None,
            hello: None,
            manifest: Vec::new(),
            link: LinkWord::NeverHeard,
            silent_since: now,
            closed_at: None,
            wall: WallClock::default(),
            utc_less_uptime_ms: None,
            wall_step_ms: 0,
            held_since: None,
            tag_secret: None,
            broken: false,
            frames: Frames {
                since: now,
                bad: 0,
                all: 0,
            },
            notices: Vec::new(),
            failure_said: false,
        }
    }

    /// The pump's tag secret, where this gateway was given it: then each event is looked at by
    /// itself before it is stored.
    pub fn hold_tag_secret(&mut self, secret: Option<[u8; 32]>) {
        self.tag_secret = secret;
    }

    /// What is to go to the pump now.
    pub fn collect_out(&mut self, now: Now, out: &mut Vec<u8>) {
        self.look_at_clock(now);
        while let Some(message) = self.receiver.poll_send(now.uptime) {
            if let (ToPump::TimeRequest(request), Some(bound)) = (&message, &mut self.bound)
                && (self.mode != Mode::Wall || is_plausible(now.utc))
            {
                bound.time.note_asked(request.id, now.utc);
            }
            if let Ok(frame) = encode_to_pump(&message) {
                out.extend_from_slice(frame.as_bytes());
            }
        }
    }

    /// Bytes from the pump: what they hold is on disk when this returns, or was not taken.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        self.look_at_clock(now);
        let mut rows = Vec::new();
        let mut deframer = std::mem::take(&mut self.deframer);
        for byte in bytes {
            match deframer.push(*byte) {
                Some(Piece::Bytes(piece)) => match decode_from_pump(piece) {
                    Ok(message) => {
                        self.frames.all += 1;
                        let taken = self.receiver.handle_message(now.uptime, message);
                        self.handle_taken(now, taken, &mut rows);
                    }
                    Err(FrameError::Version(seen)) => self.identity(Some(format!(
                        "pump speaks protocol version {seen}, this gateway {}",
                        protocol::PROTOCOL_VERSION
                    ))),
                    Err(_) => self.note_damage(),
                },
                Some(Piece::TooLong) => self.note_damage(),
                None => {}
            }
        }
        self.deframer = deframer;
        self.store(now, &rows);
        let held = self.bound.as_ref().is_some_and(|b| b.gate.held() > 0);
        self.held_since = self
            .held_since
            .filter(|_| held)
            .or(held.then_some(now.uptime));
    }

    fn note_damage(&mut self) {
        self.frames.bad += 1;
        self.frames.all += 1;
        lock(&self.parts.view).damaged_frames += 1;
    }

    /// The port was opened: from here on the pump must say who it is first.
    pub fn reopen(&mut self, now: Now) {
        if let Some(bound) = &mut self.bound {
            bound.gate.forget_held();
        }
        self.held_since = None;
        self.receiver.reopen(now.uptime);
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

    /// What people at the console should read, oldest first; each is told once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Says what does not belong together, once, and raises the alarm; or ends it.
    fn identity(&mut self, what: Option<String>) {
        let mut view = lock(&self.parts.view);
        if let Some(why) = what
            .as_ref()
            .filter(|why| Some(*why) != view.technical.identity.as_ref())
        {
            self.notices.push(format!("not taken: {why}"));
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
            Taken::Event {
                lost: Some((from_seq, to_seq)),
                raw,
                head,
                tag,
            } => {
                let lost = Taken::Lost { from_seq, to_seq };
                self.handle_taken(now, lost, rows);
                let lost = None;
                let event = Taken::Event {
                    raw,
                    head,
                    tag,
                    lost,
                };
                self.handle_taken(now, event, rows);
            }
            Taken::Event { raw, tag, .. } | Taken::Repeat { raw, tag, .. } => {
                let doubt_ms = self.doubt_ms();
                let Some(bound) = &mut self.bound else {
                    self.receiver.forget_unstored();
                    return;
                };
                let (at, uncertainty) = bound.at(now, &raw, self.mode, doubt_ms);
                let row = match EventRow::new(
                    bound.source,
                    &raw,
                    tag,
                    at,
                    uncertainty,
                    now.utc.as_unix_millis(),
                ) {
                    Ok(row) => row,
                    Err(e) => {
                        self.receiver.forget_unstored();
                        return self.identity(Some(format!("an event does not decode: {e}")));
                    }
                };
                match bound.gate.take(row, &raw) {
                    Ok(passed) => {
                        if passed.iter().any(|row| row.kind == "checkpoint") {
                            self.identity(None);
                        }
                        rows.extend(passed);
                    }
                    Err(refused) => {
                        self.receiver.forget_unstored();
                        self.identity(Some(refused.to_string()));
                    }
                }
            }
            Taken::Lost { from_seq, to_seq } => {
                // What came before it is stored first, then the watermark may step over.
                let mut before = std::mem::take(rows);
                if let Some(bound) = &mut self.bound {
                    before.extend(bound.gate.release_before_loss());
                }
                self.store(now, &before);
                self.step_over(now, from_seq, to_seq);
            }
            Taken::Heartbeat(beat) => {
                if self.bound.is_some() && self.hello.is_some_and(|h| h.boot != beat.boot) {
                    // The pump started again behind an open line.
                    self.reopen_receiver(now);
                }
                let caught_up = self.receiver.announced() == self.receiver.stored();
                let overdue = |b: &Bound| b.gate.is_overdue(beat.boot, beat.tick_ms);
                if caught_up && self.bound.as_ref().is_some_and(overdue) {
                    self.identity(Some("the pump has signed nothing for over an hour".into()));
                }
            }
            Taken::Nothing => {}
        }
    }

    /// What is due by time: link state, alarms, digests, checkpoints, the close.
    /// `wall_step_ms` is how far the machine's clock was set since the start.
    pub fn tick(&mut self, now: Now, wall_step_ms: i64) {
        self.look_at_clock(now);
        self.watch_link(now);
        if self.mode != Mode::Wall {
            // Trial time does not follow the machine's clock; that it was set is a fact all the same.
            self.watch_wall_clock(now, wall_step_ms);
        }
        let held_long = |since| now.uptime.millis_since(since) >= HELD_LONG_MS;
        if self.held_since.is_some_and(held_long) {
            self.identity(Some("the pump's start is not signed".into()));
        }
        if now.uptime.millis_since(self.frames.since) >= FRAMES_MS {
            lock(&self.parts.view).technical.frames = (self.frames.bad, self.frames.all);
            (self.frames.since, self.frames.bad, self.frames.all) = (now.uptime, 0, 0);
        }
        if self.bound.as_ref().is_some_and(|b| {
            b.digest.rows > 0 && now.uptime.millis_since(b.digest_at) >= DIGEST_EVERY_MS
        }) {
            self.end_digest(now, true);
        }
        let changes = {
            let mut view = lock(&self.parts.view);
            let crate::bedside::View {
                bed,
                alarms,
                technical,
                ..
            } = &mut *view;
            alarms.update(now.utc, bed, technical)
        };
        for change in changes {
            self.say(now, &change.into());
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
                self.parts.note_stored(now.uptime, &source, seq);
            }
        } else {
            drop(own);
        }
        self.close_if_due(now);
        let failure = lock(&self.parts.view).technical.store.clone();
        if let Some(why) = failure.filter(|_| !self.failure_said) {
            self.failure_said = true;
            self.notices.push(format!(
                "{why}; nothing is acknowledged any more, the pump keeps its data"
            ));
        }
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
            // Whoever speaks next on a port that stayed open may be another pump.
            self.receiver.reopen(now.uptime);
        }
        let first = self.link == LinkWord::NeverHeard;
        self.link = word;
        self.parts.news.store(true, Ordering::Relaxed);
        if let (Some(bound), false) = (&self.bound, first) {
            let pump = bound.source.to_string();
            self.say(
                now,
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

    /// The line as it is after an opening, without the bytes that a port may still hold.
    fn reopen_receiver(&mut self, now: Now) {
        self.receiver.reopen(now.uptime);
        if let Some(bound) = &mut self.bound {
            bound.gate.forget_held();
        }
    }

    /// Every look at the time is one at whether somebody set the clock: what is known of the pump's
    /// time is told in the new one from here on.
    fn look_at_clock(&mut self, now: Now) {
        if self.mode != Mode::Wall {
            return;
        }
        let uptime = i64::try_from(now.uptime.as_millis()).unwrap_or(i64::MAX);
        let difference = now.utc.as_unix_millis().saturating_sub(uptime);
        let first = *self.utc_less_uptime_ms.get_or_insert(difference);
        let Some(step) = self.wall.observe(now.utc, difference.saturating_sub(first)) else {
            return;
        };
        if let Some(bound) = &mut self.bound {
            bound.time.note_step(step.shift_ms);
            let by_ms = step.by_ms;
            self.say(now, &protocol::bedside::ClockStepped { by_ms }.into());
        }
    }

    /// How far the time may be off because somebody set the clock.
    fn doubt_ms(&self) -> u64 {
        self.wall.doubt_ms()
    }

    /// Steps of the machine's own clock are facts.
    fn watch_wall_clock(&mut self, now: Now, wall_step_ms: i64) {
        let by_ms = wall_step_ms - self.wall_step_ms;
        if by_ms.abs() >= 500 {
            self.wall_step_ms = wall_step_ms;
            if self.bound.is_some() {
                self.say(now, &protocol::bedside::ClockStepped { by_ms }.into());
            }
        }
    }
}
