//! See `mock-load-api-server/src/fuzzing.rs` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mock_load_api_server::fuzzing::records(data));
