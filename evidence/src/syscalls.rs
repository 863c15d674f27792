//! The lane `syscalls`: the n-th system call on the product's files fails, for n = 1 until a run is
//! clean.
//!
//! Writers over the `record` crate are short and run for every n; the real gateway and the real
//! recorder run with a pump on a pty and a broker. A program whose disk fails may stop with exit
//! code 1 and a line that names the file, or go on with an alarm; it may never have acknowledged
//! what is not on the disk afterwards, never panic, never stand still without a word. Then it
//! starts again on a sound disk, and everything must come to its end.

mod programs;

use crate::ledger::{Lane, LaneArgs};
use crate::promise::{Promise, scratch};
use crate::writer::{Acked, Kind, WriterArgs};
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// What the lane is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct SyscallsArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Runs of each writer, where no minutes are given: the first n of every call and error.
    #[arg(long, default_value_t = 120)]
    runs: u32,
    /// Runs of each real program, where no minutes are given.
    #[arg(long, default_value_t = 24)]
    program_runs: u32,
    /// The product's binary; where none is named, the one beside this, or of a debug build.
    #[arg(long)]
    thecal: Option<PathBuf>,
    /// Only this, by its name in the ledger, such as `writer_runs` or `recorder_starts`.
    #[arg(long)]
    only: Option<String>,
    /// Runs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// A call and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    call: &'static str,
    /// An error's name, or `0`: nothing was done, and that is said.
    error: &'static str,
}

/// Every call by which the product changes or reads its files, with what a disk may answer.
const FAULTS: &[(&str, &[&str])] = &[
    ("pwrite64", &["EIO", "ENOSPC", "EINTR", "0"]),
    ("write", &["EIO", "ENOSPC", "EINTR"]),
    ("fsync", &["EIO", "EINTR"]),
    ("fdatasync", &["EIO", "EINTR"]),
    ("openat", &["EIO", "ENOSPC", "EINTR"]),
    ("ftruncate", &["EIO", "EINTR"]),
    ("pread64", &["EIO", "EINTR"]),
    ("linkat", &["EIO", "ENOSPC"]),
    ("unlink", &["EIO"]),
    ("mkdir", &["EIO", "ENOSPC"]),
];

/// What a disturbed run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    /// There was no n-th call.
    Clean,
    /// The call failed, and the program came to its end all the same.
    Survived,
    /// The call failed, and the program stopped or raised its alarm.
    Stopped,
}

/// Runs the lane.
///
/// # Errors
/// Where a promise did not hold.
pub(crate) fn run(args: &SyscallsArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("syscalls", &args.lane)?;
    let mut seed = args.lane.seed;
    plant(seed)?;
    lane.count("plants_found", 1);
    while lane.goes_on(seed == args.lane.seed) && !lane.has_violations() {
        let writers = [
            (Kind::Record, false),
            (Kind::Record, true),
            (Kind::Spool, true),
            (Kind::Spool, false),
            (Kind::Key, false),
        ];
        let is_wanted = |name: &str| args.only.as_ref().is_none_or(|only| only == name);
        for (kind, begun) in writers.into_iter().filter(|_| is_wanted("writer_runs")) {
            let writer = Writer::new(kind, begun, seed)?;
            let one = |fault: Fault, n| writer.disturb(fault, n);
            each_n(&mut lane, seed, "writer_runs", args.jobs, args.runs, &one)?;
            if kind != Kind::Key {
                short_writes(&mut lane, seed, &writer, args.runs)?;
            }
        }
        if is_wanted("every_sync") && lane.has_fixed_count() {
            every_sync(&mut lane, seed)?;
        }
        let thecal = thecal(args)?;
        for subject in programs::Subject::ALL {
            if !is_wanted(subject.count_name()) {
                continue;
            }
            let programs = programs::Programs::new(subject, &thecal)?;
            let one = |fault: Fault, n| programs.disturb(fault, n);
            let name = subject.count_name();
            each_n(&mut lane, seed, name, args.jobs, args.program_runs, &one)?;
        }
        seed += 1;
    }
    lane.finish(seed - 1)
}

