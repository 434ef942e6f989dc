//! `airunner_harness::token`, fuzzed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| airunner_harness::token::run(input));
