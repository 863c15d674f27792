//! The fault table: each row lived as stories, each story at each of its moments, and
//! `docs/faults.md` written from what came of it.
//!
//! What the pump alone must do is lived in virtual time. What gateway, broker and recorder must do
//! is lived on the real ones: processes, a pseudo-terminal, SQLite, MQTT over TCP.

mod bedside;
mod catalog;
mod page;
mod proxy;

use crate::ledger::{Lane, LaneArgs};
use anyhow::{Context, bail};
use catalog::Catalog;
use clap::Args;
use device_sim::scenario::Scenario;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

pub(crate) use bedside::{BoxArgs, run_box};

/// The page.
const PAGE: &str = "docs/faults.md";
/// Between a story's own seed and its next.
const SEEDS_APART: u64 = 1_000;

#[derive(Clone, Debug, Args)]
pub(crate) struct FaultsArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Fail where docs/faults.md is not what came of it; change nothing.
    #[arg(long)]
    check: bool,
    /// Only the stories whose name, with its moment, begins so; the page is left alone.
    #[arg(long)]
    only: Option<String>,
    /// Limits of wall time are so many times as long: for a machine that others use too.
    #[arg(long, default_value_t = 1)]
    slack: u64,
    /// Stories with a gateway that are lived at a time.
    #[arg(long, default_value_t = 8)]
    at_a_time: usize,
}

/// What came of a story at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// When what was expected first was there, in words.
    pub(crate) seen: String,
    /// What is not as expected.
    pub(crate) complaints: Vec<String>,
}

/// Lives every story and writes the page, or holds it against what is there. The first seed's
/// stories are as they are written; each further one's have other patients and faults by chance.
///
/// # Errors
/// Where a row has no story, a story does not end as it expects, or the page differs.
pub(crate) fn run(args: &FaultsArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("faults", &args.lane)?;
    let repository = &args.lane.repository;
    let catalog = Catalog::read(repository)?;
    let mut stories = read_stories(&repository.join("scenarios"))?;
    catalog.check(repository, &stories)?;
    if let Some(only) = &args.only {
        stories.retain(|story| story.title().starts_with(only.as_str()));
    }
    let mut seed = args.lane.seed;
    while lane.goes_on(seed == args.lane.seed) && !lane.has_violations() {
        let others = stories.iter().cloned().map(|mut story| {
            story.seed += (seed - 1) * SEEDS_APART;
            story
        });
        let others: Vec<Scenario> = others.collect();
        let outcomes = live_all(&others, args.at_a_time, args.slack.max(1))?;
        for (story, outcome) in others.iter().zip(&outcomes) {
            println!("{}: {}", story.title(), outcome.seen);
            lane.count("stories", 1);
            for complaint in &outcome.complaints {
                lane.violation(seed, &format!("{}: {complaint}", story.title()));
            }
        }
        if seed == 1 && args.only.is_none() && !lane.has_violations() {
            let text = page::write(&catalog, &stories, &outcomes);
            settle_page(&repository.join(PAGE), &text, args.check)?;
        }
        seed += 1;
    }
    lane.finish(seed - 1)
}

/// Writes the page, or holds it against what is there.
fn settle_page(path: &Path, text: &str, check: bool) -> anyhow::Result<()> {
    if !check {
        return std::fs::write(path, text).with_context(|| format!("writing {}", path.display()));
    }
    if std::fs::read_to_string(path).unwrap_or_default() != text {
        bail!("{PAGE} is not what the stories say: run `cargo run -p evidence -- faults`");
    }
    Ok(())
}

/// Every story of the folder, once for each of its moments.
pub(crate) fn read_stories(folder: &Path) -> anyhow::Result<Vec<Scenario>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_story = path.extension().is_some_and(|e| e == "toml")
            && path.file_stem().is_some_and(|name| name != "faults");
        if is_story {
            files.push(path);
        }
    }
    files.sort();
    let mut stories = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let all = Scenario::parse_all(&text).with_context(|| path.display().to_string())?;
        stories.extend(all);
    }
    Ok(stories)
}

