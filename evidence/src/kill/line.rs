//! The serial cable between pump and gateway, with hands on it: it can be cut, noisy, slow, pulled
//! out and plugged in again under another number, or hung up.

use crate::kill::person::open_terminal;
use anyhow::Context;
use device_sim::clock::{Wall, rest};
use device_sim::line::Pty;
use device_sim::wire::{Damage, Wire};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Bytes moved at once.
const CHUNK: usize = 1_024;

/// What hands do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Harm {
    /// Sound again, and plugged in.
    Mend,
    /// Nothing passes, in one direction or both.
    Cut { from_pump: bool, to_pump: bool },
    /// Both directions are noisy.
    Noise(Damage),
    /// Pulled out at the gateway: its port is gone.
    Unplug,
    /// The port stays, and every read of it ends at once: what `vhangup` does to a terminal.
    HangUp,
}

impl Harm {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mend => "mended",
            Self::Cut { .. } => "cuts",
            Self::Noise(_) => "noises",
            Self::Unplug => "unplugs",
            Self::HangUp => "hang_ups",
        }
    }
}

/// The cable.
#[derive(Debug)]
pub(crate) struct Cable {
    harm: Option<Sender<Harm>>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// From the pump's link to a port for the gateway; at most so many bytes a second each way, or
    /// as many as come.
    pub(crate) fn lay(
        pump: &Path,
        port: &Path,
        seed: u64,
        bytes_per_s: Option<u64>,
    ) -> anyhow::Result<Self> {
        let near = Pty::open(port)?;
        let (harm, orders) = channel();
        let mut ends = Ends {
            pump: pump.into(),
            port: port.into(),
            far: None,
            number: number(port)?,
            near: Some(near),
            hung: None,
            to_pump: Wire::new(seed, 1),
            from_pump: Wire::new(seed, 2),
            pace: [Pace::new(bytes_per_s), Pace::new(bytes_per_s)],
        };
        let thread = std::thread::spawn(move || {
            if let Err(e) = ends.run(&orders) {
                eprintln!("cable: {e:#}");
            }
        });
        Ok(Self {
            harm: Some(harm),
            thread: Some(thread),
        })
    }

