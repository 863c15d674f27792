//! The pump's program: everything with an `if` about doses, time or bytes, and nothing else.
//!
//! It asks of hardware only what [`board::Board`] offers and gets the time as an argument, so the
//! same code runs in the pump, in QEMU, and on a simulated board at thousands of times real speed.
//! No allocation, no clock, no thread; all memory is fixed at compile time.
//!
//! In reading order: [`provision`] is what the pump is given before a trial, [`program`] says what
//! to infuse when, [`dose`] turns it into motor steps, [`window`] holds the limits of boluses,
//! [`motion`] holds each command against the encoder, [`supervisor`] watches it by itself,
//! [`keypad`], [`score`] and [`prompt`] listen to the patient, [`alarms`] holds the conditions.
//! [`journal`], [`ratchet`], [`settings`] and [`ledger`] make what happened last, and `recall` reads it after a start. [`pump`] puts it together:
//! `start` begins, `patient` and `watch` are what it does about keys and sensors, and [`acts`] is
//! what a clinician may do. `sound` looks each time whether the delivery data in RAM are as they
//! were left, and [`watchdog`] says when all of it makes progress. [`face`] and [`texts`] are what
//! people see; [`screen`], by [`font`], draws the face for a small display, [`pad`] is a keypad of
//! five keys, and [`front`] is both on a board that has them.
//! [`mod@line`] is the serial line, which reads the pump and cannot change it.
//! [`station`] is the loop of an image, over [`provisioning`] and, on a bench, the [`rig`]; [`ring`] is what its interrupts leave it.
//!
//! Invariants: an event is in the journal before its tick is shown; no message from outside
//! reaches [`pump::Pump::handle`]; delivered volume comes from encoder counts and is never rounded
//! twice; after a start nothing is infused until a person says so.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod acts;
pub mod alarms;
pub mod board;
pub mod dose;
pub mod face;
pub mod font;
pub mod front;
pub mod journal;
pub mod keypad;
pub mod ledger;
pub mod line;
mod memory;
pub mod motion;
pub mod pad;
mod patient;
pub mod program;
pub mod prompt;
pub mod provision;
pub mod provisioning;
pub mod pump;
pub mod ratchet;
mod recall;
pub mod rig;
pub mod ring;
pub mod score;
pub mod screen;
mod seal;
pub mod settings;
mod sound;
mod start;
pub mod station;
pub mod supervisor;
pub mod texts;
mod watch;
pub mod watchdog;
pub mod window;
