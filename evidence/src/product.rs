//! Finds the product's binary.

use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The binary that was named, or the one beside this program, or the one of the dev profile. Says
/// on stderr which it is.
///
/// # Errors
/// Where it is not there.
pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()
        .context("where this program is")?
        .with_file_name("thecal");
    let debug = beside
        .parent()
        .and_then(Path::parent)
        .map(|target| target.join("debug/thecal"));
    let path = match (named, debug) {
        (Some(path), _) => path.to_path_buf(),
        (None, Some(debug)) if !beside.is_file() => debug,
        (None, _) => beside,
    };
    ensure!(
        path.is_file(),
        "{}: no such program; run `cargo build`, or name one with --thecal",
        path.display()
    );
    let path = path.canonicalize()?;
    eprintln!("evidence: the product is {}", path.display());
    Ok(path)
}

/// Whether the binary was built with a command.
///
/// # Errors
/// Where it cannot be run.
pub(crate) fn has_command(thecal: &Path, command: &str) -> anyhow::Result<bool> {
    let help = Command::new(thecal)
        .args([command, "--help"])
        .output()
        .context("thecal --help")?;
    Ok(help.status.success())
}
