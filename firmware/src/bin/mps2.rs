//! The pump's image for an Arm MPS2 with a Cortex-M4F, which QEMU emulates as `mps2-an386`. Built
//! by `firmware/scripts/build.sh mps2`; described in `docs/image.md`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "the board's registers, memory and stack")
)]

#[cfg(target_os = "none")]
#[path = "../../boards/mps2/board.rs"]
mod board;

#[cfg(target_os = "none")]
#[cortex_m_rt::entry]
fn main() -> ! {
    firmware::station::run(board::Mps2::start());
    // A board's rest never says that power goes; where power goes, nothing is left to do.
    loop {
        cortex_m::asm::wfi();
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("this is the image of a board: firmware/scripts/build.sh mps2");
}
