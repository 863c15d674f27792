//! The Arm MPS2 board with the AN386 image: a Cortex-M4F with serial ports, a free-running counter,
//! a watchdog that raises an NMI and then resets, and 16 MB of memory that a file keeps in QEMU.
//! It moves bytes, reads the counter and sleeps. (Arm DAI 0386, *Application Note AN386*; Arm DDI
//! 0479, *Cortex-M System Design Kit*, for the ports, timers and watchdog.)
//!
//! UART 0 is the line to the gateway, UART 1 goes to the rig. The memory is used as NOR flash: a
//! write clears bits, an erase sets a sector's.

#[path = "../shared/register.rs"]
mod register;
#[path = "../shared/reset.rs"]
mod reset;
#[path = "../shared/stack.rs"]
mod stack;

use core::cell::Cell;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicBool, Ordering};
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;
use firmware::board::{NvError, SECTOR};
use firmware::provisioning;
use firmware::ring::Ring;
use firmware::station::Hardware;
use firmware::watchdog::TIMEOUT_MS;
use protocol::event::BootReason;
use protocol::time::Uptime;
use register::{read, write};

/// All clocks of the board.
pub(crate) const CLOCK_HZ: u32 = 25_000_000;

/// The journal's part of the memory: as large as a simulated pump's.
const FLASH_SIZE: u32 = 8 * 1024 * 1024;
const NV_SIZE: u32 = FLASH_SIZE + provisioning::SECTORS * SECTOR;
const NV: usize = 0x2100_0000;

const TIMER: usize = 0x4000_0000;
const LINE_PORT: Port = Port(0x4000_4000);
const RIG_PORT: Port = Port(0x4000_5000);
const WATCHDOG: usize = 0x4000_8000;
const FPGAIO: usize = 0x4002_8000;

/// Interrupts: received and sent of UART 0, received of UART 1, the timer.
const LINE_RECEIVED: i16 = 0;
const LINE_SENT: i16 = 1;
const RIG_RECEIVED: i16 = 2;
const TIMER_OVER: i16 = 8;

static FROM_LINE: Ring<1024> = Ring::new();
static FROM_RIG: Ring<512> = Ring::new();

/// A CMSDK UART.
#[derive(Clone, Copy)]
struct Port(usize);

impl Port {
    const STATE: usize = 0x04;
    const CONTROL: usize = 0x08;
    const INTERRUPT: usize = 0x0C;
    const DIVIDER: usize = 0x10;
    const FULL_OUT: u32 = 1;
    const FULL_IN: u32 = 2;
    const SENT: u32 = 1;
    const RECEIVED: u32 = 2;

    fn open(self, baud: u32, tell_when_sent: bool) {
        write(self.0 + Self::DIVIDER, CLOCK_HZ / baud);
        // Both directions on, an interrupt for each byte that came.
        let control = 0b1011 | if tell_when_sent { 0b100 } else { 0 };
        write(self.0 + Self::CONTROL, control);
    }

    fn has_room(self) -> bool {
        read(self.0 + Self::STATE) & Self::FULL_OUT == 0
    }

    fn put(self, byte: u8) {
        write(self.0, u32::from(byte));
    }

    /// The interrupt is cleared before the byte is read: cleared after it, a byte that comes in
    /// between would be left without one, and the port would stand still for good.
    fn received<const N: usize>(self, ring: &Ring<N>) {
        write(self.0 + Self::INTERRUPT, Self::RECEIVED);
        while read(self.0 + Self::STATE) & Self::FULL_IN != 0 {
            let [byte, ..] = read(self.0).to_le_bytes();
            ring.put(byte);
        }
    }

    fn sent(self) {
        write(self.0 + Self::INTERRUPT, Self::SENT);
    }
}

/// The watchdog: an NMI after one span without feeding, a reset after a second.
mod dog {
    use super::{CLOCK_HZ, TIMEOUT_MS, WATCHDOG, write};