/// Each sync of a new file's writer, to the last: a fixed count of runs ends long before.
fn every_sync(lane: &mut Lane, seed: u64) -> anyhow::Result<()> {
    let fault = Fault {
        call: "fdatasync",
        error: "EIO",
    };
    for kind in [Kind::Spool, Kind::Record] {
        let writer = Writer::new(kind, false, seed)?;
        for n in 1.. {
            lane.count("every_sync", 1);
            match writer.disturb(fault, n) {
                Ok(Was::Clean) => break,
                Ok(Was::Survived) => lane.count("survived", 1),
                Ok(Was::Stopped) => lane.count("stopped_or_alarmed", 1),
                Err(e) => {
                    lane.violation(seed, &format!("{kind:?}: fdatasync {n} gives EIO: {e:#}"));
                    // A writer that fails by itself would do so for ever.
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The binary that is disturbed.
fn thecal(args: &SyscallsArgs) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("thecal");
    let debug = beside
        .parent()
        .and_then(Path::parent)
        .map(|target| target.join("debug/thecal"));
    let path = match (&args.thecal, debug) {
        (Some(path), _) => path.clone(),
        (None, Some(debug)) if !beside.is_file() => debug,
        (None, _) => beside,
    };
    ensure!(
        path.is_file(),
        "{}: no such program; run `cargo build --no-default-features --features gateway`, or name one with --thecal",
        path.display()
    );
    Ok(path.canonicalize()?)
}

/// All calls and errors for n = 1, then for n = 2, and so on: each until it is clean, and with a
/// fixed count no more than `most` runs.
fn each_n(
    lane: &mut Lane,
    seed: u64,
    name: &str,
    jobs: usize,
    most: u32,
    one: &(dyn Fn(Fault, u32) -> anyhow::Result<Was> + Sync),
) -> anyhow::Result<()> {
    let faults = FAULTS.iter().flat_map(|(call, errors)| {
        let fault = |error: &&'static str| Fault { call, error };
        errors.iter().map(fault)
    });
    let mut open: BTreeSet<Fault> = faults.collect();
    let mut left = most;
    let mut n = 0;
    while !open.is_empty() {
        n += 1;
        let mut due: Vec<Fault> = open.iter().copied().collect();
        if lane.has_fixed_count() {
            due.truncate(usize::try_from(left)?);
            left -= u32::try_from(due.len())?;
        } else if !lane.goes_on(false) {
            return Ok(());
        }
        if due.is_empty() {
            return Ok(());
        }
        let queue = Mutex::new(due);
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    while let Some(fault) = take(&queue) {
                        let was = one(fault, n);
                        put(&done, (fault, was));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_default();
        done.sort_by_key(|(fault, _)| *fault);
        for (fault, was) in done {
            lane.count(name, 1);
            let was = match was {
                Ok(was) => was,
                Err(e) => {
                    let (call, error) = (fault.call, fault.error);
                    lane.violation(seed, &format!("{name}: {call} {n} gives {error}: {e:#}"));
                    Was::Clean
                }
            };
            match was {
                Was::Clean => drop(open.remove(&fault)),
                Was::Survived => lane.count("survived", 1),
                Was::Stopped => lane.count("stopped_or_alarmed", 1),
            }
        }
    }
    Ok(())
}

fn take<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    queue.lock().ok()?.pop()
}

fn put<T>(list: &Mutex<Vec<T>>, item: T) {
    if let Ok(mut list) = list.lock() {
        list.push(item);
    }
}

/// A writer over the record crate, on a new folder or on one that was begun.
struct Writer {
    args: WriterArgs,
    promise: Promise,
    begun: Option<tempfile::TempDir>,
}

impl Writer {
    fn new(kind: Kind, begun: bool, seed: u64) -> anyhow::Result<Self> {
        let args = WriterArgs {
            kind,
            seed,
            hours: 1,
            normal: false,
            rows: None,
        };
        let begun = if begun {
            let folder = scratch()?;
            let some = WriterArgs {
                rows: Some(5),
                ..args
            };
            let mut command = writer_command(some)?;
            let done = command.current_dir(folder.path()).output()?;
            ensure!(done.status.success(), "a writer that nobody disturbs");
            Some(folder)
        } else {
            None
        };
        let promise = Promise::new(args);
        Ok(Self {
            args,
            promise,
            begun,
        })
    }

    fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        let folder = scratch()?;
        if let Some(begun) = &self.begun {
            copy(begun.path(), folder.path())?;
        }
        Ok(folder)
    }

    fn disturb(&self, fault: Fault, n: u32) -> anyhow::Result<Was> {
        let folder = self.folder()?;
        let log = tempfile::NamedTempFile::new()?;
        let mut command = Command::new("strace");
        command.arg("-y").arg("-o").arg(log.path());
        for path in self.paths(folder.path()) {
            command.arg("-P").arg(path);
        }
        let writer = writer_command(self.args)?;
        command
            .args(inject(fault, n))
            .arg("--")
            .arg(writer.get_program())
            .args(writer.get_args());
        let said = self.run(command, folder.path())?;
        let log = std::fs::read_to_string(log.path())?;
        let disturbed = log.contains("(INJECTED)");
        let was = match (disturbed, said.code) {
            (true, 0) => Was::Survived,
            (true, _) => Was::Stopped,
            (false, 0) => Was::Clean,
            (false, _) => bail!("undisturbed it ends with: {}", said.stderr),
        };
        let sync = matches!(fault.call, "fsync" | "fdatasync") && fault.error == "EIO";
        // SQLite does not look whether the folder's sync held; ours after it does. Where the one that
        // folds the log into the file at its closing fails, the log is not removed: each of its commits
        // was synced, and the next start folds it.
        let ignored = sync && was == Was::Survived && !of_a_folder(&log) && !said.log_kept;
        ensure!(!ignored, "a failed sync is not noticed");
        Ok(was)
    }

    /// Runs it and holds what it said against what is there.
    fn run(&self, mut command: Command, folder: &Path) -> anyhow::Result<Said> {
        let done = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .context("running a writer; strace is Debian's package of that name")?;
        let stderr = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        let mut acked = Acked::default();
        for line in String::from_utf8_lossy(&done.stdout).lines() {
            acked.hear(line)?;
        }
        ensure!(!stderr.contains("panicked"), "{stderr}");
        let code = done.status.code();
        let code = code.with_context(|| format!("{}: {stderr}", done.status))?;
        if code == 0 {
            let key = self.args.kind == Kind::Key;
            let whole = acked.closed && acked.rows == self.promise.rows() && acked.words;
            ensure!(key || whole, "it ended well with {acked:?}");
        } else {
            let named = stderr.contains(&*folder.to_string_lossy());
            ensure!(named, "its last words name no file: {stderr}");
        }
        // Before the file is opened again, which folds it.
        let mut log = crate::writer::path(self.args.kind, folder).into_os_string();
        log.push("-wal");
        let log_kept = Path::new(&log).exists();
        self.promise.hold(folder, &acked, true)?;
        Ok(Said {
            code,
            stderr,
            log_kept,
        })
    }

    fn paths(&self, folder: &Path) -> Vec<PathBuf> {
        let file = crate::writer::path(self.args.kind, folder);
        let mut paths = vec![folder.to_path_buf(), folder.join("records"), file.clone()];
        for ending in ["-wal", "-journal", ".partial", ".pub", ".pub.partial"] {
            let mut name = file.clone().into_os_string();
            name.push(ending);
            paths.push(name.into());
        }
        paths
    }
}

/// Whether the call that failed was about a folder: strace names each descriptor's path.
fn of_a_folder(log: &str) -> bool {
    let failed = log.lines().find(|line| line.contains("(INJECTED)"));
    let path = failed.and_then(|line| line.split_once('<')?.1.split_once('>'));
    path.is_some_and(|(path, _)| Path::new(path).is_dir())
}

struct Said {
    code: i32,
    stderr: String,
    /// The write-ahead log is there after the end.
    log_kept: bool,
}

/// strace's words for a fault.
fn inject(fault: Fault, n: u32) -> [String; 2] {
    let Fault { call, error } = fault;
    let what = if error == "0" {
        "retval=0".to_owned()
    } else {
        format!("error={error}")
    };
    [
        format!("--trace={call}"),
        format!("--inject={call}:{what}:when={n}"),
    ]
}

fn writer_command(args: WriterArgs) -> anyhow::Result<Command> {
    let kind = match args.kind {
        Kind::Spool => "spool",
        Kind::Record => "record",
        Kind::Key => "key",
    };
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["write", kind, "--seed"])
        .arg(args.seed.to_string())
        .arg("--hours")
        .arg(args.hours.to_string());
    if let Some(rows) = args.rows {
        command.arg("--rows").arg(rows.to_string());
    }
    Ok(command)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Files may grow to so many blocks of 512 bytes and no further: a write across that end is cut
/// short, the next one fails.
fn short_writes(lane: &mut Lane, seed: u64, writer: &Writer, most: u32) -> anyhow::Result<()> {
    let mut blocks = 0;
    let mut runs = 0;
    loop {
        let folder = writer.folder()?;
        let program = writer_command(writer.args)?;
        let mut command = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script])
            .arg(program.get_program())
            .args(program.get_args());
        lane.count("short_writes", 1);
        runs += 1;
        match writer.run(command, folder.path()) {
            Ok(said) if said.code == 0 => return Ok(()),
            Ok(_) => lane.count("stopped_or_alarmed", 1),
            Err(e) => lane.violation(seed, &format!("files end at block {blocks}: {e:#}")),
        }
        // A spool's room alone is 8,200 blocks.
        blocks += if blocks < 400 { 1 } else { 97 };
        let over = if lane.has_fixed_count() {
            runs >= most / 3
        } else {
            !lane.goes_on(false)
        };
        if over || lane.has_violations() {
            return Ok(());
        }
    }
}

/// A disk that says yes and writes nothing must be found out, or the check after each run is blind.
fn plant(seed: u64) -> anyhow::Result<()> {
    let writer = Writer::new(Kind::Record, true, seed)?;
    let lying = |n| {
        let folder = writer.folder()?;
        let log = tempfile::NamedTempFile::new()?;
        let program = writer_command(writer.args)?;
        let mut command = Command::new("strace");
        command
            .arg("-o")
            .arg(log.path())
            .arg("-P")
            .arg(crate::writer::path(Kind::Record, folder.path()).with_extension("thecal-wal"))
            .arg("--trace=pwrite64")
            .arg(format!("--inject=pwrite64:retval=4096:when={n}"))
            .arg("--")
            .arg(program.get_program())
            .args(program.get_args());
        writer.run(command, folder.path()).map(|_| ())
    };
    // Which write holds the page of a row depends on the batch; one of them does.
    let found = (3..40).any(|n| lying(n).is_err());
    ensure!(found, "planted and not found: writes that are not done");
    Ok(())
}