    /// Does something to it.
    pub(crate) fn harm(&self, harm: Harm) {
        if let Some(orders) = &self.harm {
            let _ = orders.send(harm);
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.harm = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Ends {
    pump: PathBuf,
    port: PathBuf,
    far: Option<OwnedFd>,
    near: Option<Pty>,
    /// The terminal that the port leads to, or led to last.
    number: PathBuf,
    hung: Option<Pty>,
    to_pump: Wire,
    from_pump: Wire,
    /// Toward the pump, and from it.
    pace: [Pace; 2],
}

/// How much may pass. What was not used within a tenth of a second is gone.
#[derive(Debug)]
struct Pace {
    bytes_per_s: Option<u64>,
    at_ms: u64,
    thousandths: u64,
}

impl Pace {
    fn new(bytes_per_s: Option<u64>) -> Self {
        Self {
            bytes_per_s,
            at_ms: 0,
            thousandths: 0,
        }
    }

    /// So many bytes may pass now.
    fn room(&mut self, now_ms: u64) -> usize {
        let Some(pace) = self.bytes_per_s else {
            return CHUNK;
        };
        let since = now_ms.saturating_sub(self.at_ms).min(100);
        self.at_ms = now_ms;
        self.thousandths = (self.thousandths + since * pace).min(100 * pace);
        usize::try_from(self.thousandths / 1_000)
            .unwrap_or(0)
            .min(CHUNK)
    }

    fn note(&mut self, passed: usize) {
        let passed = u64::try_from(passed).unwrap_or(0);
        self.thousandths = self.thousandths.saturating_sub(passed * 1_000);
    }
}

impl Ends {
    fn run(&mut self, orders: &Receiver<Harm>) -> anyhow::Result<()> {
        let wall = Wall::start();
        loop {
            loop {
                match orders.try_recv() {
                    Ok(harm) => self.handle(harm)?,
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            if self.far.is_none() {
                let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                self.far = rustix::fs::open(&self.pump, flags, Mode::empty()).ok();
            }
            if !self.pass(wall.uptime().as_millis()) {
                rest(1);
            }
        }
    }

    fn handle(&mut self, harm: Harm) -> anyhow::Result<()> {
        match harm {
            Harm::Mend => {
                for wire in [&mut self.to_pump, &mut self.from_pump] {
                    wire.set_cut(false);
                    wire.set_damage(Damage::default());
                }
                if self.near.is_none() {
                    let mut fresh = Pty::open(&self.port)?;
                    // A number that became free is given again; who waits with it gets another.
                    let mut same = Vec::new();
                    while number(&self.port)? == self.number {
                        same.push(std::mem::replace(&mut fresh, Pty::open(&self.port)?));
                    }
                    self.number = number(&self.port)?;
                    self.near = Some(fresh);
                    self.hung = None;
                }
            }
            Harm::Cut { from_pump, to_pump } => {
                self.from_pump.set_cut(from_pump);
                self.to_pump.set_cut(to_pump);
            }
            Harm::Noise(damage) => {
                self.from_pump.set_damage(damage);
                self.to_pump.set_damage(damage);
            }
            Harm::Unplug => self.near = None,
            Harm::HangUp => match hang_up(&self.port) {
                Ok(()) => self.hung = self.near.take(),
                Err(e) => {
                    eprintln!("cable: cannot hang up, pulled out instead: {e:#}");
                    self.near = None;
                }
            },
        }
        Ok(())
    }

    /// Moves what is there; true where something moved.
    fn pass(&mut self, now_ms: u64) -> bool {
        let mut moved = false;
        let mut buffer = [0; CHUNK];
        let [to_pump, from_pump] = &mut self.pace;
        if let Some(near) = &self.near {
            let room = buffer.get_mut(..to_pump.room(now_ms));
            let n = near.read(room.unwrap_or(&mut []));
            to_pump.note(n);
            self.to_pump.send(now_ms, buffer.get(..n).unwrap_or(&[]));
            moved |= n > 0;
        }
        let room = from_pump.room(now_ms);
        if let Some(far) = self.far.as_ref().filter(|_| room > 0) {
            match rustix::io::read(far, buffer.get_mut(..room).unwrap_or(&mut [])) {
                Ok(n) if n > 0 => {
                    from_pump.note(n);
                    self.from_pump.send(now_ms, buffer.get(..n).unwrap_or(&[]));
                    moved = true;
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                // The pump's process is gone, and its end with it.
                Ok(_) | Err(_) => self.far = None,
            }
        }
        let to_pump = self.to_pump.receive(now_ms);
        let from_pump = self.from_pump.receive(now_ms);
        if let Some(far) = self.far.as_ref().filter(|_| !to_pump.is_empty()) {
            // What a full line does not take is lost, as on a wire.
            let _ = rustix::io::write(far, &to_pump);
        }
        if let Some(near) = self.near.as_ref().filter(|_| !from_pump.is_empty()) {
            let _ = near.write(&from_pump);
        }
        moved
    }
}

fn number(port: &Path) -> anyhow::Result<PathBuf> {
    std::fs::read_link(port).with_context(|| port.display().to_string())
}

/// Makes a short-lived session leader take the port as its terminal: when it ends, the system hangs
/// the terminal up for everybody who has it open.
fn hang_up(port: &Path) -> anyhow::Result<()> {
    let terminal = open_terminal(port)?;
    let ended = Command::new("setsid")
        .args(["--ctty", "true"])
        .stdin(Stdio::from(terminal))
        .status()
        .context("setsid, of util-linux")?;
    anyhow::ensure!(ended.success(), "setsid --ctty failed");
    Ok(())
}
