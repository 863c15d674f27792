//! What a process did to a folder, call by call, from `strace`.
//!
//! Every call that can change a file is asked for. One that the model of the disk does not know,
//! on a file of the folder, is an error: a recording with a gap would prove nothing.

use anyhow::{Context, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A file's identity, whatever its names are.
pub(crate) type Inode = usize;

/// One thing that happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A process began; open files of the one before it are closed, the page cache lives.
    Start,
    /// Bytes were written.
    Write {
        inode: Inode,
        at: usize,
        bytes: Arc<[u8]>,
    },
    /// The length was set.
    Resize { inode: Inode, len: usize },
    /// A name was given.
    Link { name: String, inode: Inode },
    /// A name was taken away.
    Unlink { name: String },
    /// A name was changed.
    Rename { from: String, to: String },
    /// A file's sync returned.
    SyncFile { inode: Inode },
    /// A folder was made.
    MakeFolder { name: String },
    /// A folder's sync returned; its name is empty for the one that is recorded.
    SyncFolder { name: String },
    /// The process said that something is safe.
    Ack(String),
}

/// Calls that the model knows.
const KNOWN: &str = "openat,open,creat,close,write,pwrite64,ftruncate,fsync,fdatasync,rename,\
                     renameat,renameat2,unlink,unlinkat,link,linkat,mkdir,fcntl,dup,dup2,dup3";
/// Calls that would change a file behind its back.
const UNKNOWN: &str = "writev,pwritev,pwritev2,copy_file_range,sendfile,splice,fallocate,truncate,\
                       sync,syncfs,sync_file_range,msync,mmap,io_uring_setup,symlink,symlinkat";

/// Runs `command` in `folder` under strace; its steps are added to `steps`. With `kill_at` it is
/// killed when it enters that `fdatasync`, before any of it is done.
pub(crate) fn record(
    recorder: &mut Recorder,
    folder: &Path,
    command: &[&str],
    kill_at: Option<u32>,
) -> anyhow::Result<()> {
    let log = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-xx", "-s", "1048576", "-o"])
        .arg(log.path())
        .arg(format!("--trace={KNOWN},{UNKNOWN}"));
    if let Some(when) = kill_at {
        strace.arg(format!("--inject=fdatasync:signal=SIGKILL:when={when}"));
    }
    let program = std::env::current_exe()?;
    let done = strace
        .arg("--")
        .arg(program)
        .args(command)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("running strace; on Debian: apt-get install strace")?;
    let killed = kill_at.is_some() && done.status.code() != Some(0);
    ensure!(
        done.status.success() || killed,
        "{command:?} under strace: {}: {}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    let text = std::fs::read_to_string(log.path())?;
    recorder.begin();
    for line in text.lines() {
        let line_of = || {
            let shown: String = line.chars().take(200).collect();
            format!("strace line: {shown}")
        };
        recorder.line(line).with_context(line_of)?;
    }
    Ok(())
}

/// What an open descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
    File(Inode),
    Folder(String),
}

/// Turns strace's lines into steps.
#[derive(Debug)]
pub(crate) struct Recorder {
    folder: String,
    pub(crate) steps: Vec<Step>,
    names: BTreeMap<String, Inode>,
    folders: BTreeSet<String>,
    inodes: usize,
    open: BTreeMap<i64, Open>,
    /// Where the next `write` of each descriptor goes.
    places: BTreeMap<i64, usize>,
    lens: Vec<usize>,
    process: Option<String>,
}

