//! CRC-32C (Castagnoli), reflected, a nibble at a time: 64 bytes of table, as a pump has room for.
//! Six or more bits apart for frames of our lengths (`facts/firmware.md` §8, by enumeration).

/// The checksum of `bytes`, or, with that of what comes before them as `start`, of both; else
/// `start` is 0, or a salt.
pub fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    const fn table() -> [u32; 16] {
        let mut table = [0; 16];
        let mut nibble = 0u32;
        while nibble < 16 {
            let mut value = nibble;
            let mut bit = 0;
            while bit < 4 {
                value = (value >> 1) ^ (0x82f6_3b78 * (value & 1));
                bit += 1;
            }
            #[expect(
                clippy::as_conversions,
                clippy::indexing_slicing,
                reason = "evaluated at compile time, nibble is below 16"
            )]
            {
                table[nibble as usize] = value;
            }
            nibble += 1;
        }
        table
    }
    const TABLE: [u32; 16] = table();
    let step = |crc: u32, nibble: u32| {
        let place = usize::try_from((crc ^ nibble) & 15).unwrap_or(0);
        (crc >> 4) ^ TABLE.get(place).copied().unwrap_or(0)
    };
    let mut crc = !start;
    for byte in bytes {
        crc = step(crc, u32::from(*byte));
        crc = step(crc, u32::from(*byte) >> 4);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c_by_its_published_check_value() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }
}
