//! See `fuzzing::json_requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::json_requests(bytes));
