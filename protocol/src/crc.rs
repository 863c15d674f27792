//! CRC-32C (Castagnoli), reflected. A nibble at a time on the pump, which has room for 64 bytes of
//! table; eight bytes at a time with the `host` feature, where a checksum is a third of all that a
//! simulated trial computes. Six or more bits apart for frames of our lengths (`facts/firmware.md`
//! §8, by enumeration).

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of `bytes`, or, with that of what comes before them as `start`, of both; else
/// `start` is 0, or a salt.
pub fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    !form::update(!start, bytes)
}

#[cfg(any(test, not(feature = "host")))]
mod nibbles {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut nibble = 0u32;
        while nibble < 16 {
            #[expect(
                clippy::as_conversions,
                clippy::indexing_slicing,
                reason = "evaluated at compile time, nibble is below 16"
            )]
            {
                table[nibble as usize] = super::shifted(nibble, 4);
            }
            nibble += 1;
        }
        table
    };

    pub(super) fn update(crc: u32, bytes: &[u8]) -> u32 {
        let step = |crc: u32, nibble: u32| {
            let place = usize::try_from((crc ^ nibble) & 15).unwrap_or(0);
            (crc >> 4) ^ TABLE.get(place).copied().unwrap_or(0)
        };
        bytes.iter().fold(crc, |crc, byte| {
            let crc = step(crc, u32::from(*byte));
            step(crc, u32::from(*byte) >> 4)
        })
    }
}

/// The remainder after so many further bits.
const fn shifted(mut value: u32, bits: u32) -> u32 {
    let mut bit = 0;
    while bit < bits {
        value = (value >> 1) ^ (POLYNOMIAL * (value & 1));
        bit += 1;
    }
    value
}

#[cfg(not(feature = "host"))]
use nibbles as form;

#[cfg(feature = "host")]
mod form {
    /// What a byte becomes that so many bytes follow, 0 to 7.
    const TABLES: [[u32; 256]; 8] = {
        let mut tables = [[0; 256]; 8];
        let mut byte = 0u32;
        while byte < 256 {
            let mut value = byte;
            let mut behind = 0;
            while behind < 8 {
                value = super::shifted(value, 8);
                #[expect(
                    clippy::as_conversions,
                    clippy::indexing_slicing,
                    reason = "evaluated at compile time, behind is below 8 and byte below 256"
                )]
                {
                    tables[behind][byte as usize] = value;
                }
                behind += 1;
            }
            byte += 1;
        }
        tables
    };

    pub(super) fn update(crc: u32, bytes: &[u8]) -> u32 {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
        // No index here can be beyond a table: a byte has 256 values.
        let at = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
        let (eights, rest) = bytes.as_chunks::<8>();
        let crc = eights.iter().fold(crc, |crc, [a, b, c, d, e, f, g, h]| {
            let [p, q, r, s] = crc.to_le_bytes();
            at(t7, a ^ p)
                ^ at(t6, b ^ q)
                ^ at(t5, c ^ r)
                ^ at(t4, d ^ s)
                ^ at(t3, *e)
                ^ at(t2, *f)
                ^ at(t1, *g)
                ^ at(t0, *h)
        });
        rest.iter().fold(crc, |crc, byte| {
            let [low, ..] = crc.to_le_bytes();
            (crc >> 8) ^ at(t0, low ^ byte)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c_by_its_published_check_value() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn the_pumps_form_and_the_hosts_are_the_published_one_at_every_length_and_cut() {
        let bytes: Vec<u8> = (0..100u32).map(|n| (n * 89 + 7).to_le_bytes()[0]).collect();
        let published = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
        for end in 0..=bytes.len() {
            let wanted = published.checksum(&bytes[..end]);
            assert_eq!(!nibbles::update(!0, &bytes[..end]), wanted, "{end} bytes");
            for cut in 0..=end {
                let (first, second) = bytes[..end].split_at(cut);
                let both = crc32c(crc32c(0, first), second);
                assert_eq!(both, wanted, "{end} bytes, cut at {cut}");
            }
        }
    }
}
