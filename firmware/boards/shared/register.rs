//! The registers of a board, by their addresses.

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

pub(crate) fn read(address: usize) -> u32 {
    // SAFETY: called with addresses of the board's registers and of its stack alone, which are
    // aligned and there.
    unsafe { with_exposed_provenance::<u32>(address).read_volatile() }
}

pub(crate) fn write(address: usize, value: u32) {
    // SAFETY: as in `read`; no register of a board makes hardware touch Rust's memory.
    unsafe { with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}
