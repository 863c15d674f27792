//! Runs the pump's image in QEMU: one process, its two serial ports as sockets, its non-volatile
//! memory as a file.
//!
//! However this process ends, QEMU ends with it: a shell waits on a pipe that only we hold and kills
//! QEMU when the pipe closes, which the kernel sees to even where we are killed. [`Qemu::kill`] is a
//! power cut: what was stored is in the file, and the next [`Qemu::start`] on it goes on from there.

use crate::board::FLASH_SIZE;
use core::sync::atomic::{AtomicU32, Ordering};
use firmware::board::SECTOR;
use firmware::provision::Provision;
use firmware::provisioning::{FormatOrder, Given, Pace, given_to_sector, order_to_sector};
use protocol::keys::KeyPair;
use protocol::time::Uptime;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-arm";
/// Where the build puts the image, seen from the root of a clone.
pub const IMAGE: &str = "target/pump/mps2.elf";
/// Bytes of the board's non-volatile memory, as QEMU wants it.
pub const MEMORY_LEN: u64 = 16 * 1024 * 1024;
/// An emulator that has not opened its ports by then never will.
const START_MS: u64 = 60_000;

/// Starts its arguments, says their process number, kills them when its own input closes.
const KEEPER: &str = r#"exec 3<&0
"$@" </dev/null 3<&- 4>&- & pump=$!
echo "$pump"
exec >/dev/null
{ read -r _ <&3; kill -9 "$pump" 2>/dev/null; } & guard=$!
wait "$pump"
kill "$guard" 2>/dev/null"#;

/// Why there is no emulated pump.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No emulator.
    #[error(
        "{PROGRAM} is not installed; on Debian run as root: apt-get install -y --no-install-recommends {PROGRAM}"
    )]
    NoQemu,
    /// No image.
    #[error("there is no pump image at {}; run: firmware/scripts/build.sh mps2", .0.display())]
    NoImage(PathBuf),
    /// The emulator does not start.
    #[error("{PROGRAM} does not start: {0}")]
    Start(String),
    /// A file or socket of it.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A running emulator. Dropped, it is killed.
#[derive(Debug)]
pub struct Qemu {
    keeper: Child,
    /// Open as long as the emulator is to live.
    alive: Option<ChildStdin>,
    pid: Option<Pid>,
}

/// The emulator and both ends of its serial ports.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub qemu: Qemu,
    /// The line to the gateway.
    pub line: UnixStream,
    /// The rig.
    pub rig: UnixStream,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

/// Whether an emulator and this image are there.
///
/// # Errors
/// What is missing, with the command that mends it.
pub fn check(image: &Path) -> Result<(), Error> {
    found(image).map(|_| ())
}

fn found(image: &Path) -> Result<PathBuf, Error> {
    if !image.is_file() {
        return Err(Error::NoImage(image.to_path_buf()));
    }
    find(PROGRAM).ok_or(Error::NoQemu)
}

