//! What a pharmacy or a bench writes into a pump before a trial: two records behind the journal.
//!
//! The first holds who the pump is: its secret key, its manifest, its limits. The second is an order
//! to format the memory for the trial, with the secret that tags begin from; the pump carries it out
//! once and erases it. There is no default of anything: without the first record no pump starts,
//! without the second none is formatted.
//!
//! A record is its magic, its fields in the order of this file, little-endian, and a CRC-32C. Read
//! field by field, so that nobody holds it twice.

use crate::board::{NvError, SECTOR};
use crate::memory::crc32c;
use crate::program::{DayPart, PARTS_MAX, Program};
use crate::provision::{Calibration, Limits, MANIFEST_MAX, Marks, PromptPlan, Provision};
use crate::texts::Language;
use heapless::Vec;
use protocol::hex::Hex;
use protocol::message::Source;
use protocol::units::{Concentration, FlowRate, Volume};

/// Sectors of the memory that are not the journal's: the last ones.
pub const SECTORS: u32 = 2;
/// Bytes of a sector.
pub const SECTOR_LEN: usize = 4_096;
const WHO: [u8; 8] = *b"thecalPV";
const ORDER: [u8; 8] = *b"thecalFM";
const SOURCE_MAX: usize = 32;

const _: () = assert!(SECTOR == 4_096, "a record is a sector");
const _: () = assert!(
    MANIFEST_MAX + 512 < SECTOR_LEN,
    "the longest manifest fits in a sector with everything else"
);

/// Reads bytes of a record, counted from its start.
pub type Read<'a> = &'a dyn Fn(u32, &mut [u8]) -> Result<(), NvError>;

/// Where ticks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The board's own counter: a pump at a bed.
    Counter,
    /// The rig grants them ([`crate::rig`]): a pump on a bench.
    Rig,
}

/// Who a pump is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Of its Ed25519 key pair.
    pub secret: [u8; 32],
    /// Where ticks come from.
    pub pace: Pace,
    /// Everything else.
    pub provision: Provision,
}

/// An order to format the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatOrder {
    /// The secret that the trial's first tag key is derived from.
    pub tag_secret: [u8; 32],
}

/// The sector of who a pump is; none where it does not fit.
pub fn given_to_sector(given: &Given) -> Option<[u8; SECTOR_LEN]> {
    let Given {
        secret,
        pace,
        provision,
    } = given;
    // Taken apart, so that a new field is a build error until it has a place here.
    let Provision {
        source,
        key,
        simulated,
        manifest,
        limits,
        program,
        concentration,
        reservoir,
        offset_min,
        bolus_rate,
        prime_rate,
        calibration,
        prompts,
        marks,
        language,
    } = provision;
    let mut to = Writer::begin(WHO);
    to.put(secret);
    to.put(&[u8::from(*pace == Pace::Rig)]);
    let name = source.as_bytes();
    to.put(&[u8::try_from(name.len()).ok()?]);
    to.put(name);
    to.put(&key.0);
    to.put(&[u8::from(*simulated)]);
    to.put(&u16::try_from(manifest.len()).ok()?.to_le_bytes());
    to.put(manifest);
    to.volume(limits.bolus);
    to.put(&limits.lockout_ms.to_le_bytes());
    to.volume(limits.max_1h);
    to.volume(limits.max_4h);
    to.volume(limits.max_24h);
    to.put(&[u8::try_from(program.parts().len()).ok()?]);
    for part in program.parts() {
        to.put(&part.from_min.to_le_bytes());
        to.rate(part.rate);
    }
    to.put(&concentration.as_micrograms_per_milliliter().to_le_bytes());
    to.volume(*reservoir);
    to.put(&offset_min.to_le_bytes());
    to.rate(*bolus_rate);
    to.rate(*prime_rate);
    to.volume(calibration.stroke);
    to.put(&calibration.microsteps_per_stroke.to_le_bytes());
    to.put(&calibration.counts_per_stroke.to_le_bytes());
    for minutes in [
        prompts.rest_every_min,
        prompts.movement_every_min,
        prompts.quiet_from_min,
        prompts.quiet_to_min,
    ] {
        to.put(&minutes.to_le_bytes());
    }
    to.put(&prompts.open_ms.to_le_bytes());
    to.put(&marks.occlusion_mbar.to_le_bytes());
    to.volume(marks.reservoir_low);
    to.put(&marks.reservoir_low_ms.to_le_bytes());
    to.volume(marks.reservoir_empty);
    to.put(&[marks.battery_low_percent]);
    to.put(&marks.battery_low_min.to_le_bytes());
    to.put(&marks.battery_flat_min.to_le_bytes());
    to.put(&[u8::from(*language == Language::German)]);
    to.end()
}

