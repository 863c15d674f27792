//! The nurse's dashboard: a ward and each of its beds in a terminal, right about freshness.
//!
//! In reading order: [`feed`] turns payloads into events, [`fresh`] says what a value is worth,
//! [`bed`] is one of a ward's, [`app`] holds them all and takes events, [`alarm`] ranks what is
//! wrong, [`screens`] draws it with [`theme`] and the widgets, [`keymap`] is the one table of
//! keys, [`term`] takes the terminal and gives it back, [`lines`] says the same in sentences,
//! [`export`] makes pictures.
//!
//! The promise kept here: a number is printed plain only while it is fresh, silence is never
//! health, and nothing on a screen hides a `***`. All but [`term`] is pure: no clock, no I/O; time
//! is an argument. Knows payloads, neither MQTT nor records.
#![forbid(unsafe_code)]

pub mod alarm;
pub mod app;
pub mod bed;
pub mod export;
pub mod feed;
pub mod fresh;
pub mod keymap;
pub mod lines;
mod pen;
pub mod screens;
pub mod term;
pub mod theme;
mod values;
mod widgets;
mod words;

pub use app::{App, Effect, Exit, Setup};
pub use bed::{Bed, BedKey};
pub use feed::{Event, Incoming};
pub use screens::view;
pub use term::{Error, Options, choose_palette, run};
pub use theme::{Palette, Theme};
