//! `airunner_harness::frame`, fuzzed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| airunner_harness::frame::run(input));
