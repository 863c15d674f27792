//! The words that pump, gateway, recorder and dashboard share, and the rules that hold between
//! any two of them. Pure: no I/O, no clock, no allocation without the `host` feature.
//!
//! In reading order: [`units`] and [`time`] are the quantities, [`event`] is what can happen and
//! who says so, [`message`] is what may stand on the serial line, [`wire`], [`crc`] and [`frame`] turn messages
//! into bytes and back, [`link`] makes an unreliable line reliable, [`chain`] makes a record provable.
//! With `host`: [`bedside`] holds the events of people and of the gateway, [`manifest`] opens a
//! trial, [`keys`] signs, [`text`] guards what comes from outside, [`topics`] are the MQTT words.
//!
//! The promise kept here: an event has one identity and one sequence of bytes for ever
//! (`tests/vectors.rs`), no bytes can panic a decoder, and no message to the pump can change
//! delivery, because none that could exists ([`message::ToPump`]).
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![forbid(unsafe_code)]

pub mod chain;
pub mod crc;
pub mod event;
pub mod frame;
pub mod hex;
pub mod link;
pub mod message;
pub mod time;
pub mod units;
pub mod wire;

#[cfg(feature = "host")]
pub mod bedside;
#[cfg(feature = "host")]
pub mod keys;
#[cfg(feature = "host")]
pub mod manifest;
#[cfg(feature = "host")]
pub mod text;
#[cfg(feature = "host")]
pub mod topics;

/// The version of the serial protocol and of an event's bytes.
pub const PROTOCOL_VERSION: u8 = 1;
