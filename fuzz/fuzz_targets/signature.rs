//! Signed requests as they come to the doors. What has to hold is in `tests/corpus/targets.rs`.
#![no_main]

#[path = "../../tests/corpus/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = targets::signature(input);
});