/// Writes who the pump is, and the order to format its memory, into a memory's file that is new or
/// empty; the pump takes its time from its rig. False where somebody did before, then nothing is
/// changed.
///
/// # Errors
/// Where the file cannot be used.
pub fn provision(path: &Path, keys: &KeyPair, provision: &Provision) -> Result<bool, Error> {
    let wrong = |source| Error::File {
        path: path.to_path_buf(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path).map_err(wrong)?;
    if file.metadata().map_err(wrong)?.len() > 0 {
        return Ok(false);
    }
    let given = Given {
        secret: keys.seed(),
        pace: Pace::Rig,
        provision: provision.clone(),
    };
    let order = FormatOrder {
        tag_secret: keys.tag_secret(),
    };
    let sectors = given_to_sector(&given).zip(order_to_sector(&order));
    let written = || {
        let (given, order) = sectors.ok_or(ErrorKind::FileTooLarge)?;
        let behind = u64::from(FLASH_SIZE);
        file.set_len(MEMORY_LEN)?;
        file.write_all_at(&order, behind + u64::from(SECTOR))?;
        // Last, so that a file whose writing was cut is refused and not started on.
        file.write_all_at(&given, behind)
    };
    written().map_err(wrong)?;
    Ok(true)
}

impl Qemu {
    /// Starts `image` on the memory in the file `memory`, and waits for its ports.
    ///
    /// # Errors
    /// Where something is missing; the text names the command that mends it.
    pub fn start(image: &Path, memory: &Path) -> Result<Started, Error> {
        let program = found(image)?;
        let folder = Folder::make()?;
        let (line_path, line) = folder.listen("line")?;
        let (rig_path, rig) = folder.listen("rig")?;
        let output = folder.0.join("output");
        let wrong = |source| Error::File {
            path: output.clone(),
            source,
        };
        let to_output = std::fs::File::create(&output).map_err(wrong)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "sh"]).arg(program);
        command.args(["-M", "mps2-an386,memory-backend=nv"]);
        command.args(["-display", "none", "-monitor", "none", "-nodefaults"]);
        command.arg("-object").arg(format!(
            "memory-backend-file,id=nv,share=on,size={MEMORY_LEN},mem-path={}",
            escaped(memory)
        ));
        for (name, path) in [("line", &line_path), ("rig", &rig_path)] {
            let chardev = format!("socket,id={name},path={}", escaped(path));
            command.arg("-chardev").arg(chardev);
            command.args(["-serial", &format!("chardev:{name}")]);
        }
        command.arg("-kernel").arg(image);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(to_output).process_group(0);
        let mut keeper = command.spawn().map_err(|e| Error::Start(e.to_string()))?;
        let alive = keeper.stdin.take();
        let mut number = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            // Where it says nothing, it has no number, and the wait below ends.
            let _ = BufReader::new(stdout).read_line(&mut number);
        }
        let pid = number.trim().parse().ok().and_then(Pid::from_raw);
        let mut qemu = Self { keeper, alive, pid };
        let line = qemu.accept(&line, &output)?;
        let rig = qemu.accept(&rig, &output)?;
        Ok(Started { qemu, line, rig })
    }

    /// The emulator's process number.
    pub fn pid(&self) -> Option<u32> {
        let raw = self.pid?.as_raw_nonzero().get();
        u32::try_from(raw).ok()
    }

    /// Cuts the power: no instruction of the pump is carried out any more when this returns.
    pub fn kill(&mut self) {
        if let Some(pid) = self.pid.take() {
            // Where it is gone already, it is as it should be.
            let _ = kill_process(pid, Signal::KILL);
        }
        self.alive = None;
        let _ = self.keeper.wait();
    }

    fn accept(&mut self, listener: &UnixListener, output: &Path) -> Result<UnixStream, Error> {
        let wall = crate::clock::Wall::start();
        let failed = |why: &str| {
            let said = std::fs::read_to_string(output).unwrap_or_default();
            let said = said.trim();
            Error::Start(if said.is_empty() { why } else { said }.to_owned())
        };
        while wall.uptime() < Uptime::from_millis(START_MS) {
            match listener.accept() {
                Ok((stream, _)) => return Ok(stream),
                Err(e) if e.kind() == ErrorKind::WouldBlock => crate::clock::rest(2),
                Err(e) => return Err(Error::Start(e.to_string())),
            }
            if matches!(self.keeper.try_wait(), Ok(Some(_)) | Err(_)) {
                return Err(failed("it ended at once"));
            }
        }
        Err(failed("its ports stay closed"))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder for sockets that nobody else may enter; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Error> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("thecal-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }

    fn listen(&self, name: &str) -> Result<(PathBuf, UnixListener), Error> {
        let path = self.0.join(name);
        let wrong = |source| Error::File {
            path: path.clone(),
            source,
        };
        let listener = UnixListener::bind(&path).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
        Ok((path, listener))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Open sockets live on without their names.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// In the search path of this process.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// As a value in QEMU's options, where a comma is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
