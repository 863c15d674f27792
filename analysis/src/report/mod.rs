//! The report: a page for people and a file for programs, from one set of measures.

pub mod charts;
pub mod clock;
pub mod html;
pub mod svg;
pub mod timeline;
pub mod verdict;