/// Two threads for stories in virtual time, `at_a_time` for those that wait for real parts.
fn live_all(stories: &[Scenario], at_a_time: usize, slack: u64) -> anyhow::Result<Vec<Outcome>> {
    let numbered = || stories.iter().enumerate();
    let alone: VecDeque<_> = numbered().filter(|(_, s)| s.bedside.is_none()).collect();
    let together: VecDeque<_> = numbered().filter(|(_, s)| s.bedside.is_some()).collect();
    let done: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; stories.len()]);
    let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let work = |queue: &Mutex<VecDeque<(usize, &Scenario)>>,
                live: &dyn Fn(&Scenario) -> anyhow::Result<Outcome>| {
        loop {
            // Not in the head of a `while let`, which would hold the queue while the story is lived.
            let next = lock(queue).pop_front();
            let Some((place, story)) = next else { break };
            match live(story).with_context(|| story.title()) {
                Ok(outcome) => {
                    let held = if outcome.complaints.is_empty() {
                        "held"
                    } else {
                        "NOT SO"
                    };
                    eprintln!("{}: {held}", story.title());
                    if let Some(room) = lock(&done).get_mut(place) {
                        *room = Some(outcome);
                    }
                }
                Err(e) => *lock(&failed) = Some(e),
            }
        }
    };
    let (alone, together) = (Mutex::new(alone), Mutex::new(together));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| work(&alone, &live_alone));
        }
        for _ in 0..at_a_time.max(1) {
            scope.spawn(|| work(&together, &|story| bedside::live(story, slack)));
        }
    });
    if let Some(e) = failed.into_inner().unwrap_or(None) {
        return Err(e);
    }
    let done = done.into_inner().unwrap_or_default();
    done.into_iter()
        .collect::<Option<Vec<_>>>()
        .context("a story was not lived")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn live_alone(story: &Scenario) -> anyhow::Result<Outcome> {
    let lived = device_sim::story::live(story)?;
    let begins = story.begins_ms();
    let first = story.expect.iter().find(|e| e.times.0 > 0);
    let seen = first.and_then(|wanted| {
        let (at, ..) = wanted.found(&lived.told).next()?;
        Some(format!(
            "{} after {}",
            words_of(wanted),
            span(at.saturating_sub(begins))
        ))
    });
    Ok(Outcome {
        seen: seen.unwrap_or_else(|| "nothing that should not be".into()),
        complaints: lived.complaints,
    })
}

/// The condition or kind that is expected, for people.
fn words_of(wanted: &device_sim::scenario::Expect) -> String {
    let code = wanted.fields.iter().find(|(name, _)| name == "code");
    let word = code.and_then(|(_, value)| value.as_str());
    word.unwrap_or(&wanted.kind).replace('_', " ")
}

/// A span for people.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn repository() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// The stories themselves are lived by the lane, which also holds the page against them.
    #[test]
    fn every_row_of_the_table_has_its_stories_or_says_why_not() {
        let catalog = Catalog::read(&repository()).unwrap();
        let stories = read_stories(&repository().join("scenarios")).unwrap();
        catalog.check(&repository(), &stories).unwrap();
        let page = std::fs::read_to_string(repository().join(PAGE)).unwrap();
        for story in &stories {
            let link = format!("[{0}](../scenarios/{0}.toml)", story.name);
            assert!(page.contains(&link), "{PAGE} lacks {}", story.name);
        }
    }

    #[test]
    fn a_row_without_a_story_and_a_story_of_no_row_are_named() {
        let catalog = Catalog::read(&repository()).unwrap();
        let mut stories = read_stories(&repository().join("scenarios")).unwrap();
        let all = stories.clone();
        stories.retain(|story| !story.rows.contains(&9));
        let why = catalog.check(&repository(), &stories).unwrap_err();
        assert!(why.to_string().contains("row 9"), "{why}");
        let mut other = all;
        other.iter_mut().take(1).for_each(|s| s.rows = vec![55]);
        let why = catalog.check(&repository(), &other).unwrap_err();
        assert!(why.to_string().contains("row 55"), "{why}");
    }

    #[test]
    fn every_story_behind_the_pump_can_be_read() {
        let stories = read_stories(&repository().join("scenarios")).unwrap();
        let behind = stories.iter().filter(|s| s.bedside.is_some());
        for story in behind {
            bedside::Plan::of(story).unwrap_or_else(|e| panic!("{}: {e:#}", story.title()));
        }
    }
}
