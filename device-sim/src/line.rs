//! The serial line as the gateway sees it: a pseudo-terminal in raw mode, found under a path that
//! stays the same while the device behind it changes, as `/dev/serial/by-id` does.
//!
//! The link is put in place whole (made beside, then renamed) and removed when the line is
//! dropped. Bytes written while nobody has the other end open are gone, as on a real cable.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gives no pseudo-terminal.
    #[error("no pseudo-terminal to be had: {0}; is /dev/pts mounted?")]
    Pty(#[source] std::io::Error),
    /// Something else lies where the link is to be.
    #[error("{} is there already and is no link: choose another path", .0.display())]
    Occupied(PathBuf),
    /// The link cannot be made.
    #[error("cannot make the link {}: {source}", path.display())]
    Link {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The pump's end of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    master: OwnedFd,
    device: PathBuf,
    link: PathBuf,
}

impl Pty {
    /// Opens one and puts a link to it at `link`, in place of an older link there.
    ///
    /// # Errors
    /// Where the system gives none, or the link cannot be made.
    pub fn open(link: &Path) -> Result<Self, Error> {
        let (master, device) = open_raw().map_err(|e| Error::Pty(e.into()))?;
        place_link(link, &device)?;
        Ok(Self {
            master,
            device,
            link: link.to_path_buf(),
        })
    }

    /// The path that leads here.
    pub fn link(&self) -> &Path {
        &self.link
    }

    /// Somebody has the other end open.
    pub fn attached(&self) -> bool {
        !self.events(0).contains(PollFlags::HUP)
    }

    /// Waits for bytes, at most so long.
    pub fn wait(&self, ms: u64) {
        // Without a listener the terminal is always "ready" to say so; then only time may pass.
        if self.attached() {
            self.events(ms);
        } else {
            crate::clock::rest(ms);
        }
    }

    fn events(&self, ms: u64) -> PollFlags {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        let span = Timespec {
            tv_sec: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ms % 1_000 * 1_000_000).unwrap_or(0),
        };
        match poll(&mut fds, Some(&span)) {
            Ok(_) => fds[0].revents(),
            Err(_) => PollFlags::empty(),
        }
    }

    /// Takes what has come; 0 where there is nothing, or nobody.
    pub fn read(&self, into: &mut [u8]) -> usize {
        rustix::io::read(&self.master, into).unwrap_or(0)
    }

    /// Gives bytes; how many were taken. Where nobody listens all are taken, and gone.
    pub fn write(&self, bytes: &[u8]) -> usize {
        if !self.attached() {
            return bytes.len();
        }
        match rustix::io::write(&self.master, bytes) {
            Ok(taken) => taken,
            Err(rustix::io::Errno::AGAIN) => 0,
            Err(_) => bytes.len(),
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if std::fs::read_link(&self.link).is_ok_and(|target| target == self.device) {
            // Where it cannot be removed, it leads to nothing, which a gateway reports.
            let _ = std::fs::remove_file(&self.link);
        }
    }
}

fn open_raw() -> rustix::io::Result<(OwnedFd, PathBuf)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let device = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
    rustix::io::ioctl_fionbio(&master, true)?;
    // Opened and closed once: from then on the system tells whether somebody has it open.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let other = rustix::fs::open(&device, flags, Mode::empty())?;
    let mut termios = tcgetattr(&other)?;
    termios.make_raw();
    tcsetattr(&other, OptionalActions::Now, &termios)?;
    Ok((master, device))
}

fn place_link(link: &Path, device: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(link) {
        Ok(found) if !found.file_type().is_symlink() => {
            return Err(Error::Occupied(link.to_path_buf()));
        }
        Ok(_) | Err(_) => {}
    }
    let wrong = |source| Error::Link {
        path: link.to_path_buf(),
        source,
    };
    let mut beside = link.as_os_str().to_os_string();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = std::fs::remove_file(&beside);
    std::os::unix::fs::symlink(device, &beside).map_err(wrong)?;
    std::fs::rename(&beside, link).map_err(|source| {
        let _ = std::fs::remove_file(&beside);
        wrong(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn opened(path: &Path) -> Box<dyn serialport::SerialPort> {
        serialport::new(path.to_string_lossy(), 115_200)
            .timeout(core::time::Duration::from_secs(5))
            .open()
            .unwrap()
    }

    fn all(pty: &Pty, wanted: usize) -> Vec<u8> {
        let (mut seen, mut buffer) = (Vec::new(), [0; 256]);
        for _ in 0..100 {
            pty.wait(50);
            let n = pty.read(&mut buffer);
            seen.extend_from_slice(&buffer[..n]);
            if seen.len() >= wanted {
                break;
            }
        }
        seen
    }

    #[test]
    fn every_byte_passes_unchanged_in_both_directions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pump");
        let pty = Pty::open(&path).unwrap();
        assert!(!pty.attached());
        let mut port = opened(&path);
        assert!(pty.attached());
        let bytes: Vec<u8> = (0..=255).collect();
        port.write_all(&bytes).unwrap();
        assert_eq!(all(&pty, 256), bytes);
        assert_eq!(pty.write(&bytes), 256);
        let mut back = vec![0; 256];
        port.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }

    #[test]
    fn a_closed_port_is_seen_and_may_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pump");
        let pty = Pty::open(&path).unwrap();
        drop(opened(&path));
        assert!(!pty.attached());
        assert_eq!(pty.write(b"to nobody"), 9);
        let mut port = opened(&path);
        assert_eq!(pty.write(b"x"), 1);
        let mut back = [0];
        port.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"x");
    }

    #[test]
    fn the_link_is_replaced_by_the_next_line_removed_by_its_own_and_a_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pump");
        let first = Pty::open(&path).unwrap();
        let second = Pty::open(&path).unwrap();
        drop(first);
        assert!(path.exists(), "the link belongs to the second line now");
        drop(second);
        assert!(std::fs::symlink_metadata(&path).is_err());
        std::fs::write(&path, b"mine").unwrap();
        assert!(matches!(Pty::open(&path), Err(Error::Occupied(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
