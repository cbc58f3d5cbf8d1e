//! See `etl/src/fuzzing.rs` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| etl::fuzzing::deflate(data));
