//! See `fuzzing::signatures`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::signatures(bytes));
