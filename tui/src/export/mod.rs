//! Pictures of screens.

pub mod svg;