impl Recorder {
    /// For a folder that is empty.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_string_lossy().into_owned(),
            steps: Vec::new(),
            names: BTreeMap::new(),
            folders: BTreeSet::from([String::new()]),
            inodes: 0,
            open: BTreeMap::new(),
            places: BTreeMap::new(),
            lens: Vec::new(),
            process: None,
        }
    }

    fn begin(&mut self) {
        self.open.clear();
        self.places.clear();
        self.process = None;
        self.steps.push(Step::Start);
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let (process, call) = line.split_once(' ').context("no process")?;
        let call = call.trim_start();
        if call.starts_with("+++") || call.starts_with("---") {
            return Ok(());
        }
        let first = self.process.get_or_insert_with(|| process.to_owned());
        ensure!(first == process, "a second thread: the order is not known");
        let (name, rest) = call.split_once('(').context("no call")?;
        let (args, result) = rest.rsplit_once(" = ").context("no result")?;
        let args = args.trim_end().strip_suffix(')').context("no end")?;
        let args: Vec<&str> = args.split(", ").collect();
        let result = result.split(' ').next().unwrap_or_default();
        let result: i64 = match result.parse() {
            Ok(number) if number >= 0 => number,
            Ok(_) => return Ok(()),
            // A call in which the process was killed: a sync that never returned.
            Err(_) if result == "?" => {
                ensure!(
                    name == "fdatasync" || name == "exit_group",
                    "killed in {name}"
                );
                return Ok(());
            }
            // mmap's address.
            Err(_) => 0,
        };
        self.call(name, &args, result)
    }

    fn call(&mut self, name: &str, args: &[&str], result: i64) -> anyhow::Result<()> {
        let arg = |at: usize| args.get(at).copied().context("an argument is missing");
        let fd = |at: usize| -> anyhow::Result<i64> { Ok(arg(at)?.parse()?) };
        match name {
            "openat" => self.opened(&path(arg(1)?)?, arg(2)?, result),
            "open" => self.opened(&path(arg(0)?)?, arg(1)?, result),
            "creat" => self.opened(&path(arg(0)?)?, "O_WRONLY|O_CREAT|O_TRUNC", result),
            "close" => {
                self.open.remove(&fd(0)?);
                Ok(())
            }
            "dup" | "dup2" | "dup3" => self.duplicated(fd(0)?, result),
            "fcntl" if arg(1)?.starts_with("F_DUPFD") => self.duplicated(fd(0)?, result),
            "fcntl" => Ok(()),
            "mkdir" => {
                if let Some(name) = self.name_of(&path(arg(0)?)?) {
                    self.folders.insert(name.clone());
                    self.steps.push(Step::MakeFolder { name });
                }
                Ok(())
            }
            "write" => self.write(fd(0)?, arg(1)?, result),
            "pwrite64" => {
                if let Some(Open::File(inode)) = self.open.get(&fd(0)?).cloned() {
                    self.written(inode, arg(3)?.parse()?, &bytes(arg(1)?)?, result)?;
                }
                Ok(())
            }
            "ftruncate" => {
                if let Some(Open::File(inode)) = self.open.get(&fd(0)?).cloned() {
                    let len = arg(1)?.parse()?;
                    self.resized(inode, len);
                }
                Ok(())
            }
            "fsync" | "fdatasync" => {
                match self.open.get(&fd(0)?).cloned() {
                    Some(Open::File(inode)) => self.steps.push(Step::SyncFile { inode }),
                    Some(Open::Folder(name)) => self.steps.push(Step::SyncFolder { name }),
                    None => {}
                }
                Ok(())
            }
            "rename" => self.renamed(&path(arg(0)?)?, &path(arg(1)?)?),
            "renameat" | "renameat2" => self.renamed(&path(arg(1)?)?, &path(arg(3)?)?),
            "unlink" => self.unlinked(&path(arg(0)?)?),
            "unlinkat" => self.unlinked(&path(arg(1)?)?),
            "link" => self.linked(&path(arg(0)?)?, &path(arg(1)?)?),
            "linkat" => self.linked(&path(arg(1)?)?, &path(arg(3)?)?),
            "mmap" => {
                let shared = arg(3)?.contains("MAP_SHARED") && arg(2)?.contains("PROT_WRITE");
                let ours = self.open.contains_key(&fd(4).unwrap_or(-1));
                ensure!(!(shared && ours), "a file is written through memory");
                Ok(())
            }
            _ => {
                let ours = args
                    .iter()
                    .filter_map(|arg| arg.parse().ok())
                    .any(|fd: i64| self.open.contains_key(&fd));
                let named = args.iter().any(|a| {
                    path(a).is_ok_and(|p| self.name_of(&p).is_some_and(|n| !n.is_empty()))
                });
                ensure!(
                    !ours && !named,
                    "the model of the disk does not know {name}"
                );
                Ok(())
            }
        }
    }

    /// The name in the folder; empty for the folder itself; none for what lies elsewhere.
    fn name_of(&self, path: &str) -> Option<String> {
        if path == "." || path == self.folder {
            return Some(String::new());
        }
        let path = path.strip_prefix("./").unwrap_or(path);
        let inside = match path.strip_prefix(&self.folder) {
            Some(rest) => rest.strip_prefix('/')?,
            None if path.starts_with('/') => return None,
            None => path,
        };
        Some(inside.to_owned())
    }

    fn opened(&mut self, path: &str, flags: &str, fd: i64) -> anyhow::Result<()> {
        let Some(name) = self.name_of(path) else {
            return Ok(());
        };
        ensure!(!flags.contains("SYNC"), "opened with {flags}");
        if self.folders.contains(&name) {
            self.open.insert(fd, Open::Folder(name));
            return Ok(());
        }
        let inode = match self.names.get(&name) {
            Some(inode) => *inode,
            None if flags.contains("O_CREAT") => {
                let inode = self.inodes;
                self.inodes += 1;
                self.lens.push(0);
                self.names.insert(name.clone(), inode);
                self.steps.push(Step::Link { name, inode });
                inode
            }
            None => bail!("{name} was there before the recording"),
        };
        if flags.contains("O_TRUNC") {
            self.resized(inode, 0);
        }
        let place = if flags.contains("O_APPEND") {
            usize::MAX
        } else {
            0
        };
        self.open.insert(fd, Open::File(inode));
        self.places.insert(fd, place);
        Ok(())
    }

    fn duplicated(&mut self, from: i64, to: i64) -> anyhow::Result<()> {
        match self.open.get(&from).cloned() {
            // Its place is shared with the first one, which the model does not follow.
            Some(Open::File(_)) => bail!("a file's descriptor is duplicated"),
            Some(folder) => drop(self.open.insert(to, folder)),
            None => drop(self.open.remove(&to)),
        }
        Ok(())
    }

    fn write(&mut self, fd: i64, text: &str, result: i64) -> anyhow::Result<()> {
        if let Some(Open::File(inode)) = self.open.get(&fd).cloned() {
            let place = self.places.get(&fd).copied().unwrap_or(0);
            let end = self.lens.get(inode).copied().unwrap_or(0);
            let at = if place == usize::MAX { end } else { place };
            self.written(inode, at, &bytes(text)?, result)?;
            if place != usize::MAX {
                self.places.insert(fd, at + usize::try_from(result)?);
            }
        } else if fd == 1 {
            let said = String::from_utf8(bytes(text)?)?;
            self.steps
                .extend(said.lines().map(|line| Step::Ack(line.to_owned())));
        }
        Ok(())
    }

    fn written(&mut self, inode: Inode, at: usize, all: &[u8], result: i64) -> anyhow::Result<()> {
        let done = all
            .get(..usize::try_from(result)?)
            .context("bytes are missing")?;
        if let Some(len) = self.lens.get_mut(inode) {
            *len = (*len).max(at + done.len());
        }
        let bytes = Arc::from(done);
        self.steps.push(Step::Write { inode, at, bytes });
        Ok(())
    }

    fn resized(&mut self, inode: Inode, len: usize) {
        if let Some(there) = self.lens.get_mut(inode) {
            *there = len;
        }
        self.steps.push(Step::Resize { inode, len });
    }

    fn unlinked(&mut self, path: &str) -> anyhow::Result<()> {
        if let Some(name) = self.name_of(path) {
            self.names.remove(&name).context("unlink of no file")?;
            self.steps.push(Step::Unlink { name });
        }
        Ok(())
    }

    fn linked(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        if let (Some(from), Some(name)) = (self.name_of(from), self.name_of(to)) {
            let inode = *self.names.get(&from).context("link of no file")?;
            self.names.insert(name.clone(), inode);
            self.steps.push(Step::Link { name, inode });
        }
        Ok(())
    }

    fn renamed(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        match (self.name_of(from), self.name_of(to)) {
            (Some(from), Some(to)) => {
                let inode = self.names.remove(&from).context("rename of no file")?;
                let folder = |name: &str| name.rsplit_once('/').map(|(f, _)| f.to_owned());
                ensure!(folder(&from) == folder(&to), "a rename into another folder");
                self.names.insert(to.clone(), inode);
                self.steps.push(Step::Rename { from, to });
                Ok(())
            }
            (None, None) => Ok(()),
            _ => bail!("a rename into or out of the folder"),
        }
    }
}