/// Reads who this pump is, by `read(at, into)` with `at` counted from the start of the sector.
/// None where nobody wrote it, or not all of it.
///
/// # Errors
/// Where the memory fails.
#[inline(never)]
pub fn read_given(read: Read<'_>) -> Result<Option<Given>, NvError> {
    let mut from = Reader::new(read);
    if from.bytes() != WHO {
        return from.nobody();
    }
    let secret = from.bytes();
    let pace = if from.flag() {
        Pace::Rig
    } else {
        Pace::Counter
    };
    let mut name = [0; SOURCE_MAX];
    let name_len = usize::from(from.u8());
    let Some(name) = name.get_mut(..name_len) else {
        return from.nobody();
    };
    from.fill(name);
    let Some(source) = Source::from_bytes(name) else {
        return from.nobody();
    };
    let key = Hex(from.bytes());
    let simulated = from.flag();
    let mut manifest = Vec::new();
    if manifest.resize(usize::from(from.u16()), 0).is_err() {
        return from.nobody();
    }
    from.fill(&mut manifest);
    let limits = Limits {
        bolus: from.volume(),
        lockout_ms: from.u32(),
        max_1h: from.volume(),
        max_4h: from.volume(),
        max_24h: from.volume(),
    };
    let mut parts = Vec::<DayPart, PARTS_MAX>::new();
    for _ in 0..from.u8() {
        let from_min = from.u16();
        let rate = from.rate();
        if parts.push(DayPart { from_min, rate }).is_err() {
            return from.nobody();
        }
    }
    let Ok(program) = Program::new(&parts) else {
        return from.nobody();
    };
    let provision = Provision {
        source,
        key,
        simulated,
        manifest,
        limits,
        program,
        concentration: Concentration::from_micrograms_per_milliliter(from.u32()),
        reservoir: from.volume(),
        offset_min: i16::from_le_bytes(from.bytes()),
        bolus_rate: from.rate(),
        prime_rate: from.rate(),
        calibration: Calibration {
            stroke: from.volume(),
            microsteps_per_stroke: from.u32(),
            counts_per_stroke: from.u32(),
        },
        prompts: PromptPlan {
            rest_every_min: from.u16(),
            movement_every_min: from.u16(),
            quiet_from_min: from.u16(),
            quiet_to_min: from.u16(),
            open_ms: from.u32(),
        },
        marks: Marks {
            occlusion_mbar: from.u32(),
            reservoir_low: from.volume(),
            reservoir_low_ms: from.u64(),
            reservoir_empty: from.volume(),
            battery_low_percent: from.u8(),
            battery_low_min: from.u32(),
            battery_flat_min: from.u32(),
        },
        language: if from.flag() {
            Language::German
        } else {
            Language::English
        },
    };
    Ok(from.whole()?.then_some(Given {
        secret,
        pace,
        provision,
    }))
}

/// The sector of an order to format.
pub fn order_to_sector(order: &FormatOrder) -> Option<[u8; SECTOR_LEN]> {
    let mut to = Writer::begin(ORDER);
    to.put(&order.tag_secret);
    to.end()
}

/// Reads the order to format, where there is one.
///
/// # Errors
/// Where the memory fails.
pub fn read_order(read: Read<'_>) -> Result<Option<FormatOrder>, NvError> {
    let mut from = Reader::new(read);
    if from.bytes() != ORDER {
        return from.nobody();
    }
    let tag_secret = from.bytes();
    Ok(from.whole()?.then_some(FormatOrder { tag_secret }))
}

/// Writes a record from its start.
struct Writer {
    sector: [u8; SECTOR_LEN],
    len: usize,
    full: bool,
}

impl Writer {
    fn begin(magic: [u8; 8]) -> Self {
        let mut writer = Self {
            sector: [0xFF; SECTOR_LEN],
            len: 0,
            full: false,
        };
        writer.put(&magic);
        writer
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.sector.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.full = true,
        }
    }

    fn volume(&mut self, volume: Volume) {
        self.put(&volume.as_nanoliters().to_le_bytes());
    }

    fn rate(&mut self, rate: FlowRate) {
        self.put(&rate.as_nanoliters_per_hour().to_le_bytes());
    }

    fn end(mut self) -> Option<[u8; SECTOR_LEN]> {
        let sum = crc32c(0, self.sector.get(..self.len)?);
        self.put(&sum.to_le_bytes());
        (!self.full).then_some(self.sector)
    }
}

