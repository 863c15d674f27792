//! The Luminary LM3S6965 evaluation board: a Cortex-M3 with a pad of five keys on GPIO lines and an
//! OLED of 128 by 64 dots. It moves bytes and dots, reads lines and the tick, and sleeps. (Texas
//! Instruments, *LM3S6965 Microcontroller Data Sheet*, for ports, lines and watchdog; Solomon
//! Systech, *SSD0323*, for the display; Atmel, *AT24C512*, for the memory.)
//!
//! UART 0 is the line to the gateway, UART 1 goes to the rig. The memory is an EEPROM of 64 KB on
//! I2C: a journal of 9 sectors, 144 events. `SysTick` counts time and raises no interrupt, a timer
//! ends a sleep, and each edge of a key's line ends one too. Tried in QEMU only.

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use cortex_m::peripheral::{NVIC, SCB, SYST};
use cortex_m_rt::exception;
use firmware::board::{NvError, SECTOR};
use firmware::front::Panel;
use firmware::pad::PadKey;
use firmware::screen::Screen;
use firmware::station::Hardware;
use firmware::watchdog::TIMEOUT_MS;
use protocol::event::BootReason;
use protocol::time::Uptime;

/// All clocks of the chip: its PLL's 200 MHz through 16.
const CLOCK_HZ: u32 = 12_500_000;
/// Of the EEPROM.
const NV_SIZE: u32 = 64 * 1024;
/// What the EEPROM takes in one write.
const NV_PAGE: usize = 128;
const NV_ADDRESS: u32 = 0x50;

/// All that `SysTick` can count: 1.3 s.
const COUNTER_MASK: u32 = 0xFF_FFFF;

const SYSTEM: usize = 0x400F_E000;
const WATCHDOG: usize = 0x4000_0000;
const DISPLAY: usize = 0x4000_8000;
const LINE_PORT: Port = Port(0x4000_C000);
const RIG_PORT: Port = Port(0x4000_D000);
const MEMORY: usize = 0x4002_0000;
const TIMER: usize = 0x4003_0000;
const LINES_A: Lines = Lines(0x4000_4000);
const LINES_B: Lines = Lines(0x4000_5000);
const LINES_C: Lines = Lines(0x4000_6000);
const LINES_D: Lines = Lines(0x4000_7000);
const LINES_E: Lines = Lines(0x4002_4000);
const LINES_F: Lines = Lines(0x4002_5000);

/// Interrupts: lines E, UART 0, UART 1, the watchdog, timer 0, lines F.
const EDGE_E: i16 = 4;
const LINE_RECEIVED: i16 = 5;
const RIG_RECEIVED: i16 = 6;
const WATCHDOG_OVER: i16 = 18;
const TIMER_OVER: i16 = 19;
const EDGE_F: i16 = 30;

