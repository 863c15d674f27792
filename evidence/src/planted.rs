//! Lane `planted`: known bugs, each put into a copy of the tree, each to be found by the tool that
//! claims to find it.
//!
//! A tool that finds no planted bug is itself broken. `planted.toml` lists the bugs: what stands in
//! the code, what the bug makes of it, who finds it and why it matters. All are put into one copy
//! under the build folder, each behind a switch that an environment variable turns on, so the copy
//! is built once. Then every finder must succeed with no bug on, and fail with each of its bugs on.
//! The product itself has no such switch.

use crate::ledger::{Lane, LaneArgs, monotonic};
use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const LIST: &str = "evidence/planted.toml";
/// Names the bug that is on.
const SWITCH: &str = "THECAL_PLANTED";
/// Stands for "this bug is on" in `planted.toml`.
const ON: &str = "PLANTED";
/// How the copy's own crates are built: they run for a minute, and are built for four.
const QUICKLY: [&str; 4] = [
    "profile.dev.debug=false",
    "profile.dev.package.evidence.opt-level=1",
    "profile.dev.package.gateway.opt-level=1",
    "profile.dev.package.record.opt-level=1",
];
/// Packages in which no bug is planted and nobody finds one: the copy has this file and text in place
/// of these folders. They stay in its workspace for what they depend on: all of that is there
/// already, with the features that the repository's packages ask for together.
const EMPTIED: [(&str, &str, &[&str]); 2] = [
    (
        "analysis/src/lib.rs",
        "//! Emptied.\n",
        &["analysis/src", "analysis/tests"],
    ),
    ("src/main.rs", "fn main() {}\n", &["src", "tests"]),
];
/// A finder that has not ended by then finds nothing.
const PATIENCE: Duration = Duration::from_secs(150);

/// What the lane is told.
#[derive(Debug, Args)]
pub(crate) struct PlantedArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Only bugs whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// Finders that run at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    bug: Vec<Bug>,
}

/// A bug.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    name: String,
    /// What goes wrong with it, in a line.
    why: String,
    /// `PACKAGE TARGET TEST`, where TARGET is `lib` or a file of `tests/`; or `evidence LANE ARGS`.
    found_by: String,
    change: Vec<Change>,
}

/// One place that the bug changes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    file: PathBuf,
    /// Must stand there exactly once.
    find: String,
    /// `PLANTED` in it is true while the bug is on.
    replace: String,
}

/// Who finds a bug.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Finder {
    Test {
        package: String,
        target: String,
        test: String,
    },
    Lane(Vec<String>),
}

impl Finder {
    fn parse(found_by: &str) -> anyhow::Result<Self> {
        let words: Vec<String> = found_by.split_whitespace().map(String::from).collect();
        match words.as_slice() {
            [package, rest @ ..] if package == "evidence" && !rest.is_empty() => {
                Ok(Self::Lane(rest.to_vec()))
            }
            [package, target, test] => Ok(Self::Test {
                package: package.clone(),
                target: target.clone(),
                test: test.clone(),
            }),
            _ => bail!("found_by is {found_by:?}, wanted PACKAGE TARGET TEST"),
        }
    }
}

impl std::fmt::Display for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Test {
                package,
                target,
                test,
            } => write!(f, "{package} {target} {test}"),
            Self::Lane(words) => write!(f, "evidence {}", words.join(" ")),
        }
    }
}

/// The copy with all bugs in it.
struct Copy {
    root: PathBuf,
    repository: PathBuf,
    /// Programs by package and target.
    built: BTreeMap<(String, String), PathBuf>,
}

/// How a finder ended.
enum Ended {
    Success,
    /// With the words that it failed with.
    Failure(String),
}

/// Runs the lane.
///
/// # Errors
/// Where a change does not fit, the copy does not build, a finder fails without a bug, or a bug is
/// not found.
pub(crate) fn run(args: &PlantedArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("planted", &args.lane)?;
    let repository = &args.lane.repository;
    let path = repository.join(LIST);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let list: List = toml::from_str(&text).context(LIST)?;
    let names: BTreeSet<&str> = list.bug.iter().map(|bug| bug.name.as_str()).collect();
    ensure!(names.len() == list.bug.len(), "{LIST}: a name stands twice");
    let mut bugs = Vec::new();
    for bug in &list.bug {
        let wanted = args
            .only
            .as_ref()
            .is_none_or(|part| bug.name.contains(part));
        if wanted {
            let finder = Finder::parse(&bug.found_by).with_context(|| bug.name.clone())?;
            bugs.push((bug, finder));
        }
    }
    ensure!(!bugs.is_empty(), "no such bug");
    let finders: BTreeSet<Finder> = bugs.iter().map(|(_, finder)| finder.clone()).collect();

    let root = target_folder(repository)?.join("planted");
    copy_tree(repository, &root, &list.bug)?;
    let copy = Copy::build(root, repository.canonicalize()?, &finders)?;
    println!("planted: built in {} s", lane.elapsed().as_secs());

    let clean = in_parallel(
        &finders.iter().collect::<Vec<_>>(),
        args.jobs,
        |finder| match copy.find(finder, "")? {
            Ended::Success => Ok(()),
            Ended::Failure(words) => bail!("{finder} fails with no bug on: {words}"),
        },
    );
    for result in clean {
        result?;
    }
    println!(
        "planted: {} finders succeed with no bug on, {} s",
        finders.len(),
        lane.elapsed().as_secs()
    );
    let found = in_parallel(
        &bugs.iter().collect::<Vec<_>>(),
        args.jobs,
        |(bug, finder)| copy.find(finder, &bug.name),
    );
    for ((bug, finder), ended) in bugs.iter().zip(found) {
        lane.count("bugs", 1);
        match ended {
            Ok(Ended::Failure(words)) => {
                lane.count("found", 1);
                println!("planted {}: found by {finder}: {words}", bug.name);
            }
            Ok(Ended::Success) => lane.violation(
                args.lane.seed,
                &format!("{} ({}) is not found by {finder}", bug.name, bug.why),
            ),
            Err(e) => lane.violation(args.lane.seed, &format!("{}: {e:#}", bug.name)),
        }
    }
    lane.finish(args.lane.seed)
}

