//! Programs that are started, killed and started again.

use anyhow::{Context, bail};
use device_sim::clock::rest;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program with its arguments, running or not. Ended when dropped.
#[derive(Debug)]
pub struct Part {
    /// What it is called in messages.
    pub name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Part {
    /// Not started yet. What it says goes to the end of `log`.
    pub fn new(name: &'static str, program: &Path, args: Vec<String>, log: &Path) -> Self {
        Self {
            name,
            program: program.into(),
            args,
            env: Vec::new(),
            log: log.into(),
            child: None,
        }
    }

    /// With another variable of the environment.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where it cannot be started, or its log cannot be opened.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let log = || open().with_context(|| self.log.display().to_string());
        let child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log()?)
            .stderr(log()?)
            .spawn()
            .with_context(|| format!("starting {}: {}", self.name, self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process, where it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for its end; SIGKILL where it takes longer than 20 s.
    pub fn end(&mut self) {
        self.signal(Signal::TERM);
        for _ in 0..2_000 {
            if self.has_ended() {
                self.child = None;
                return;
            }
            rest(10);
        }
        self.kill();
    }

    /// Sends a signal, where it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// It ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.kill();
    }
}

/// A port of this machine that was free a moment ago.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Waits until somebody listens at a port of this machine, at most a minute.
///
/// # Errors
/// Where nobody does.
pub fn wait_listening(port: u16) -> anyhow::Result<()> {
    for _ in 0..6_000 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        rest(10);
    }
    bail!("nobody listens at port {port}")
}

/// A configuration of mosquitto with what Debian's package sets, `persistence true` and nothing
/// else, at a port of this machine and with its files in a folder.
///
/// # Errors
/// Where it cannot be written.
pub fn mosquitto_as_debian_has_it(folder: &Path, port: u16) -> anyhow::Result<PathBuf> {
    let path = folder.join("mosquitto.conf");
    let text = format!(
        "persistence true\npersistence_location {}/\nlistener {port} 127.0.0.1\nallow_anonymous true\nuser root\n",
        folder.display()
    );
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Where mosquitto is; Debian keeps servers in `/usr/sbin`.
///
/// # Errors
/// Where it is not installed.
pub fn find_mosquitto() -> anyhow::Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    folders
        .find_map(|folder| {
            let program = Path::new(folder).join("mosquitto");
            program.is_file().then_some(program)
        })
        .context("no mosquitto; on Debian: apt-get install mosquitto mosquitto-clients")
}
