//! The memory: an AT24C512 behind the chip's I2C.

use super::CLOCK_HZ;
use super::register::{read, write};
use firmware::board::NvError;

/// Bytes.
pub(super) const SIZE: u32 = 64 * 1024;
/// What it takes in one write.
pub(super) const PAGE: usize = 128;
const ADDRESS: u32 = 0x50;

const MEMORY: usize = 0x4002_0000;

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
    write(MEMORY, ADDRESS << 1);
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
        Some(end) if end <= SIZE => Ok(()),
        Some(_) | None => Err(NvError::Range),
    }
}

pub(super) fn get(at: u32, into: &mut [u8]) -> Result<(), NvError> {
    check(at, into.len())?;
    let Some((last, rest)) = into.split_last_mut() else {
        return Ok(());
    };
    address(at, STOP)?;
    write(MEMORY, ADDRESS << 1 | 1);
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
        let offset = usize::try_from(at).unwrap_or(0) % PAGE;
        let count = (PAGE - offset).min(bytes.len());
        let (page, rest) = bytes.split_at(count);
        put_page(at, page)?;
        at += u32::try_from(count).unwrap_or(0);
        bytes = rest;
    }
    Ok(())
}