/// A quoted argument as a path.
fn path(quoted: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(bytes(quoted)?)?)
}

/// A quoted argument's bytes; strace writes each as `\xNN`.
fn bytes(quoted: &str) -> anyhow::Result<Vec<u8>> {
    let inner = quoted
        .strip_prefix('"')
        .and_then(|q| q.strip_suffix('"'))
        .context("no whole string")?;
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    inner
        .as_bytes()
        .chunks(4)
        .map(|chunk| match chunk {
            [b'\\', b'x', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect::<Option<_>>()
        .context("a string is not all hex")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        let digits: Vec<String> = text.bytes().map(|b| format!("\\x{b:02x}")).collect();
        format!("\"{}\"", digits.concat())
    }

    fn steps_of(lines: &[String]) -> anyhow::Result<Vec<Step>> {
        let mut recorder = Recorder::new(Path::new("/f"));
        for line in lines {
            recorder.line(&format!("77 {line}"))?;
        }
        Ok(recorder.steps)
    }

    #[test]
    fn calls_become_steps_whatever_the_names_are_by_then() {
        let steps = steps_of(&[
            format!(
                "openat(AT_FDCWD, {}, O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3",
                hex("/f/a")
            ),
            format!("pwrite64(3, {}, 5, 10)   = 5", hex("hello")),
            format!("rename({}, {}) = 0", hex("/f/a"), hex("b")),
            format!("write(3, {}, 2) = 1", hex("xy")),
            "fdatasync(3) = -1 EIO (Input/output error)".into(),
            "fdatasync(3) = 0".into(),
            format!("openat(AT_FDCWD, {}, O_RDONLY) = 4", hex("/f")),
            "fsync(4) = 0".into(),
            format!("write(1, {}, 7) = 7", hex("rows 1\n")),
            format!("openat(AT_FDCWD, {}, O_RDONLY) = 5", hex("/etc/x")),
            format!("pwrite64(5, {}, 1, 0) = 1", hex("x")),
            "fdatasync(3) = ?".into(),
            "+++ killed by SIGKILL +++".into(),
        ]);
        let write = |at, text: &str| Step::Write {
            inode: 0,
            at,
            bytes: Arc::from(text.as_bytes()),
        };
        let link = Step::Link {
            name: "a".into(),
            inode: 0,
        };
        let rename = Step::Rename {
            from: "a".into(),
            to: "b".into(),
        };
        let wanted = [
            link,
            write(10, "hello"),
            rename,
            write(0, "x"),
            Step::SyncFile { inode: 0 },
            Step::SyncFolder {
                name: String::new(),
            },
            Step::Ack("rows 1".into()),
        ];
        assert_eq!(steps.unwrap(), wanted);
    }

    #[test]
    fn a_call_that_the_model_does_not_know_is_refused_on_our_files_alone() {
        let open = format!("openat(AT_FDCWD, {}, O_RDWR|O_CREAT, 0644) = 3", hex("a"));
        let refused = [
            "fallocate(3, 0, 0, 10) = 0".to_owned(),
            "mmap(NULL, 10, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = 0x7f00".into(),
            format!("truncate({}, 3) = 0", hex("a")),
            format!("openat(AT_FDCWD, {}, O_RDWR|O_DSYNC) = 4", hex("a")),
            format!("pwrite64(3, {}..., 9, 0) = 9", hex("cut")),
        ];
        for call in refused {
            assert!(steps_of(&[open.clone(), call.clone()]).is_err(), "{call}");
        }
        let fine = "fallocate(8, 0, 0, 10) = 0".to_owned();
        assert_eq!(steps_of(&[open, fine]).unwrap().len(), 1);
    }
}
