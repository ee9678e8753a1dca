//! See `fuzzing::event_log_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::event_log_records(bytes));
