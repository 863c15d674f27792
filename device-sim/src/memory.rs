//! The pump's memory: NOR flash that outlives the supply, in RAM for a trial in one process, or in
//! a file so that a process that was killed goes on where it was. A write may only clear bits; a
//! sector is erased at once. Power can fail at any byte of a write or an erase: what was done before
//! that byte stays, the rest does not happen.

use firmware::board::{NvError, SECTOR};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, read or written.
    #[error("pump memory {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is of another size: of another version, or no memory of ours.
    #[error("pump memory {} has {seen} bytes, wanted {wanted}: name another file", path.display())]
    Size {
        /// Which.
        path: PathBuf,
        /// Its bytes.
        seen: u64,
        /// Bytes of a memory.
        wanted: u64,
    },
}

/// Bytes that the board keeps for itself behind the flash, in a file: its clock, its reservoir.
pub const KEPT: usize = 256;
/// What an erased memory holds.
const ERASED: u8 = 0xff;

/// Flash.
#[derive(Debug)]
pub struct Memory {
    bytes: Vec<u8>,
    kept: [u8; KEPT],
    file: Option<File>,
    fuse: Option<u64>,
    dark: bool,
    failing: bool,
    fresh: bool,
    /// Bytes written since this was made.
    pub written: u64,
}

impl Memory {
    /// Erased, in RAM.
    pub fn in_ram(size: u32) -> Self {
        Self::of(vec![ERASED; to_usize(size)], [0; KEPT], None, true)
    }

