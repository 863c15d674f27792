//! What two measuring programs share: `bridges` holds ways from a serial line to MQTT side by
//! side, `ackloss` asks whether an MQTT path loses what it acknowledged. `docs/bridges.md` has the
//! results and how to repeat them.
#![forbid(unsafe_code)]

pub mod process;
pub mod proxy;
pub mod pump;
pub mod subscriber;
pub mod tally;
