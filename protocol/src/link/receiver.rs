//! The gateway's half.

use super::{HEARTBEAT_MS, LOST_AFTER_MS, RESUME_EVERY_MS, TIME_EVERY_MS};
use crate::event::{Body, Head, JournalLost, Raw, decode};
use crate::hex::Tag;
use crate::message::{Ack, FromPump, Hello, Resume, TimeReply, TimeRequest, ToPump};
use crate::time::Uptime;

/// What is known of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was ever heard since this start.
    NeverHeard,
    /// A good frame came lately.
    Up {
        /// The last one.
        last: Uptime,
    },
    /// Silence.
    Lost {
        /// The last good frame.
        last: Uptime,
    },
}

/// What a frame brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The next event: store it, then call [`Receiver::note_stored`].
    Event {
        /// Its bytes.
        raw: Raw,
        /// Its head.
        head: Head,
        /// Its tag.
        tag: Tag,
        /// Where the pump says that these seqs are gone for ever.
        lost: Option<(u64, u64)>,
    },
    /// The pump says that it does not hold these seqs any more: they will never come. They are not
    /// accepted yet; [`Receiver::note_stored`] says so where they are not on disk either.
    Lost {
        /// The first.
        from_seq: u64,
        /// The last.
        to_seq: u64,
    },
    /// An event that was taken before; its bytes must be the same.
    Repeat {
        /// Its bytes.
        raw: Raw,
        /// Its head.
        head: Head,
        /// Its tag.
        tag: Tag,
    },
    /// The pump says who it is.
    Hello(Hello),
    /// A part of the manifest.
    ManifestPart(crate::message::ManifestPart),
    /// The pump's clock.
    TimeReply(TimeReply),
    /// A sign of life.
    Heartbeat(crate::message::Heartbeat),
    /// Nothing for the store.
    Nothing,
}

/// Takes events in order, once each.
#[derive(Clone, Debug)]
pub struct Receiver {
    started: Uptime,
    state: State,
    greeted: bool,
    want_manifest: bool,
    accepted: u64,
    stored: u64,
    announced: u64,
    accepted_at_heartbeat: u64,
    ack_due: bool,
    resume_due: bool,
    resumed_at: Option<Uptime>,
    time_at: Uptime,
    time_id: u32,
    /// Events that came again.
    pub repeats: u64,
    /// Times that an event came before one that was missing.
    pub gaps: u64,
    /// Messages of types that this program does not know.
    pub unknown: u64,
    /// Events that came before the pump said who it is.
    pub unbound: u64,
}

impl Receiver {
    /// The line was just opened; everything through `stored` is on disk.
    pub fn new(now: Uptime, stored: u64, want_manifest: bool) -> Self {
        Self {
            started: now,
            state: State::NeverHeard,
            greeted: false,
            want_manifest,
            accepted: stored,
            stored,
            announced: 0,
            accepted_at_heartbeat: stored,
            ack_due: false,
            resume_due: true,
            resumed_at: None,
            time_at: now,
            time_id: 0,
            repeats: 0,
            gaps: 0,
            unknown: 0,
            unbound: 0,
        }
    }

    /// The line was opened again: says so to the pump and takes nothing before its hello.
    pub fn reopen(&mut self, now: Uptime) {
        self.greeted = false;
        self.resume_due = true;
        self.resumed_at = None;
        self.accepted = self.stored;
        self.time_at = now;
    }

    /// The store failed: events after the last stored one must come again.
    pub fn forget_unstored(&mut self) {
        self.accepted = self.stored;
        self.resume_due = true;
    }

    /// The pump behind the line is known now, and so is how much of its chain is on disk.
    pub fn bind(&mut self, stored: u64, want_manifest: bool) {
        (self.stored, self.accepted) = (stored, stored);
        self.want_manifest = want_manifest;
        self.greeted = true;
        self.resume_due = true;
        self.resumed_at = None;
    }

    /// The manifest arrived.
    pub fn note_manifest(&mut self) {
        self.want_manifest = false;
    }

    /// Everything through `seq` is on disk: now it may be acknowledged.
    pub fn note_stored(&mut self, seq: u64) {
        if seq > self.stored {
            self.stored = seq;
            self.accepted = self.accepted.max(seq);
            self.ack_due = true;
        }
    }

    /// What is on disk.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// The newest seq that the pump spoke of; what lies between is still on the way.
    pub fn announced(&self) -> u64 {
        self.announced.max(self.accepted)
    }

    /// The line as it is at `now`.
    pub fn state(&self, now: Uptime) -> State {
        match self.state {
            State::Up { last } if now.millis_since(last) >= LOST_AFTER_MS => State::Lost { last },
            State::NeverHeard | State::Up { .. } | State::Lost { .. } => self.state,
        }
    }

