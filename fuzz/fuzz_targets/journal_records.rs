//! See `fuzzing::journal_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::journal_records(bytes));