/// Reads a record from its start. A failure is remembered and told at the end; what is read after
/// it is zeros.
struct Reader<'a> {
    read: Read<'a>,
    at: u32,
    sum: u32,
    failed: Option<NvError>,
}

impl<'a> Reader<'a> {
    fn new(read: Read<'a>) -> Self {
        Self {
            read,
            at: 0,
            sum: 0,
            failed: None,
        }
    }

    #[inline(never)]
    fn fill(&mut self, into: &mut [u8]) {
        if self.failed.is_none() {
            self.failed = (self.read)(self.at, into).err();
        }
        if self.failed.is_some() {
            into.fill(0);
        }
        self.at = self
            .at
            .saturating_add(u32::try_from(into.len()).unwrap_or(SECTOR));
        self.sum = crc32c(self.sum, into);
    }

    #[inline(never)]
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    #[inline(never)]
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    #[inline(never)]
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    #[inline(never)]
    fn u8(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    fn flag(&mut self) -> bool {
        self.u8() == 1
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    fn volume(&mut self) -> Volume {
        Volume::from_nanoliters(self.u64())
    }

    fn rate(&mut self) -> FlowRate {
        FlowRate::from_nanoliters_per_hour(self.u32())
    }

    /// Whether the checksum holds for all that was read.
    fn whole(&mut self) -> Result<bool, NvError> {
        let sum = self.sum;
        let holds = self.u32() == sum;
        self.failed.map_or(Ok(holds), Err)
    }

    /// What was read is no record, or the memory failed.
    fn nobody<T>(&self) -> Result<Option<T>, NvError> {
        self.failed.map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        let nl = Volume::from_nanoliters;
        let limits = Limits {
            bolus: nl(1),
            lockout_ms: 2,
            max_1h: nl(3),
            max_4h: nl(4),
            max_24h: nl(5),
        };
        let part = |from_min, rate| DayPart {
            from_min,
            rate: FlowRate::from_nanoliters_per_hour(rate),
        };
        let mut provision = Provision::new(
            Source::new("EP-0193").unwrap(),
            Hex([6; 32]),
            &[b'm'; MANIFEST_MAX],
            limits,
            Program::new(&[part(0, 7), part(480, 8)]).unwrap(),
            Concentration::from_micrograms_per_milliliter(9),
        )
        .unwrap();
        provision.simulated = true;
        provision.offset_min = -210;
        provision.language = Language::German;
        Given {
            secret: [10; 32],
            pace: Pace::Rig,
            provision,
        }
    }

    fn reader(sector: &[u8]) -> impl Fn(u32, &mut [u8]) -> Result<(), NvError> + '_ {
        |at, into| {
            let at = usize::try_from(at).unwrap();
            let bytes = sector.get(at..at + into.len()).ok_or(NvError::Range)?;
            into.copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn what_was_given_is_read_back_and_a_bit_that_turned_is_nobody() {
        let sector = given_to_sector(&given()).unwrap();
        assert_eq!(read_given(&reader(&sector)), Ok(Some(given())));
        let end = sector.iter().rposition(|b| *b != 0xFF).unwrap();
        for bit in (0..8 * end).step_by(7) {
            let mut bent = sector;
            bent[bit / 8] ^= 1 << (bit % 8);
            // A length that turned may lead beyond the sector.
            let seen = read_given(&reader(&bent));
            assert!(matches!(seen, Ok(None) | Err(NvError::Range)), "bit {bit}");
        }
        assert_eq!(read_given(&reader(&[0xFF; SECTOR_LEN])), Ok(None));
    }

    #[test]
    fn an_order_is_no_provisioning_and_the_other_way_round() {
        let order = FormatOrder {
            tag_secret: [3; 32],
        };
        let (who, order_sector) = (
            given_to_sector(&given()).unwrap(),
            order_to_sector(&order).unwrap(),
        );
        assert_eq!(read_order(&reader(&order_sector)), Ok(Some(order)));
        assert_eq!(read_order(&reader(&who)), Ok(None));
        assert_eq!(read_given(&reader(&order_sector)), Ok(None));
    }
}
