//! The second verifier: one long-running process of `docs/verify.py`, and what both say.

use anyhow::{Context, bail};
use record::verify::{Evidence, Report};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What a verifier says of a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Answer {
    /// Its exit code.
    pub(crate) exit: u8,
    /// Its words.
    pub(crate) words: String,
    /// The first place that it names.
    pub(crate) first: Option<String>,
    /// Rows added after the seal.
    #[serde(default)]
    pub(crate) unsealed_rows: u64,
}

impl Answer {
    /// Ours.
    pub(crate) fn of(report: &Result<Report, ()>) -> Self {
        let Ok(report) = report else {
            return Self {
                exit: 1,
                words: "cannot be read".into(),
                first: None,
                unsealed_rows: 0,
            };
        };
        let altered = report.evidence == Evidence::Altered;
        let wrong = report.wrong.first().and_then(|w| w.split(": ").next());
        let missing = report
            .missing
            .first()
            .map(|m| format!("{} seq {} to {}", m.source, m.from_seq, m.to_seq));
        let mut rest = report
            .unsigned_from
            .iter()
            .chain(&report.times_not_proven_from);
        let first = if altered {
            wrong.map(String::from)
        } else {
            missing.or_else(|| {
                rest.next()
                    .map(|(source, seq)| format!("{source} seq {seq}"))
            })
        };
        Self {
            exit: report.evidence.exit_code(),
            words: report.evidence.words().into(),
            first,
            unsealed_rows: if altered { 0 } else { report.unsealed_rows },
        }
    }

    /// The same answer. Of a damaged file, two versions of SQLite may see the damage at different
    /// times: both must refuse it.
    pub(crate) fn agrees(&self, other: &Self, damaged_file: bool) -> bool {
        let refused = |answer: &Self| matches!(answer.exit, 1 | 4);
        self == other || damaged_file && refused(self) && refused(other)
    }
}

/// A process of the script.
pub(crate) struct Second {
    child: Child,
    paths: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Second {
    /// With the first `python3` that has the package for Ed25519.
    pub(crate) fn start(script: &Path, keys: &[&str]) -> anyhow::Result<Self> {
        let has_package = |python: &&str| {
            let mut ask = Command::new(python);
            ask.args(["-c", "import cryptography"])
                .stderr(Stdio::null());
            ask.status().is_ok_and(|status| status.success())
        };
        let python = ["python3", "/usr/bin/python3"]
            .into_iter()
            .find(has_package);
        let Some(python) = python else {
            bail!(
                "no python3 with its package `cryptography`: apt-get install python3-cryptography"
            );
        };
        let mut child = Command::new(python)
            .arg(script)
            .arg("--stdin")
            .args(keys)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", script.display()))?;
        let paths = child.stdin.take().context("its standard input")?;
        let answers = child.stdout.take().context("its standard output")?;
        Ok(Self {
            child,
            paths,
            answers: BufReader::new(answers),
        })
    }

    /// Gives it a file.
    pub(crate) fn begin(&mut self, path: &Path) -> anyhow::Result<()> {
        writeln!(self.paths, "{}", path.display()).context("the second verifier has ended")
    }

    /// What it says of that file.
    pub(crate) fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the second verifier said {line:?}"))
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
