//! `airunner_harness::certificate`, fuzzed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| airunner_harness::certificate::run(input));
