//! A simulated pump at work in a thread, and one that speaks another protocol.

use anyhow::{Context, anyhow};
use device_sim::line::Pty;
use device_sim::run::{Manners, Progress, Remote, run};
use device_sim::scenario::Scenario;
use device_sim::setup::Setup;
use device_sim::story::{self, Place};
use protocol::frame::encode_from_pump;
use protocol::hex::Hex;
use protocol::message::{FromPump, Hello, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// At work until stopped.
pub(super) struct Pump {
    pub(super) remote: Remote,
    setup: Setup,
    link: PathBuf,
    speed: u32,
    thread: Option<JoinHandle<Result<Progress, String>>>,
}

impl Pump {
    /// A pump that lives the story, with its memory in a file of the folder.
    pub(super) fn start(
        story: &Scenario,
        place: Place,
        speed: u32,
        folder: &Path,
        link: &Path,
    ) -> anyhow::Result<Self> {
        let mut setup = story::setup(story, place, speed)?;
        setup.memory = Some(folder.join(format!("{}-{}.flash", place.pump, place.trial)));
        let mut pump = Self {
            remote: Remote::new(),
            setup,
            link: link.into(),
            speed,
            thread: None,
        };
        pump.go_on()?;
        Ok(pump)
    }

    /// Takes up its line and its memory, again.
    pub(super) fn go_on(&mut self) -> anyhow::Result<()> {
        self.remote = Remote::new();
        let (setup, link, remote) = (self.setup.clone(), self.link.clone(), self.remote.clone());
        let manners = Manners {
            speed: self.speed,
            patience_ms: None,
        };
        let work = move || run(setup, &link, manners, &remote, |_| {}).map_err(|e| e.to_string());
        self.thread = Some(std::thread::Builder::new().spawn(work)?);
        Ok(())
    }

    /// Off the line.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.remote.stop();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let ended = thread.join().map_err(|_| anyhow!("the pump panicked"))?;
        ended.map(|_| ()).map_err(|e| anyhow!(e))
    }

    /// Everything in its memory, once it is stopped and its trial closed: raw bytes and tags.
    pub(super) fn journal(&self) -> anyhow::Result<Vec<device_sim::sim::Journaled>> {
        let sim = device_sim::sim::Simulation::new(self.setup.clone())
            .context("the pump's memory after its trial")?;
        Ok(sim.journal())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.remote.stop();
    }
}

/// Says hello in another version of the protocol, for as long as it lives.
pub(super) struct Foreigner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Foreigner {
    pub(super) fn start(link: &Path, version: u8) -> anyhow::Result<Self> {
        let pty = Pty::open(link)?;
        let hello = Hello {
            protocol_min: version,
            protocol_max: version,
            source: Source::new("EP-0099").context("a name")?,
            boot: 1,
            manifest: Hex([7; 32]),
            manifest_len: 100,
            key: story::keys().public(),
            simulated: true,
        };
        let frame = encode_from_pump(&FromPump::Hello(hello))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                pty.write(frame.as_bytes());
                pty.wait(100);
                pty.read(&mut [0; 1_024]);
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Foreigner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