    const LOAD: usize = WATCHDOG;
    const CONTROL: usize = WATCHDOG + 0x08;
    const CLEAR: usize = WATCHDOG + 0x0C;
    const LOCK: usize = WATCHDOG + 0xC00;
    const UNLOCKED: u32 = 0x1ACC_E551;
    const NMI: u32 = 1;
    const RESET: u32 = 2;

    fn set(span: u32, control: u32) {
        write(LOCK, UNLOCKED);
        write(LOAD, span);
        write(CLEAR, 1);
        write(CONTROL, control);
        write(LOCK, 0);
    }

    /// Both spans together are the timeout.
    pub(super) fn feed() {
        let half_ms = u32::try_from(TIMEOUT_MS / 2).unwrap_or(u32::MAX);
        set((CLOCK_HZ / 1_000).saturating_mul(half_ms), NMI | RESET);
    }

    /// A quarter of a second, and no reset. Not shorter: an emulator that its host holds up longer
    /// than two spans counts both at once, remembers the second, and resets as soon as it may.
    pub(super) fn begin_test() {
        set(CLOCK_HZ / 4, NMI);
    }

    pub(super) fn stop() {
        set(u32::MAX, 0);
    }
}

/// The watchdog is being tested: its NMI is no reset's beginning.
static TESTING: AtomicBool = AtomicBool::new(false);
static BARKED: AtomicBool = AtomicBool::new(false);

#[exception]
unsafe fn NonMaskableInt() {
    if TESTING.load(Ordering::Relaxed) {
        BARKED.store(true, Ordering::Relaxed);
        dog::stop();
        return;
    }
    // Not cleared: only an NMI that still stands at the end of the second span resets the board.
    reset::note(reset::BY_WATCHDOG);
}

#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    match interrupt {
        LINE_RECEIVED => LINE_PORT.received(&FROM_LINE),
        LINE_SENT => LINE_PORT.sent(),
        RIG_RECEIVED => RIG_PORT.received(&FROM_RIG),
        TIMER_OVER => write(TIMER + 0x0C, 1),
        _ => {}
    }
}

#[derive(Clone, Copy)]
struct Line(u16);

// SAFETY: the number is the one that the board's manual gives the interrupt.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

/// The board.
pub(crate) struct Mps2 {
    counter: Cell<(u32, u64)>,
    reset_by: Option<BootReason>,
    keys: Option<salty::Keypair>,
}

impl Mps2 {
    /// Switches everything on. To be called once.
    pub(crate) fn start() -> Self {
        let reset_by = reset::take();
        stack::begin();
        // The counter counts microseconds.
        write(FPGAIO + 0x1C, CLOCK_HZ / 1_000_000 - 1);
        write(FPGAIO + 0x18, 0);
        LINE_PORT.open(115_200, true);
        RIG_PORT.open(115_200, false);
        for number in [LINE_RECEIVED, LINE_SENT, RIG_RECEIVED, TIMER_OVER] {
            // SAFETY: the handlers above only touch what is shared by atomics.
            unsafe { NVIC::unmask(Line(number.unsigned_abs())) };
        }
        Self {
            counter: Cell::new((0, 0)),
            reset_by,
            keys: None,
        }
    }

    /// Microseconds since the start. To be asked at least once an hour, or a turn of the counter is
    /// missed.
    pub(crate) fn micros(&self) -> u64 {
        let (before, turns) = self.counter.get();
        let now = read(FPGAIO + 0x18);
        let turns = if now < before { turns + 1 } else { turns };
        self.counter.set((now, turns));
        (turns << 32) | u64::from(now)
    }
}

fn nv_address(at: u32, len: usize) -> Result<usize, NvError> {
    let end = usize::try_from(at).ok().and_then(|a| a.checked_add(len));
    let size = usize::try_from(NV_SIZE).unwrap_or(0);
    match end {
        Some(end) if end <= size => Ok(NV + end - len),
        Some(_) | None => Err(NvError::Range),
    }
}