    /// Milliseconds since the last good frame, or since the start where there was none.
    pub fn silence_ms(&self, now: Uptime) -> u64 {
        match self.state {
            State::NeverHeard => now.millis_since(self.started),
            State::Up { last } | State::Lost { last } => now.millis_since(last),
        }
    }

    /// A good frame arrived.
    pub fn handle_message(&mut self, now: Uptime, message: FromPump) -> Taken {
        self.state = State::Up { last: now };
        match message {
            FromPump::Event { .. } if !self.greeted => {
                self.unbound = self.unbound.saturating_add(1);
                Taken::Nothing
            }
            FromPump::Event { raw, head, tag } => self.take(raw, head, tag),
            FromPump::Hello(hello) => Taken::Hello(hello),
            FromPump::Heartbeat(beat) => {
                self.resume_due |= self.greeted && self.stands_still(now, beat.last_seq);
                self.announced = beat.last_seq;
                self.accepted_at_heartbeat = self.accepted;
                Taken::Heartbeat(beat)
            }
            FromPump::TimeReply(reply) => Taken::TimeReply(reply),
            FromPump::ManifestPart(part) => Taken::ManifestPart(part),
            FromPump::Unknown(_) => {
                self.unknown = self.unknown.saturating_add(1);
                Taken::Nothing
            }
        }
    }

    /// Whether what the pump spoke of at its last heartbeat, or the manifest, should be here by now:
    /// the pump does not know that it is missing, and nothing behind it shows the gap.
    fn stands_still(&self, now: Uptime, last_seq: u64) -> bool {
        let events = self.announced.min(last_seq) > self.accepted
            && self.accepted == self.accepted_at_heartbeat;
        let asked_long_ago = |at| now.millis_since(at) >= HEARTBEAT_MS;
        events || self.want_manifest && self.resumed_at.is_none_or(asked_long_ago)
    }

    fn take(&mut self, raw: Raw, head: Head, tag: Tag) -> Taken {
        if head.seq <= self.accepted {
            self.repeats = self.repeats.saturating_add(1);
            self.ack_due = true;
            return Taken::Repeat { raw, head, tag };
        }
        let lost = match decode(&raw) {
            Ok((_, Body::JournalLost(JournalLost { from_seq, to_seq })))
                if from_seq.saturating_sub(1) <= self.accepted
                    && to_seq < head.seq
                    && to_seq > self.accepted =>
            {
                Some((self.accepted + 1, to_seq))
            }
            _ => None,
        };
        if let Some((from_seq, to_seq)) = lost
            && to_seq + 1 < head.seq
        {
            // Said out of turn, in the place of what is lost: it comes again in its own.
            return Taken::Lost { from_seq, to_seq };
        }
        if head.seq - 1 > self.accepted && lost.is_none() {
            self.gaps = self.gaps.saturating_add(1);
            self.resume_due = true;
            return Taken::Nothing;
        }
        self.accepted = head.seq;
        Taken::Event {
            raw,
            head,
            tag,
            lost,
        }
    }

    /// When `poll_send` is next due, where nothing arrives before.
    pub fn poll_timeout(&self) -> Uptime {
        match (self.resume_due, self.resumed_at) {
            (true, Some(at)) if self.greeted => self.time_at.min(at + RESUME_EVERY_MS),
            // No question for the time before the pump has said who it is.
            (true, Some(at)) => at + RESUME_EVERY_MS,
            (true, None) => self.started,
            (false, _) => self.time_at,
        }
    }

    /// What to send now; call until `None`.
    pub fn poll_send(&mut self, now: Uptime) -> Option<ToPump> {
        let rested = self
            .resumed_at
            .is_none_or(|at| now.millis_since(at) >= RESUME_EVERY_MS);
        if self.resume_due && rested {
            // Until the pump has said who it is, the question is asked again.
            self.resume_due = !self.greeted;
            self.resumed_at = Some(now);
            return Some(ToPump::Resume(Resume {
                last_contiguous_seq: self.accepted,
                want_hello: !self.greeted,
                want_manifest: self.want_manifest && self.greeted,
            }));
        }
        if core::mem::take(&mut self.ack_due) {
            return Some(ToPump::Ack(Ack {
                through_seq: self.stored,
            }));
        }
        if self.greeted && self.time_at <= now {
            self.time_at = now + TIME_EVERY_MS;
            self.time_id = self.time_id.wrapping_add(1);
            return Some(ToPump::TimeRequest(TimeRequest { id: self.time_id }));
        }
        None
    }
}
