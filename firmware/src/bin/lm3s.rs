//! The pump's image for the Luminary LM3S6965 board with a Cortex-M3, which QEMU emulates as
//! `lm3s6965evb`: five keys and an OLED. Built by `firmware/scripts/build.sh lm3s`; described in
//! `docs/image.md`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "the board's registers, memory and stack")
)]

#[cfg(target_os = "none")]
#[path = "../../boards/lm3s/board.rs"]
mod board;

#[cfg(target_os = "none")]
#[cortex_m_rt::entry]
fn main() -> ! {
    firmware::station::run_with_panel(board::Lm3s::start());
    // A board's rest never says that power goes; where power goes, nothing is left to do.
    loop {
        cortex_m::asm::wfi();
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("this is the image of a board: firmware/scripts/build.sh lm3s");
}