impl Hardware for Mps2 {
    fn nv_size(&self) -> u32 {
        NV_SIZE
    }

    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        let from = nv_address(at, into.len())?;
        for (address, byte) in (from..).zip(into) {
            // SAFETY: the memory is there from NV for NV_SIZE bytes, and no Rust value lies in it.
            *byte = unsafe { with_exposed_provenance::<u8>(address).read_volatile() };
        }
        Ok(())
    }

    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
        let to = nv_address(at, bytes.len())?;
        for (address, byte) in (to..).zip(bytes) {
            let cell = with_exposed_provenance_mut::<u8>(address);
            // SAFETY: as in `nv_read`.
            unsafe { cell.write_volatile(cell.read_volatile() & byte) };
        }
        Ok(())
    }

    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
        let at = sector.checked_mul(SECTOR).ok_or(NvError::Range)?;
        let len = usize::try_from(SECTOR).unwrap_or(0);
        let from = nv_address(at, len)?;
        for address in (from..from + len).step_by(4) {
            write(address, u32::MAX);
        }
        Ok(())
    }

    fn set_secret(&mut self, secret: &[u8; 32]) {
        self.keys = Some(salty::Keypair::from(secret));
    }

    fn sign(&mut self, message: &[u8]) -> [u8; 64] {
        let keys = self.keys.as_ref();
        keys.map_or([0; 64], |keys| keys.sign(message).to_bytes())
    }

    fn failed_parts(&self) -> u8 {
        0
    }

    fn reset_by(&self) -> Option<BootReason> {
        self.reset_by
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_millis(self.micros() / 1_000)
    }

    fn rig_take(&mut self) -> Option<u8> {
        FROM_RIG.take()
    }

    fn rig_put(&mut self, byte: u8) {
        while !RIG_PORT.has_room() {}
        RIG_PORT.put(byte);
    }

    fn line_take(&mut self) -> Option<u8> {
        FROM_LINE.take()
    }

    fn line_put(&mut self, byte: u8) -> bool {
        let room = LINE_PORT.has_room();
        if room {
            LINE_PORT.put(byte);
        }
        room
    }

    fn rest(&mut self, until: Uptime) -> bool {
        let wait_us = until
            .as_millis()
            .saturating_mul(1_000)
            .saturating_sub(self.micros());
        // Longer than a minute is a minute: the loop looks again.
        let wait_us = u32::try_from(wait_us.min(60_000_000)).unwrap_or(0);
        if wait_us == 0 {
            return true;
        }
        let ticks = wait_us.saturating_mul(CLOCK_HZ / 1_000_000);
        write(TIMER, 0);
        write(TIMER + 0x0C, 1);
        write(TIMER + 0x08, ticks);
        write(TIMER + 0x04, ticks);
        write(TIMER, 0b1001);
        cortex_m::interrupt::free(|_| {
            // An interrupt that is pending ends the sleep although it is masked here, so a byte
            // that comes after the look is not slept over.
            if FROM_LINE.is_empty() && FROM_RIG.is_empty() {
                cortex_m::asm::wfi();
            }
        });
        true
    }

    fn watchdog_test(&mut self) -> bool {
        BARKED.store(false, Ordering::Relaxed);
        TESTING.store(true, Ordering::Relaxed);
        dog::begin_test();
        let end = self.micros() + 2_000_000;
        while !BARKED.load(Ordering::Relaxed) && self.micros() < end {}
        dog::stop();
        TESTING.store(false, Ordering::Relaxed);
        BARKED.load(Ordering::Relaxed)
    }

    fn watchdog_feed(&mut self) {
        reset::note(0);
        dog::feed();
    }

    fn fares(&self) -> (u32, u32) {
        (stack::high_water(), FROM_LINE.dropped())
    }
}
