//! The pump core on a simulated board, with a virtual patient, a scripted nurse, and everything
//! that can go wrong: a whole trial, in virtual time, from a seed.
//!
//! In reading order: [`sim`] puts a trial together and goes from event to event, [`setup`] says
//! what it is made of, [`board`] is the pump's hardware over [`plant`] (motor, reservoir, battery),
//! [`catheter`] and [`memory`]. [`ward`] joins [`patient`] and [`nurse`] with whatever pump there is.
//! [`fault`] and [`scenario`] are what goes wrong and what is expected of it; [`story`] lives it. [`run`] paces a trial
//! and joins it with a [`mod@line`], which [`wire`] can damage; only [`clock`] reads a clock.
//! `machine` is the pump's program, as a library here or as an image that [`qemu`] runs.
//! [`chance`] and [`math`] make a seed mean the same on every machine.
//!
//! Invariants: the journal is a function of the setup alone; the pump is told only what its sensors
//! say; nothing here shares a model with the analysis, which must find out by itself what the
//! patient's truth was.
#![forbid(unsafe_code)]

pub mod board;
pub mod catheter;
pub mod chance;
pub mod clock;
pub mod fault;
pub mod line;
mod machine;
pub mod math;
pub mod memory;
pub mod nurse;
pub mod patient;
pub mod plant;
pub mod qemu;
pub mod run;
pub mod scenario;
pub mod setup;
pub mod sim;
pub mod story;
pub mod ward;
pub mod wire;
