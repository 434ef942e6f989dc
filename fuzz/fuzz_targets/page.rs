//! `airunner_harness::page`, fuzzed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| airunner_harness::page::run(input));
