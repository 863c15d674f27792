//! See `evidence/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = (fuzz_bodies::target("line").expect("a target of this name").body)(input);
});