fn target_folder(repository: &Path) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => repository.join("target"),
    };
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    folder
        .canonicalize()
        .with_context(|| folder.display().to_string())
}

/// Copies the tracked files and puts all bugs in. What has not changed since the last run keeps
/// its time, so that it is not built again.
fn copy_tree(repository: &Path, root: &Path, bugs: &[Bug]) -> anyhow::Result<()> {
    let out = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["ls-files", "-z"])
        .output()
        .context("running git")?;
    ensure!(out.status.success(), "git ls-files failed");
    let mut wanted = BTreeMap::new();
    for name in String::from_utf8_lossy(&out.stdout).split('\0') {
        let path = repository.join(name);
        if !name.is_empty() && path.is_file() {
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            wanted.insert(PathBuf::from(name), bytes);
        }
    }
    for (start, text, folders) in EMPTIED {
        wanted.retain(|name, _| !folders.iter().any(|folder| name.starts_with(folder)));
        wanted.insert(start.into(), text.into());
    }
    let mut crates = BTreeSet::new();
    for bug in bugs {
        for change in &bug.change {
            let bytes = wanted
                .get_mut(&change.file)
                .with_context(|| format!("{}: no file {}", bug.name, change.file.display()))?;
            let text = String::from_utf8(std::mem::take(bytes))?;
            let times = text.matches(&change.find).count();
            ensure!(
                times == 1,
                "{}: its text stands {times} times in {}, wanted once: {}",
                bug.name,
                change.file.display(),
                change.find
            );
            let on = format!("crate::planted::on({:?})", bug.name);
            let replaced = change.replace.replace(ON, &on);
            ensure!(replaced.contains(&on), "{}: no {ON} in it", bug.name);
            *bytes = text.replace(&change.find, &replaced).into_bytes();
            let folder = change
                .file
                .components()
                .next()
                .context("a file in a crate")?;
            crates.insert(PathBuf::from(folder.as_os_str()));
        }
    }
    for folder in crates {
        let lib = folder.join("src/lib.rs");
        let bytes = wanted
            .get_mut(&lib)
            .with_context(|| format!("{} is no library", folder.display()))?;
        let text = String::from_utf8(std::mem::take(bytes))?;
        *bytes = format!("{text}\n{}", switch_code()).into_bytes();
    }
    for name in ["Cargo.toml", "Cargo.lock"] {
        let bytes = wanted.get_mut(Path::new(name)).context(name)?;
        *bytes = with_own_version(std::str::from_utf8(bytes)?).into_bytes();
    }
    // What an older copy had and this one has not: cargo would find it.
    for gone in EMPTIED.iter().flat_map(|(_, _, folders)| folders.iter()) {
        let path = root.join(gone);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
    }
    for (name, bytes) in &wanted {
        let path = root.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == *bytes) {
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The manifest or lock file with another version of our own crates: cargo tells crates of one
/// build folder apart by name and version, and would take the repository's for the copy's.
fn with_own_version(text: &str) -> String {
    let parts = text.split_inclusive("\n\n").map(|part| {
        if part.contains("\nsource = ") {
            part.to_owned()
        } else {
            part.replace("version = \"0.1.0\"\n", "version = \"0.1.0-planted\"\n")
        }
    });
    parts.collect()
}

/// The switch that each crate of the copy gets; also where the crate itself has no `std`.
fn switch_code() -> String {
    format!(
        r#"
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "stands in a copy alone, in crates of any style")]
#[doc(hidden)]
pub mod planted {{
    extern crate std;
    pub fn on(name: &str) -> bool {{
        static NAME: std::sync::OnceLock<std::string::String> = std::sync::OnceLock::new();
        NAME.get_or_init(|| std::env::var("{SWITCH}").unwrap_or_default()) == name
    }}
}}
"#
    )
}

