//! See `fuzzing::websocket_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::websocket_messages(bytes));
