//! The stack: how much of it was ever in use, and its end. It lies below all else in RAM
//! (`memory.x`), and what is below it may not be touched: one that runs out is a fault before it
//! overwrites anything. (ARM DDI 0403, *ARMv7-M Architecture Reference Manual*, B3.5, for the
//! protection unit.)

use super::register::{read, write};

/// The stack's unused part holds this.
const PAINT: u32 = 0xC0DE_57AC;

unsafe extern "C" {
    static mut _stack_end: u32;
    static mut _stack_start: u32;
}

const PROTECTION: usize = 0xE000_ED90;
const REGION_0: u32 = 1 << 4;
const NO_CODE: u32 = 1 << 28;
const KIB_64: u32 = 15 << 1;
const DEFAULT_MAP: u32 = 1 << 2;

/// The lowest and one beyond the highest address that the stack may use.
fn range() -> (usize, usize) {
    (
        (&raw const _stack_end).expose_provenance(),
        (&raw const _stack_start).expose_provenance(),
    )
}

/// To be called once, at the start.
pub(crate) fn begin() {
    let (low, _) = range();
    // One region: the 64 KiB below, for nobody. All else is as without the unit, which is off in the
    // handlers of faults and of the NMI.
    let below = u32::try_from(low - 0x1_0000).unwrap_or(0);
    write(PROTECTION + 0x0C, below | REGION_0);
    write(PROTECTION + 0x10, NO_CODE | KIB_64 | 1);
    write(PROTECTION + 0x04, DEFAULT_MAP | 1);
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
    let here = 0_u32;
    // What lies below this function's own frame is not in use.
    let high = (&raw const here).expose_provenance().saturating_sub(256);
    for address in (low..high).step_by(4) {
        write(address, PAINT);
    }
}

/// Bytes.
pub(crate) fn high_water() -> u32 {
    let (low, high) = range();
    let untouched = (low..high).step_by(4).take_while(|a| read(*a) == PAINT);
    let used = high - low - 4 * untouched.count();
    u32::try_from(used).unwrap_or(u32::MAX)
}
