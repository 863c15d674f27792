//! Why a board was reset, and the faults that reset it.

use core::mem::MaybeUninit;
use cortex_m::peripheral::SCB;
use protocol::event::BootReason;

/// Why the board is about to reset itself. Kept through a reset, gone with the supply.
#[unsafe(link_section = ".uninit.RESET_BY")]
static mut RESET_BY: MaybeUninit<[u32; 2]> = MaybeUninit::uninit();
pub(crate) const BY_WATCHDOG: u32 = 0x5741_5443;
const BY_FAULT: u32 = 0x4641_554C;

pub(crate) fn note(by: u32) {
    // SAFETY: one core; an NMI or a fault that comes between only writes a whole pair of its own.
    unsafe { (&raw mut RESET_BY).write_volatile(MaybeUninit::new([by, !by])) }
}

/// Why this start is one, and forgets it.
pub(crate) fn take() -> Option<BootReason> {
    // SAFETY: any bits are two words; read before interrupts are enabled.
    let [by, not] = unsafe { (&raw const RESET_BY).read_volatile().assume_init() };
    note(0);
    match by {
        BY_WATCHDOG if not == !by => Some(BootReason::Watchdog),
        BY_FAULT if not == !by => Some(BootReason::Fault),
        _ => None,
    }
}

extern "C" fn fault() -> ! {
    note(BY_FAULT);
    SCB::sys_reset()
}

/// The stack may be what is wrong, and a fault in here would stop the processor: it begins anew.
///
/// # Safety
/// Called by the processor alone.
#[unsafe(naked)]
#[unsafe(export_name = "HardFault")]
unsafe extern "C" fn hard_fault() -> ! {
    core::arch::naked_asm!(
        "movw r0, :lower16:_stack_start",
        "movt r0, :upper16:_stack_start",
        "mov sp, r0",
        "b {fault}",
        fault = sym fault,
    )
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    fault()
}
