//! Of the keys that tag events the memory holds the present one: what was before is erased, so that
//! a pump that is stolen tells nothing of the hours before.

mod common;

use common::{HOUR, MANIFEST, MemoryBoard, begin, formatted, run_to, secret, start};
use firmware::pump::Pump;
use protocol::chain::{ChainHead, TagKey};

/// Which of the trial's first keys are in the memory.
fn keys_in(pump: &Pump<MemoryBoard>) -> Vec<usize> {
    let first = TagKey::of_trial(&secret(), &ChainHead::genesis(MANIFEST));
    let keys = std::iter::successors(Some(first), |key| Some(key.next()));
    let nv = &pump.board().nv;
    keys.take(20)
        .enumerate()
        .filter(|(_, key)| nv.windows(32).any(|bytes| bytes == key.as_bytes()))
        .map(|(index, _)| index)
        .collect()
}

#[test]
fn no_key_but_the_present_one_is_in_the_memory() {
    let mut pump = start(formatted(20));
    assert_eq!(keys_in(&pump).len(), 1, "{:?}", keys_in(&pump));
    let at_start = keys_in(&pump);
    begin(&mut pump, 1_000);
    for hour in 1..=4 {
        run_to(&mut pump, hour * HOUR + 1_000);
        assert_eq!(keys_in(&pump).len(), 1, "{:?}, hour {hour}", keys_in(&pump));
    }
    assert!(keys_in(&pump) > at_start, "the key was replaced");
    let before = keys_in(&pump);
    let again = start(pump.into_board().powered_again());
    assert_eq!(keys_in(&again).len(), 1, "{:?}", keys_in(&again));
    assert!(keys_in(&again) > before, "a start replaces it too");
}
