//! Parts of screens.

pub(crate) mod banner;
pub(crate) mod tile;
pub(crate) mod timeline;
pub(crate) mod timeplot;
