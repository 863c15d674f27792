//! `bench`: the product's own figures, with the limit of this machine beside them.
//!
//! Compare ratios within one run: machines are shared and noisy.

mod latency;
mod link;
#[cfg(feature = "analysis")]
mod report;
mod store;

use crate::args::BenchArgs;
use anyhow::Context;
use std::path::{Path, PathBuf};

pub(crate) fn bench(args: &BenchArgs) -> anyhow::Result<()> {
    let folder = Folder::new(args.dir.as_deref())?;
    if cfg!(debug_assertions) {
        eprintln!(
            "thecal bench: a debug build; figures that are written down come from --profile dist"
        );
    }
    let wanted = |name: &str| args.name.as_deref().is_none_or(|n| n == name);
    if wanted("link") {
        link::bench()?;
    }
    if wanted("store") {
        store::bench(&folder.path)?;
    }
    if wanted("latency") {
        latency::bench(&folder.path)?;
    }
    #[cfg(feature = "analysis")]
    if wanted("report") {
        report::bench(&folder.path)?;
    }
    Ok(())
}

/// Where benchmarks write; removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(parent: Option<&Path>) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(format!("thecal-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// `count` in `micros` microseconds, a second.
fn per_second(count: u64, micros: u64) -> u64 {
    u64::try_from(u128::from(count) * 1_000_000 / u128::from(micros.max(1))).unwrap_or(u64::MAX)
}

/// The value below which `percent` of the sorted values lie.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}
