//! The reliable line: two I/O-free halves that make one engine.
//!
//! The [`Sender`] lives in the pump: it offers journaled events in order, at most [`WINDOW`] of
//! them unacknowledged, and sends again on a timer or when asked. The [`Receiver`] lives in the
//! gateway: it takes events in order of seq, removes repeats, asks again for what is missing, and
//! acknowledges only what [`Receiver::note_stored`] says is on disk. [`TimeSync`] relates the
//! pump's ticks to the gateway's clock.
//!
//! The pump forgets nothing because of an acknowledgement, so a lost, early or forged one costs
//! time, never data. Time is an argument. Around the halves stands a short loop that moves bytes.

mod receiver;
mod sender;
mod time_sync;

pub use receiver::{Receiver, State, Taken};
pub use sender::{Send, Sender};
pub use time_sync::{Estimate, TimeSync};

/// Most events sent and not acknowledged.
pub const WINDOW: u64 = 64;
/// The pump's sign of life.
pub const HEARTBEAT_MS: u64 = 1_000;
/// No good frame for so long: the line is lost.
pub const LOST_AFTER_MS: u64 = 5_000;
/// Without progress for so long, the pump sends again; doubles up to [`RESEND_MAX_MS`].
pub const RESEND_MIN_MS: u64 = 500;
/// Longest wait before sending again.
pub const RESEND_MAX_MS: u64 = 8_000;
/// Between two questions for the pump's time.
pub const TIME_EVERY_MS: u64 = 10_000;
/// Between two requests to resume, while the answer is on its way.
pub const RESUME_EVERY_MS: u64 = 250;

const _: () = assert!(
    HEARTBEAT_MS * 3 < LOST_AFTER_MS,
    "one lost heartbeat is no lost line"
);