    /// In a file, which is made where there is none.
    ///
    /// # Errors
    /// Where the file cannot be used, or is of another size.
    pub fn in_file(path: &Path, size: u32) -> Result<Self, Error> {
        let wrong = |source| Error::File {
            path: path.to_path_buf(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(wrong)?;
        let seen = file.metadata().map_err(wrong)?.len();
        let end = u64::from(size);
        let wanted = end + u64::try_from(KEPT).unwrap_or(0);
        let mut bytes = vec![ERASED; to_usize(size)];
        let mut kept = [0; KEPT];
        if seen == 0 {
            file.write_all_at(&bytes, 0).map_err(wrong)?;
            file.write_all_at(&kept, end).map_err(wrong)?;
        } else if seen == wanted {
            file.read_exact_at(&mut bytes, 0).map_err(wrong)?;
            file.read_exact_at(&mut kept, end).map_err(wrong)?;
        } else {
            return Err(Error::Size {
                path: path.to_path_buf(),
                seen,
                wanted,
            });
        }
        Ok(Self::of(bytes, kept, Some(file), seen == 0))
    }

    fn of(bytes: Vec<u8>, kept: [u8; KEPT], file: Option<File>, fresh: bool) -> Self {
        Self {
            bytes,
            kept,
            file,
            fuse: None,
            dark: false,
            failing: false,
            fresh,
            written: 0,
        }
    }

    /// Never written before this was made.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Lives in a file.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes of flash.
    pub fn size(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// The supply fails after so many more bytes.
    pub fn set_fuse(&mut self, bytes: u64) {
        self.fuse = Some(bytes);
        self.dark = bytes == 0;
    }

    /// The supply has failed inside a write.
    pub fn dark(&self) -> bool {
        self.dark
    }

    /// The supply is back.
    pub fn light(&mut self) {
        (self.fuse, self.dark) = (None, false);
    }

    /// From now on it refuses writes: worn out, or sound again.
    pub fn set_failing(&mut self, failing: bool) {
        self.failing = failing;
    }

    /// Age turns one bit over, in the middle of the first place that holds these bytes.
    pub fn rot(&mut self, of: &[u8]) {
        let place = self.bytes.windows(of.len().max(1)).position(|w| w == of);
        let Some(at) = place.map(|at| at + of.len() / 2) else {
            return;
        };
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte ^= 1;
            if let Some(file) = &self.file {
                // Where the file cannot be written, its memory has not aged.
                let _ = file.write_all_at(&[*byte], u64::try_from(at).unwrap_or(u64::MAX));
            }
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// Beyond the end, or in the dark.
    pub fn read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        let at = to_usize(at);
        let end = at.checked_add(into.len()).ok_or(NvError::Range)?;
        into.copy_from_slice(self.bytes.get(at..end).ok_or(NvError::Range)?);
        if self.dark {
            Err(NvError::Failed)
        } else {
            Ok(())
        }
    }

    /// Clears the bits that are 0 in `from`.
    ///
    /// # Errors
    /// Where it did not happen, or not all of it.
    pub fn write(&mut self, at: u32, from: &[u8]) -> Result<(), NvError> {
        self.change(at, from.len(), |i, old| {
            old & from.get(i).copied().unwrap_or(ERASED)
        })
    }

    /// Erases a sector.
    ///
    /// # Errors
    /// Where it did not happen, or not all of it.
    pub fn erase(&mut self, sector: u32) -> Result<(), NvError> {
        let at = sector.checked_mul(SECTOR).ok_or(NvError::Range)?;
        self.change(at, to_usize(SECTOR), |_, _| ERASED)
    }

    fn change(
        &mut self,
        at: u32,
        len: usize,
        new: impl Fn(usize, u8) -> u8,
    ) -> Result<(), NvError> {
        if self.dark || self.failing {
            return Err(NvError::Failed);
        }
        let start = to_usize(at);
        let end = start.checked_add(len).ok_or(NvError::Range)?;
        let whole = u64::try_from(len).map_err(|_| NvError::Range)?;
        let lit = self.fuse.map_or(whole, |left| left.min(whole));
        let part = self.bytes.get_mut(start..end).ok_or(NvError::Range)?;
        let part = part
            .get_mut(..usize::try_from(lit).unwrap_or(0))
            .ok_or(NvError::Range)?;
        for (i, byte) in part.iter_mut().enumerate() {
            *byte = new(i, *byte);
        }
        if let Some(file) = &self.file {
            file.write_all_at(part, u64::from(at))
                .map_err(|_| NvError::Failed)?;
        }
        self.written += lit;
        if let Some(left) = &mut self.fuse {
            *left -= lit;
            self.dark = lit < whole;
        }
        if self.dark {
            Err(NvError::Failed)
        } else {
            Ok(())
        }
    }

    /// What the board kept for itself.
    pub fn kept(&self) -> &[u8; KEPT] {
        &self.kept
    }

    /// Keeps something for the board. In RAM it lasts as long as this.
    pub fn keep(&mut self, kept: [u8; KEPT]) {
        self.kept = kept;
        if let Some(file) = &self.file {
            // Lost, the board's clock stands where it last stood, as with an old battery.
            let _ = file.write_all_at(&kept, u64::from(self.size()));
        }
    }
}

fn to_usize(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_what_was_written_and_nothing_after_until_there_is_light() {
        let mut memory = Memory::in_ram(SECTOR);
        memory.set_fuse(5);
        assert_eq!(memory.write(0, b"abc"), Ok(()));
        assert_eq!(memory.write(3, b"defg"), Err(NvError::Failed));
        assert!(memory.dark());
        assert_eq!(memory.write(8, b"x"), Err(NvError::Failed));
        memory.light();
        let mut seen = [0; 9];
        memory.read(0, &mut seen).unwrap();
        assert_eq!(&seen, b"abcde\xff\xff\xff\xff");
        assert_eq!(memory.write(SECTOR - 1, b"xy"), Err(NvError::Range));
    }

    #[test]
    fn a_write_clears_bits_and_only_an_erase_sets_them() {
        let mut memory = Memory::in_ram(2 * SECTOR);
        memory.write(SECTOR, &[0x0f]).unwrap();
        memory.write(SECTOR, &[0xf5]).unwrap();
        let mut seen = [0];
        memory.read(SECTOR, &mut seen).unwrap();
        assert_eq!(seen, [0x05]);
        memory.erase(1).unwrap();
        memory.read(SECTOR, &mut seen).unwrap();
        assert_eq!((seen, memory.erase(2)), ([0xff], Err(NvError::Range)));
    }

    #[test]
    fn a_file_keeps_its_bytes_and_another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        let mut memory = Memory::in_file(&path, SECTOR).unwrap();
        assert!(memory.is_fresh());
        memory.write(100, b"kept").unwrap();
        memory.keep([7; KEPT]);
        drop(memory);
        let mut seen = [0; 4];
        let again = Memory::in_file(&path, SECTOR).unwrap();
        again.read(100, &mut seen).unwrap();
        assert_eq!((&seen, again.kept()), (b"kept", &[7; KEPT]));
        assert!(!again.is_fresh());
        let refused = Memory::in_file(&path, 2 * SECTOR).unwrap_err().to_string();
        assert!(refused.contains("4352 bytes, wanted 8448"), "{refused}");
    }
}
