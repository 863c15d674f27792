//! The Luminary LM3S6965 evaluation board: a Cortex-M3 with a pad of five keys on GPIO lines and an
//! OLED of 128 by 64 dots. It moves bytes and dots, reads lines and the tick, and sleeps. (Texas
//! Instruments, *LM3S6965 Microcontroller Data Sheet*, for ports, lines and watchdog; Solomon
//! Systech, *SSD0323*, for the display; Atmel, *AT24C512*, for the memory.)
//!
//! UART 0 is the line to the gateway, UART 1 goes to the rig. The memory is an EEPROM of 64 KB on
//! I2C: a journal of 9 sectors, 144 events. `SysTick` counts time and raises no interrupt, a timer
//! ends a sleep, and each edge of a key's line ends one too. Tried in QEMU only.

mod display;
mod eeprom;
mod lines;
#[path = "../shared/register.rs"]
mod register;
#[path = "../shared/reset.rs"]
mod reset;
#[path = "../shared/stack.rs"]
mod stack;

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use cortex_m::peripheral::{NVIC, SYST};
use cortex_m_rt::exception;
use firmware::board::{NvError, SECTOR};
use firmware::front::Panel;
use firmware::pad::PadKey;
use firmware::ring::Ring;
use firmware::screen::Screen;
use firmware::station::Hardware;
use firmware::watchdog::TIMEOUT_MS;
use lines::Lines;
use protocol::event::BootReason;
use protocol::time::Uptime;
use register::{read, write};

/// All clocks of the chip: its PLL's 200 MHz through 16.
const CLOCK_HZ: u32 = 12_500_000;
/// All that `SysTick` can count: 1.3 s.
const COUNTER_MASK: u32 = 0xFF_FFFF;

const SYSTEM: usize = 0x400F_E000;
const WATCHDOG: usize = 0x4000_0000;
const LINE_PORT: Port = Port(0x4000_C000);
const RIG_PORT: Port = Port(0x4000_D000);
const TIMER: usize = 0x4003_0000;

/// Interrupts: lines E, UART 0, UART 1, the watchdog, timer 0, lines F.
const EDGE_E: i16 = 4;
const LINE_RECEIVED: i16 = 5;
const RIG_RECEIVED: i16 = 6;
const WATCHDOG_OVER: i16 = 18;
const TIMER_OVER: i16 = 19;
const EDGE_F: i16 = 30;

static FROM_LINE: Ring<1024> = Ring::new();
static FROM_RIG: Ring<512> = Ring::new();
/// Keys whose lines changed since somebody looked, one bit a key in the order of `PadKey::ALL`.
static MOVED: AtomicU8 = AtomicU8::new(0);

/// A PL011 UART.
#[derive(Clone, Copy)]
struct Port(usize);

impl Port {
    const FLAGS: usize = 0x18;
    const EMPTY_IN: u32 = 1 << 4;
    const FULL_OUT: u32 = 1 << 5;

    fn open(self, baud: u32) {
        // Of sixteenths of a bit, in 64ths: the divider is whole and fraction.
        let divider = (CLOCK_HZ * 4 + baud / 2) / baud;
        write(self.0 + 0x30, 0);
        write(self.0 + 0x24, divider / 64);
        write(self.0 + 0x28, divider % 64);
        // Eight bits, with queues.
        write(self.0 + 0x2C, 0b11 << 5 | 1 << 4);
        // An interrupt for bytes that came, and for those that wait below the queue's mark.
        write(self.0 + 0x34, 0);
        write(self.0 + 0x38, 1 << 4 | 1 << 6);
        write(self.0 + 0x30, 1 | 1 << 8 | 1 << 9);
    }

    fn has_room(self) -> bool {
        read(self.0 + Self::FLAGS) & Self::FULL_OUT == 0
    }

    fn put(self, byte: u8) {
        write(self.0, u32::from(byte));
    }

    /// The interrupt is cleared before the bytes are read, or one that comes in between is left
    /// without one.
    fn received<const N: usize>(self, ring: &Ring<N>) {
        write(self.0 + 0x44, 1 << 4 | 1 << 6);
        while read(self.0 + Self::FLAGS) & Self::EMPTY_IN == 0 {
            let [byte, ..] = read(self.0).to_le_bytes();
            ring.put(byte);
        }
    }
}

fn note_moved() {
    let (e, f) = (lines::E.take_changed(), lines::F.take_changed());
    for (bit, key) in PadKey::ALL.iter().enumerate() {
        let (lines, line) = line_of(*key);
        let changed = if lines == lines::E { e } else { f };
        if changed & 1 << line != 0 {
            MOVED.fetch_or(1 << bit, Ordering::Relaxed);
        }
    }
}

/// The pad's lines, low while a key is down.
fn line_of(key: PadKey) -> (Lines, u32) {
    match key {
        PadKey::Up => (lines::E, 0),
        PadKey::Down => (lines::E, 1),
        PadKey::Left => (lines::E, 2),
        PadKey::Right => (lines::E, 3),
        PadKey::Select => (lines::F, 1),
    }
}

