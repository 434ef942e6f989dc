//! `airunner_harness::csr`, fuzzed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| airunner_harness::csr::run(input));