fn read(address: usize) -> u32 {
    // SAFETY: called with addresses of registers of this chip alone, which are aligned and there.
    unsafe { with_exposed_provenance::<u32>(address).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as in `read`; no register here makes hardware touch Rust's memory.
    unsafe { with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}

/// Bytes between an interrupt and the loop. One side puts, the other takes.
struct Ring<const N: usize> {
    bytes: [AtomicU8; N],
    put: AtomicUsize,
    taken: AtomicUsize,
    dropped: AtomicU32,
}

impl<const N: usize> Ring<N> {
    const fn new() -> Self {
        Self {
            bytes: [const { AtomicU8::new(0) }; N],
            put: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            dropped: AtomicU32::new(0),
        }
    }

    fn is_empty(&self) -> bool {
        self.put.load(Ordering::Acquire) == self.taken.load(Ordering::Relaxed)
    }

    fn put(&self, byte: u8) {
        let at = self.put.load(Ordering::Relaxed);
        let full = at.wrapping_sub(self.taken.load(Ordering::Acquire)) >= N;
        match self.bytes.get(at % N).filter(|_| !full) {
            Some(room) => {
                room.store(byte, Ordering::Relaxed);
                self.put.store(at.wrapping_add(1), Ordering::Release);
            }
            None => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn take(&self) -> Option<u8> {
        let at = self.taken.load(Ordering::Relaxed);
        if self.put.load(Ordering::Acquire) == at {
            return None;
        }
        let byte = self.bytes.get(at % N)?.load(Ordering::Relaxed);
        self.taken.store(at.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

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

/// A PL061: eight lines.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Lines(usize);

impl Lines {
    const DIRECTION: usize = 0x400;
    const BOTH_EDGES: usize = 0x408;
    const INTERRUPT: usize = 0x410;
    const CHANGED: usize = 0x418;
    const CLEAR: usize = 0x41C;
    const OPEN_DRAIN: usize = 0x50C;
    const ALTERNATE: usize = 0x420;
    const PULL_UP: usize = 0x510;
    const DIGITAL: usize = 0x51C;

    fn change(self, register: usize, lines: u32) {
        write(self.0 + register, read(self.0 + register) | lines);
    }

    /// Part of a port.
    fn lend(self, lines: u32) {
        self.change(Self::ALTERNATE, lines);
        self.change(Self::DIGITAL, lines);
    }

    fn output(self, lines: u32) {
        self.change(Self::DIRECTION, lines);
        self.change(Self::DIGITAL, lines);
    }

    /// With an interrupt for each edge.
    fn input(self, lines: u32) {
        self.change(Self::PULL_UP, lines);
        self.change(Self::DIGITAL, lines);
        self.change(Self::BOTH_EDGES, lines);
        write(self.0 + Self::CLEAR, lines);
        self.change(Self::INTERRUPT, lines);
    }

    /// The lines that changed since this was last asked.
    fn take_changed(self) -> u8 {
        let [changed, ..] = read(self.0 + Self::CHANGED).to_le_bytes();
        write(self.0 + Self::CLEAR, u32::from(changed));
        changed
    }

    /// The address carries a mask, so that no other line is touched.
    fn set(self, line: u32, high: bool) {
        let mask = 1 << line;
        let address = self.0 + usize::try_from(mask << 2).unwrap_or(0);
        write(address, if high { mask } else { 0 });
    }

    fn is_high(self, line: u32) -> bool {
        let address = self.0 + usize::try_from(4_u32 << line).unwrap_or(0);
        read(address) != 0
    }
}

fn note_moved() {
    let (e, f) = (LINES_E.take_changed(), LINES_F.take_changed());
    for (bit, key) in PadKey::ALL.iter().enumerate() {
        let (lines, line) = line_of(*key);
        let changed = if lines == LINES_E { e } else { f };
        if changed & 1 << line != 0 {
            MOVED.fetch_or(1 << bit, Ordering::Relaxed);
        }
    }
}

/// The pad's lines, low while a key is down.
fn line_of(key: PadKey) -> (Lines, u32) {
    match key {
        PadKey::Up => (LINES_E, 0),
        PadKey::Down => (LINES_E, 1),
        PadKey::Left => (LINES_E, 2),
        PadKey::Right => (LINES_E, 3),
        PadKey::Select => (LINES_F, 1),
    }
}

/// The SSD0323 behind a PL022.
mod display {
    use super::{CLOCK_HZ, DISPLAY, LINES_A, LINES_C, LINES_D, read, write};
    use firmware::screen::{HEIGHT, Screen, WIDTH};

    const STATUS: usize = DISPLAY + 0x0C;
    const ROOM: u32 = 1 << 1;
    const CAME: u32 = 1 << 2;
    const BUSY: u32 = 1 << 4;

    fn send(bytes: impl Iterator<Item = u8>, data: bool) {
        // Data or a command; the display's own select line, and the one that it shares with the
        // card beside it, which is not selected while it is high.
        LINES_C.set(7, data);
        LINES_D.set(0, true);
        LINES_A.set(3, false);
        for byte in bytes {
            while read(STATUS) & ROOM == 0 {}
            write(DISPLAY + 0x08, u32::from(byte));
            // For each byte out one comes in, and says nothing.
            while read(STATUS) & CAME != 0 {
                let _ = read(DISPLAY + 0x08);
            }
        }
        while read(STATUS) & BUSY != 0 {}
        LINES_A.set(3, true);
    }

    fn command(bytes: &[u8]) {
        send(bytes.iter().copied(), false);
    }

    pub(super) fn open() {
        write(DISPLAY + 0x04, 0);
        write(DISPLAY + 0x10, 2);
        // A million bits a second, eight at a time.
        write(DISPLAY, (CLOCK_HZ.div_ceil(2 * 1_000_000) - 1) << 8 | 7);
        write(DISPLAY + 0x04, 1 << 1);
        // Off; contrast; rows and columns in order; 64 lines; no offset; shown as written; on.
        command(&[0xAE]);
        command(&[0x81, 0x7F]);
        command(&[0xA0, 0x52]);
        command(&[0xA1, 0x00]);
        command(&[0xA2, 0x00]);
        command(&[0xA8, 0x3F]);
        command(&[0xA4]);
        command(&[0xAF]);
    }

    /// Two dots a byte, the left one in the upper half; a dot is fully on or off.
    pub(super) fn show(screen: &Screen) {
        command(&[0x15, 0, 63]);
        command(&[0x75, 0, 63]);
        let half = |x, y| if screen.dot(x, y) { 0xF } else { 0 };
        let bytes = (0..HEIGHT).flat_map(|y| {
            (0..WIDTH)
                .step_by(2)
                .map(move |x| half(x, y) << 4 | half(x + 1, y))
        });
        send(bytes, true);
    }
}

/// The EEPROM behind the chip's I2C.
mod eeprom {
    use super::{CLOCK_HZ, MEMORY, NV_ADDRESS, NV_PAGE, NV_SIZE, NvError, read, write};

    const CONTROL: usize = MEMORY + 0x04;
    const DATA: usize = MEMORY + 0x08;
    const RUN: u32 = 1;
    const START: u32 = 2;
    const STOP: u32 = 4;
    const ACK: u32 = 8;
    const BUSY: u32 = 1;
    const ERROR: u32 = 2;
    /// A page takes at most 5 ms; a look takes some 30 us.
    const LOOKS: u32 = 1_000;

    pub(super) fn open() {
        write(MEMORY + 0x20, 1 << 4);
        // 400 kHz at most: 20 periods of the clock and a divider make a bit.
        write(MEMORY + 0x0C, CLOCK_HZ.div_ceil(20 * 400_000) - 1);
    }

    fn run(bits: u32) -> Result<(), NvError> {
        write(CONTROL, bits | RUN);
        while read(CONTROL) & BUSY != 0 {}
        if read(CONTROL) & ERROR == 0 {
            return Ok(());
        }
        write(CONTROL, STOP);
        Err(NvError::Failed)
    }

    /// Says where; waits while the memory is busy with a page.
    fn address(at: u32, last: u32) -> Result<(), NvError> {
        let [low, high, ..] = at.to_le_bytes();
        write(MEMORY, NV_ADDRESS << 1);
        let mut left = LOOKS;
        loop {
            write(DATA, u32::from(high));
            match run(START) {
                Ok(()) => break,
                Err(error) if left == 0 => return Err(error),
                Err(_) => left -= 1,
            }
        }
        write(DATA, u32::from(low));
        run(last)
    }

    fn check(at: u32, len: usize) -> Result<(), NvError> {
        let len = u32::try_from(len).map_err(|_| NvError::Range)?;
        match at.checked_add(len) {
            Some(end) if end <= NV_SIZE => Ok(()),
            Some(_) | None => Err(NvError::Range),
        }
    }

    pub(super) fn get(at: u32, into: &mut [u8]) -> Result<(), NvError> {
        check(at, into.len())?;
        let Some((last, rest)) = into.split_last_mut() else {
            return Ok(());
        };
        address(at, STOP)?;
        write(MEMORY, NV_ADDRESS << 1 | 1);
        let mut first = START;
        for byte in rest {
            run(first | ACK)?;
            first = 0;
            [*byte, ..] = read(DATA).to_le_bytes();
        }
        run(first | STOP)?;
        [*last, ..] = read(DATA).to_le_bytes();
        Ok(())
    }

    /// Within one page.
    fn put_page(at: u32, bytes: &[u8]) -> Result<(), NvError> {
        let Some((last, rest)) = bytes.split_last() else {
            return Ok(());
        };
        address(at, 0)?;
        for byte in rest {
            write(DATA, u32::from(*byte));
            run(0)?;
        }
        write(DATA, u32::from(*last));
        run(STOP)
    }

    pub(super) fn put(at: u32, bytes: &[u8]) -> Result<(), NvError> {
        check(at, bytes.len())?;
        let (mut at, mut bytes) = (at, bytes);
        while !bytes.is_empty() {
            let offset = usize::try_from(at).unwrap_or(0) % NV_PAGE;
            let count = (NV_PAGE - offset).min(bytes.len());
            let (page, rest) = bytes.split_at(count);
            put_page(at, page)?;
            at += u32::try_from(count).unwrap_or(0);
            bytes = rest;
        }
        Ok(())
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

/// Why the board is about to reset itself. Kept through a reset, gone with the supply.
#[unsafe(link_section = ".uninit.RESET_BY")]
static mut RESET_BY: MaybeUninit<[u32; 2]> = MaybeUninit::uninit();
const BY_WATCHDOG: u32 = 0x5741_5443;
const BY_FAULT: u32 = 0x4641_554C;

fn note_reset(by: u32) {
    // SAFETY: one core; a fault that comes between only writes a whole pair of its own.
    unsafe { (&raw mut RESET_BY).write_volatile(MaybeUninit::new([by, !by])) }
}

fn take_reset() -> Option<BootReason> {
    // SAFETY: any bits are two words; read before interrupts are enabled.
    let [by, not] = unsafe { (&raw const RESET_BY).read_volatile().assume_init() };
    note_reset(0);
    match by {
        BY_WATCHDOG if not == !by => Some(BootReason::Watchdog),
        BY_FAULT if not == !by => Some(BootReason::Fault),
        _ => None,
    }
}

#[exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    note_reset(BY_FAULT);
    SCB::sys_reset()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    note_reset(BY_FAULT);
    SCB::sys_reset()
}

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
            note_reset(BY_WATCHDOG);
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

/// The stack's unused part holds this.
const PAINT: u32 = 0xC0DE_57AC;

unsafe extern "C" {
    static mut __sheap: u32;
    static mut _stack_start: u32;
}

/// The lowest and one beyond the highest address that the stack may use.
fn stack() -> (usize, usize) {
    (
        (&raw const __sheap).expose_provenance(),
        (&raw const _stack_start).expose_provenance(),
    )
}

fn paint_stack() {
    let (low, _) = stack();
    let here = 0_u32;
    // What lies below this function's own frame is not in use.
    let high = (&raw const here).expose_provenance().saturating_sub(256);
    for address in (low..high).step_by(4) {
        write(address, PAINT);
    }
}

fn stack_high_water() -> u32 {
    let (low, high) = stack();
    let untouched = (low..high).step_by(4).take_while(|a| read(*a) == PAINT);
    let used = high - low - 4 * untouched.count();
    u32::try_from(used).unwrap_or(u32::MAX)
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
        let reset_by = take_reset();
        paint_stack();
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
        LINES_A.lend(0b11_0111);
        LINES_B.lend(0b1100);
        LINES_B.change(Lines::OPEN_DRAIN, 0b1100);
        LINES_D.lend(0b1100);
        LINES_A.output(1 << 3);
        LINES_C.output(0b11 << 6);
        LINES_D.output(1);
        // The display's own supply.
        LINES_C.set(6, true);
        LINES_E.input(0b1111);
        LINES_F.input(1 << 1);
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
        NV_SIZE
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
            .step_by(NV_PAGE)
            .try_for_each(|at| eeprom::put(at, &[0xFF; NV_PAGE]))
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
        note_reset(0);
        unmask(WATCHDOG_OVER);
    }

    fn fares(&self) -> (u32, u32) {
        (
            stack_high_water(),
            FROM_LINE.dropped.load(Ordering::Relaxed),
        )
    }
}
