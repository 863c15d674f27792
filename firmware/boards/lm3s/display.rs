//! The OLED: an SSD0323 of 128 by 64 dots behind a PL022.

use super::CLOCK_HZ;
use super::lines::{A, C, D};
use super::register::{read, write};
use firmware::screen::{HEIGHT, Screen, WIDTH};

const DISPLAY: usize = 0x4000_8000;

const STATUS: usize = DISPLAY + 0x0C;
const ROOM: u32 = 1 << 1;
const CAME: u32 = 1 << 2;
const BUSY: u32 = 1 << 4;

fn send(bytes: impl Iterator<Item = u8>, data: bool) {
    // Data or a command; the display's own select line, and the one that it shares with the
    // card beside it, which is not selected while it is high.
    C.set(7, data);
    D.set(0, true);
    A.set(3, false);
    for byte in bytes {
        while read(STATUS) & ROOM == 0 {}
        write(DISPLAY + 0x08, u32::from(byte));
        // For each byte out one comes in, and says nothing.
        while read(STATUS) & CAME != 0 {
            let _ = read(DISPLAY + 0x08);
        }
    }
    while read(STATUS) & BUSY != 0 {}
    A.set(3, true);
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
