//! The pump's half.

use super::{HEARTBEAT_MS, LOST_AFTER_MS, RESEND_MAX_MS, RESEND_MIN_MS, WINDOW};
use crate::message::{PART_MAX, ToPump};
use crate::time::Uptime;

/// What to put on the line next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    /// Who we are.
    Hello,
    /// We live.
    Heartbeat,
    /// Our clock, for the request of this number, which arrived at this tick.
    TimeReply {
        /// The request's number.
        id: u32,
        /// Tick when it arrived.
        received_tick_ms: u64,
    },
    /// The part of the manifest that begins here.
    ManifestPart {
        /// Offset in bytes.
        offset: u16,
    },
    /// The journaled event of this seq.
    Event {
        /// Which.
        seq: u64,
    },
}

/// Offers events in order, repeats what was not acknowledged.
#[derive(Clone, Debug)]
pub struct Sender {
    manifest_len: u16,
    last_journaled: u64,
    acked: u64,
    next: u64,
    resend_at: Option<Uptime>,
    resend_ms: u64,
    heard_at: Option<Uptime>,
    hello_due: bool,
    manifest_from: Option<u16>,
    heartbeat_at: Uptime,
    time_reply: Option<(u32, u64)>,
    /// Messages of types that this program does not know.
    pub unknown: u32,
    /// Acknowledgements beyond what was ever journaled: noise, or a forger.
    pub impossible_acks: u32,
}

impl Sender {
    /// Just started, nothing acknowledged.
    pub fn new(now: Uptime, manifest_len: u16) -> Self {
        Self {
            manifest_len,
            last_journaled: 0,
            acked: 0,
            next: 1,
            resend_at: None,
            resend_ms: RESEND_MIN_MS,
            heard_at: None,
            hello_due: true,
            manifest_from: None,
            heartbeat_at: now,
            time_reply: None,
            unknown: 0,
            impossible_acks: 0,
        }
    }

    /// The journal now ends with this seq.
    pub fn note_journaled(&mut self, last_seq: u64) {
        self.last_journaled = last_seq;
    }

    /// The last seq that the gateway has on disk, as far as we heard.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Events that wait for an acknowledgement, sent or not.
    pub fn unacknowledged(&self) -> u64 {
        self.last_journaled.saturating_sub(self.acked)
    }

    /// Whether somebody at the other end was heard lately; drives the pump's face only.
    pub fn monitored(&self, now: Uptime) -> bool {
        self.heard_at
            .is_some_and(|at| now.millis_since(at) < LOST_AFTER_MS * 2)
    }

    /// A message arrived; `tick_ms` is the pump's clock then.
    pub fn handle_message(&mut self, now: Uptime, tick_ms: u64, message: &ToPump) {
        self.heard_at = Some(now);
        match message {
            ToPump::Ack(ack) => {
                if ack.through_seq > self.last_journaled {
                    self.impossible_acks = self.impossible_acks.saturating_add(1);
                } else if ack.through_seq > self.acked {
                    // It may be for what was sent before this start.
                    self.acked = ack.through_seq;
                    self.next = self.next.max(self.acked.saturating_add(1));
                    self.resend_ms = RESEND_MIN_MS;
                    self.resend_at = (self.next - 1 > self.acked).then(|| now + self.resend_ms);
                }
            }
            ToPump::Resume(resume) => {
                self.hello_due |= resume.want_hello;
                if resume.want_manifest {
                    self.manifest_from = Some(0);
                }
                self.acked = resume.last_contiguous_seq.min(self.last_journaled);
                self.next = self.acked.saturating_add(1);
                self.resend_ms = RESEND_MIN_MS;
                self.resend_at = None;
            }
            ToPump::TimeRequest(request) => self.time_reply = Some((request.id, tick_ms)),
            ToPump::Unknown(_) => self.unknown = self.unknown.saturating_add(1),
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Uptime) {
        if self.resend_at.is_some_and(|at| at <= now) {
            self.next = self.acked.saturating_add(1);
            self.resend_ms = (self.resend_ms * 2).min(RESEND_MAX_MS);
            self.resend_at = None;
        }
    }

    /// When `handle_timeout` or `poll_send` is next due, where nothing arrives before.
    pub fn poll_timeout(&self) -> Uptime {
        self.resend_at
            .map_or(self.heartbeat_at, |at| at.min(self.heartbeat_at))
    }

    /// What to send now, most urgent first; call until `None`.
    pub fn poll_send(&mut self, now: Uptime) -> Option<Send> {
        if core::mem::take(&mut self.hello_due) {
            return Some(Send::Hello);
        }
        if let Some((id, received_tick_ms)) = self.time_reply.take() {
            return Some(Send::TimeReply {
                id,
                received_tick_ms,
            });
        }
        if self.heartbeat_at <= now {
            self.heartbeat_at = now + HEARTBEAT_MS;
            return Some(Send::Heartbeat);
        }
        if let Some(offset) = self.manifest_from {
            let part = u16::try_from(PART_MAX).unwrap_or(u16::MAX);
            let next = offset.saturating_add(part);
            self.manifest_from = (next < self.manifest_len).then_some(next);
            if offset < self.manifest_len {
                return Some(Send::ManifestPart { offset });
            }
        }
        if self.heard_at.is_some()
            && self.next <= self.last_journaled.min(self.acked.saturating_add(WINDOW))
        {
            let seq = self.next;
            self.next = self.next.saturating_add(1);
            if self.resend_at.is_none() {
                self.resend_at = Some(now + self.resend_ms);
            }
            return Some(Send::Event { seq });
        }
        None
    }
}