impl Copy {
    fn build(
        root: PathBuf,
        repository: PathBuf,
        finders: &BTreeSet<Finder>,
    ) -> anyhow::Result<Self> {
        let mut copy = Self {
            root,
            repository,
            built: BTreeMap::new(),
        };
        // The whole workspace: the dependencies then have the features that the repository's tests
        // were built with, and are not built again.
        let mut args = vec!["test", "--no-run", "--workspace"];
        let mut targets = BTreeSet::new();
        for finder in finders {
            if let Finder::Test { target, .. } = finder {
                targets.insert(target.as_str());
            }
        }
        for target in &targets {
            if *target == "lib" {
                args.push("--lib");
            } else {
                args.extend(["--test", target]);
            }
        }
        if !targets.is_empty() {
            copy.cargo(&args)?;
        }
        if finders.iter().any(|f| matches!(f, Finder::Lane(_))) {
            // Beside a test: a program alone would have its dependencies without what tests add.
            copy.cargo(&[
                "build",
                "--workspace",
                "--bin",
                "evidence",
                "--test",
                "vectors",
            ])?;
        }
        Ok(copy)
    }

    fn cargo(&mut self, args: &[&str]) -> anyhow::Result<()> {
        let mut child = Command::new("cargo")
            .args(args)
            .args(["--locked", "--message-format=json-render-diagnostics"])
            .args(QUICKLY.iter().flat_map(|line| ["--config", line]))
            .current_dir(&self.root)
            // Dependencies are there already, as the repository's own tests were built.
            .env("CARGO_TARGET_DIR", self.root.with_file_name(""))
            .stdout(Stdio::piped())
            .spawn()
            .context("running cargo")?;
        let out = child.stdout.take().context("cargo's words")?;
        for line in BufReader::new(out).lines() {
            let message: serde_json::Value = serde_json::from_str(&line?)?;
            let Some(program) = message.get("executable").and_then(|v| v.as_str()) else {
                continue;
            };
            let word = |path: &str| {
                let value = message.pointer(path).and_then(|v| v.as_str());
                value.unwrap_or_default().to_owned()
            };
            // `path+file:///…/protocol#0.1.0`, or `…#protocol@0.1.0` where the folder is named
            // otherwise.
            let id = word("/package_id");
            let package = id.rsplit('/').next().unwrap_or_default();
            let package = package.split('#').next().unwrap_or_default().to_owned();
            let kind = word("/target/kind/0");
            let target = if kind == "lib" {
                "lib".to_owned()
            } else {
                word("/target/name")
            };
            self.built.insert((package, target), program.into());
        }
        ensure!(child.wait()?.success(), "the copy does not build");
        Ok(())
    }

    /// Runs a finder with a bug on, or with none.
    fn find(&self, finder: &Finder, bug: &str) -> anyhow::Result<Ended> {
        let (package, target, args) = match finder {
            Finder::Test {
                package,
                target,
                test,
            } => {
                let args = vec![test.clone(), "--exact".into(), "--include-ignored".into()];
                (package.as_str(), target.as_str(), args)
            }
            Finder::Lane(words) => {
                let mut args = words.clone();
                args.extend(["--repository".into(), self.repository.display().to_string()]);
                ("evidence", "evidence", args)
            }
        };
        let program = self
            .built
            .get(&(package.to_owned(), target.to_owned()))
            .with_context(|| format!("{finder}: cargo built no such target"))?;
        let folder = self.root.join(package);
        let mut child = Command::new(program)
            .args(args)
            .env(SWITCH, bug)
            .env("CARGO_MANIFEST_DIR", &folder)
            .env("RUST_BACKTRACE", "0")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {}", program.display()))?;
        let out = gather(child.stdout.take());
        let err = gather(child.stderr.take());
        let since = monotonic();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if monotonic().saturating_sub(since) > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("{finder} does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = [out, err].map(|thread| thread.join().unwrap_or_default());
        let text = text.join("\n");
        if matches!(finder, Finder::Test { .. }) {
            ensure!(
                text.contains("running 1 test\n"),
                "{finder}: there is no such test"
            );
        }
        Ok(if status.success() {
            Ended::Success
        } else {
            Ended::Failure(first_words(&text))
        })
    }
}

fn gather<R: std::io::Read + Send + 'static>(from: Option<R>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a finder said when it failed, in one line.
fn first_words(text: &str) -> String {
    let mut lines = text.lines();
    let line = lines
        .by_ref()
        .find(|line| line.contains("panicked at") || line.contains("VIOLATION"));
    let line = match line {
        Some(line) if line.contains("VIOLATION") => line,
        Some(_) => lines.next().unwrap_or_default(),
        None => text
            .lines()
            .rfind(|l| !l.trim().is_empty())
            .unwrap_or_default(),
    };
    protocol::text::clean(line.trim(), 120)
}

/// Does `work` on each item in so many threads; the results come in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> Vec<anyhow::Result<R>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    if let Ok(mut done) = done.lock() {
                        done.insert(at, result);
                    }
                }
            });
        }
    });
    done.into_inner()
        .map(|done| done.into_values().collect())
        .unwrap_or_default()
}
