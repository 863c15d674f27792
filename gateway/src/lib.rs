//! The bedside box, the embedded broker and the ward's recorder.
//!
//! Bytes come from the pump's line ([`serial`], [`mod@line`]), are made durable ([`store`]) and only
//! then acknowledged and shown; what waits for a receipt is published ([`outbox`], [`uplink`],
//! `publisher`) to any MQTT 5 broker ([`mqtt`] is the only file that knows MQTT, [`broker`] the
//! embedded one), where the [`recorder`] makes it durable again and says so. [`bed`] is a bed as it
//! is now, [`alarms`] what is wrong with it, [`doubts`] what its pump's facts say against it, [`disk`]
//! the room that is left, [`own_chain`] what the gateway itself says, [`entries`]
//! what people say, [`bedside`] what all of them share. [`clock`] is the only file that reads a
//! clock, [`key_files`] the only one that keeps secrets. [`gateway`] builds the parts, runs them and
//! shuts them down.
//!
//! What decides is without I/O, threads and clock: `line`, `uplink`, `own_chain`, `entries`,
//! `recorder::files`. Files are asked through [`spool_file`] and [`recorder::folder`] alone. Around
//! them stand short loops that do as told: `serial`, `publisher`, `recorder`.
#![forbid(unsafe_code)]

/// Says something at the console. A console that cannot be written, such as a log on a full disk,
/// stops nobody.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}
pub(crate) use say;

pub mod alarms;
pub mod bed;
pub mod bedside;
pub mod broker;
pub mod clock;
pub mod config;
pub mod disk;
pub mod doubts;
pub mod entries;
pub mod gate;
pub mod gateway;
pub mod key_files;
pub mod line;
pub mod mqtt;
pub mod outbox;
pub mod own_chain;
mod publisher;
pub mod recorder;
pub mod serial;
pub mod spool_file;
pub mod store;
pub mod uplink;
pub mod wall_clock;
pub mod watch;

/// Program and version, as it stands in payloads and records.
pub const SOFTWARE: &str = concat!("thecal ", env!("CARGO_PKG_VERSION"));
