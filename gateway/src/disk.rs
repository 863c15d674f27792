//! How much room the spool's file system has left. The rule is pure; [`look`] asks the system.

use std::path::Path;

/// Looked at so often, wall milliseconds.
pub const LOOK_EVERY_MS: u64 = 30_000;
/// Four fifths used is told, where what is left is not plenty all the same.
const USED_PERCENT: u64 = 80;
const PLENTY_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Room of a file system, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For this user.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl Room {
    /// Whether a person should make room.
    pub fn is_short(&self) -> bool {
        let used = self.total.saturating_sub(self.free);
        let much = u128::from(used) * 100 >= u128::from(self.total) * u128::from(USED_PERCENT);
        much && self.free < PLENTY_BYTES
    }

    /// Used, percent.
    pub fn used_percent(&self) -> u64 {
        let used = u128::from(self.total.saturating_sub(self.free));
        u64::try_from(used * 100 / u128::from(self.total.max(1))).unwrap_or(100)
    }
}

/// The room where `file` lies; `None` where the system does not say.
pub fn look(file: &Path) -> Option<Room> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
    let seen = rustix::fs::statvfs(folder.unwrap_or(Path::new("."))).ok()?;
    Some(Room {
        free: seen.f_bavail.saturating_mul(seen.f_frsize),
        total: seen.f_blocks.saturating_mul(seen.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_used_is_short_unless_plenty_is_left() {
        let mib = 1024 * 1024;
        let of = |free, total| Room { free, total }.is_short();
        assert!(!of(21 * mib, 100 * mib));
        assert!(of(20 * mib, 100 * mib));
        assert!(of(0, 100 * mib));
        assert!(!of(40_000 * mib, 250_000 * mib));
        assert!(of(2_000 * mib, 250_000 * mib));
        assert!(of(0, 0), "a file system that tells nothing has no room");
    }

    #[test]
    fn the_system_says_how_much_room_a_folder_has() {
        let folder = tempfile::tempdir().unwrap();
        let room = look(&folder.path().join("a.spool")).unwrap();
        assert!(room.total > 0 && room.free <= room.total);
        assert_eq!(look(Path::new("/no/such/folder/a.spool")), None);
    }
}