/// The watchdog: an interrupt after one span without feeding, a reset after a second that begins
/// while the interrupt still stands. Its control is written once: from then on it runs, and resets,
/// until a reset ends it. A pump that refuses to start is reset every eleven minutes, and refuses.
mod dog {
    use super::{CLOCK_HZ, TIMEOUT_MS, WATCHDOG, write};

    const LOAD: usize = WATCHDOG;
    const CONTROL: usize = WATCHDOG + 0x08;
    const CLEAR: usize = WATCHDOG + 0x0C;
    const LOCK: usize = WATCHDOG + 0xC00;
    const UNLOCKED: u32 = 0x1ACC_E551;
    const INTERRUPT: u32 = 1;
    const RESET: u32 = 2;

    fn set(span: u32) {
        write(LOCK, UNLOCKED);
        write(LOAD, span);
        write(CLEAR, 1);
        write(CONTROL, INTERRUPT | RESET);
        write(LOCK, 0);
    }

    /// Both spans together are the timeout.
    pub(super) fn feed() {
        let half_ms = u32::try_from(TIMEOUT_MS / 2).unwrap_or(u32::MAX);
        set((CLOCK_HZ / 1_000).saturating_mul(half_ms));
    }

    /// A quarter of a second. Not shorter: an emulator that its host holds up longer than two spans
    /// counts both at once, and resets.
    pub(super) fn begin_test() {
        set(CLOCK_HZ / 4);
    }

    /// As long as it can.
    pub(super) fn end_test() {
        set(u32::MAX);
    }
}

/// The watchdog is being tested: its interrupt is no reset's beginning.
static TESTING: AtomicBool = AtomicBool::new(false);
static BARKED: AtomicBool = AtomicBool::new(false);

#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    match interrupt {
        LINE_RECEIVED => LINE_PORT.received(&FROM_LINE),
        RIG_RECEIVED => RIG_PORT.received(&FROM_RIG),
        EDGE_E | EDGE_F => note_moved(),
        TIMER_OVER => write(TIMER + 0x24, 1),
        WATCHDOG_OVER if TESTING.load(Ordering::Relaxed) => {
            BARKED.store(true, Ordering::Relaxed);
            dog::end_test();
        }
        WATCHDOG_OVER => {
            reset::note(reset::BY_WATCHDOG);
            // Not cleared, or it would not reset; masked, or nothing else would run until then.
            mask(WATCHDOG_OVER);
        }
        _ => {}
    }
}

#[derive(Clone, Copy)]
struct Interrupt(u16);

// SAFETY: the number is the one that the data sheet gives the interrupt.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0
    }
}

fn mask(number: i16) {
    NVIC::mask(Interrupt(number.unsigned_abs()));
}

fn unmask(number: i16) {
    // SAFETY: the handlers above only touch what is shared by atomics.
    unsafe { NVIC::unmask(Interrupt(number.unsigned_abs())) };
}

/// The crystal's 8 MHz through the PLL and 16.
fn set_clock() {
    const CONFIGURATION: usize = SYSTEM + 0x060;
    const BYPASS: u32 = 1 << 11;
    const POWER_DOWN: u32 = 1 << 13;
    const USE_DIVIDER: u32 = 1 << 22;
    const DIVIDER: u32 = 0xF << 23;
    const CRYSTAL: u32 = 0xF << 6;
    const SOURCE: u32 = 0b11 << 4;
    const NO_MAIN: u32 = 1;
    let mut value = (read(CONFIGURATION) | BYPASS) & !USE_DIVIDER;
    write(CONFIGURATION, value);
    value &= !(CRYSTAL | SOURCE | NO_MAIN | POWER_DOWN | DIVIDER);
    value |= 0xE << 6;
    write(CONFIGURATION, value);
    value |= DIVIDER | USE_DIVIDER;
    write(CONFIGURATION, value);
    // Locked. Where it never is, the watchdog is not there yet to end this; nothing is infused.
    while read(SYSTEM + 0x050) & 1 << 6 == 0 {}
    write(CONFIGURATION, value & !BYPASS);
}

/// The board.
pub(crate) struct Lm3s {
    /// `SysTick` as it was last read, and all that it counted till then.
    counted: Cell<(u32, u64)>,
    reset_by: Option<BootReason>,
    keys: Option<salty::Keypair>,
}

