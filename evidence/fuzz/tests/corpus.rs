//! Each fuzz target with its seeds, its committed corpus, and a fixed number of seeded mutations.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use fuzz_bodies::mutate::Mutator;
use fuzz_bodies::{TARGETS, Target, target};
use std::path::PathBuf;

const SEED: u64 = 20_261_127;

/// Name and bytes of each.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let named = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(file).unwrap())
    };
    files.iter().map(named).collect()
}

/// A file of the corpus that is called `good-…` must be taken, one called `bad-…` not. Of what
/// fails otherwise seed and number are told.
fn run(target: &Target) {
    let mut pool = (target.seeds)();
    let (mut good, mut bad) = (0, 0);
    for (name, input) in corpus(target.name) {
        let taken = (target.body)(&input);
        let is_named = |word: &str| name.starts_with(word);
        good += u32::from(taken && is_named("good-"));
        bad += u32::from(!taken && is_named("bad-"));
        let said = if taken { "bad-" } else { "good-" };
        assert!(!is_named(said), "fuzz/corpus/{}/{name}", target.name);
        pool.push(input);
    }
    assert!(good > 0 && bad > 0, "{good} good inputs and {bad} bad ones");
    for input in (target.seeds)() {
        (target.body)(&input);
    }
    let mut mutator = Mutator::new(SEED);
    println!(
        "{}: seed {SEED}, {} mutations",
        target.name, target.in_a_test
    );
    for number in 0..target.in_a_test {
        let input = mutator.next(&pool);
        let done = std::panic::catch_unwind(|| (target.body)(&input));
        assert!(
            done.is_ok(),
            "mutation {number} of seed {SEED}: {input:02x?}"
        );
    }
}

macro_rules! tests {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { run(target($name).unwrap()); })*
        /// No target is left out.
        #[test]
        fn every_target_is_run_here() {
            let here = [$($name),*];
            assert!(TARGETS.iter().map(|t| t.name).eq(here));
        }
    };
}

tests! {
    any_bytes_on_the_line_are_refused_or_mean_the_same_again "frame"
    a_line_on_which_anything_happened_brings_everything_once_it_is_good "line"
    a_memory_that_was_changed_anywhere_gives_what_was_journaled_or_says_why_not "journal"
    any_payload_on_the_broker_is_opened_or_refused "payload"
    any_file_is_a_record_of_these_events_or_none "record"
    any_diary_is_imported_whole_or_refused_with_nothing_left "csv"
}

#[test]
fn a_seed_means_the_same_inputs() {
    let pool = vec![b"abcdefgh".to_vec(), b"0123".to_vec()];
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..200).map(|_| mutator.next(&pool)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
}