impl Lm3s {
    /// Switches everything on. To be called once.
    pub(crate) fn start() -> Self {
        let reset_by = reset::take();
        stack::begin();
        set_clock();
        // Watchdog; both ports, the display's and the memory's, timer 0; lines A to F.
        write(SYSTEM + 0x100, read(SYSTEM + 0x100) | 1 << 3);
        write(
            SYSTEM + 0x104,
            read(SYSTEM + 0x104) | 0b11 | 1 << 4 | 1 << 12 | 1 << 16,
        );
        write(SYSTEM + 0x108, read(SYSTEM + 0x108) | 0b11_1111);
        // A register that is read back is time enough for the clocks to arrive.
        let _ = read(SYSTEM + 0x108);
        lines::A.lend(0b11_0111);
        lines::B.lend(0b1100);
        lines::B.change(Lines::OPEN_DRAIN, 0b1100);
        lines::D.lend(0b1100);
        lines::A.output(1 << 3);
        lines::C.output(0b11 << 6);
        lines::D.output(1);
        // The display's own supply.
        lines::C.set(6, true);
        lines::E.input(0b1111);
        lines::F.input(1 << 1);
        LINE_PORT.open(115_200);
        RIG_PORT.open(115_200);
        eeprom::open();
        display::open();
        // Counts down 32 bits again and again, with an interrupt each time.
        write(TIMER, 0);
        write(TIMER + 0x04, 2);
        write(TIMER + 0x18, 1);
        // SAFETY: called once, before anything else uses the core's peripherals.
        let core = unsafe { cortex_m::Peripherals::steal() };
        let mut counter = core.SYST;
        counter.set_clock_source(cortex_m::peripheral::syst::SystClkSource::Core);
        counter.set_reload(COUNTER_MASK);
        counter.clear_current();
        counter.enable_counter();
        for number in [
            EDGE_E,
            LINE_RECEIVED,
            RIG_RECEIVED,
            WATCHDOG_OVER,
            TIMER_OVER,
            EDGE_F,
        ] {
            unmask(number);
        }
        Self {
            counted: Cell::new((SYST::get_current(), 0)),
            reset_by,
            keys: None,
        }
    }
}

impl Panel for Lm3s {
    fn moved(&mut self, key: PadKey) -> bool {
        let place = PadKey::ALL.iter().position(|k| *k == key);
        let bit = place.map_or(0, |place| 1 << place);
        MOVED.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    fn is_down(&self, key: PadKey) -> bool {
        let (lines, line) = line_of(key);
        !lines.is_high(line)
    }

    fn show(&mut self, screen: &Screen) {
        display::show(screen);
    }
}

impl Hardware for Lm3s {
    fn nv_size(&self) -> u32 {
        eeprom::SIZE
    }

    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        eeprom::get(at, into)
    }

    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
        eeprom::put(at, bytes)
    }

    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
        let start = sector.checked_mul(SECTOR).ok_or(NvError::Range)?;
        let end = start.checked_add(SECTOR).ok_or(NvError::Range)?;
        (start..end)
            .step_by(eeprom::PAGE)
            .try_for_each(|at| eeprom::put(at, &[0xFF; eeprom::PAGE]))
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

    /// To be asked at least once a second, or a turn of the counter is missed.
    fn uptime(&self) -> Uptime {
        let (before, counted) = self.counted.get();
        let now = SYST::get_current();
        // It counts down.
        let counted = counted + u64::from(before.wrapping_sub(now) & COUNTER_MASK);
        self.counted.set((now, counted));
        Uptime::from_millis(counted / u64::from(CLOCK_HZ / 1_000))
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
        let now = self.uptime().as_millis();
        // Longer than a second is a second: the loop looks again.
        let wait_ms = until.as_millis().saturating_sub(now).min(1_000);
        let wait_ms = u32::try_from(wait_ms).unwrap_or(0);
        if wait_ms == 0 {
            return true;
        }
        write(TIMER + 0x0C, 0);
        write(TIMER + 0x24, 1);
        write(TIMER + 0x28, wait_ms.saturating_mul(CLOCK_HZ / 1_000));
        write(TIMER + 0x0C, 1);
        cortex_m::interrupt::free(|_| {
            // An interrupt that is pending ends the sleep although it is masked here, so a byte or
            // an edge that comes after the look is not slept over.
            let moved = MOVED.load(Ordering::Relaxed) != 0;
            if !moved && FROM_LINE.is_empty() && FROM_RIG.is_empty() {
                cortex_m::asm::wfi();
            }
        });
        true
    }

    fn watchdog_test(&mut self) -> bool {
        BARKED.store(false, Ordering::Relaxed);
        TESTING.store(true, Ordering::Relaxed);
        dog::begin_test();
        let end = self.uptime() + 2_000;
        while !BARKED.load(Ordering::Relaxed) && self.uptime() < end {}
        dog::end_test();
        TESTING.store(false, Ordering::Relaxed);
        BARKED.load(Ordering::Relaxed)
    }

    fn watchdog_feed(&mut self) {
        dog::feed();
        // Where it barked since the last time, the interrupt is masked and still pending.
        NVIC::unpend(Interrupt(WATCHDOG_OVER.unsigned_abs()));
        reset::note(0);
        unmask(WATCHDOG_OVER);
    }

    fn fares(&self) -> (u32, u32) {
        (stack::high_water(), FROM_LINE.dropped())
    }
}
