//! What the fuzzers run, on inputs made here: those that are kept, and those that a seeded generator makes of them.
//! `AIRUNNER_FUZZ_ROUNDS` multiplies how many.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, panic, path::Path};

use airunner_harness::{TARGETS, Target, mutate::Mutator};

/// Inputs that were kept: those that fuzzers found worth it, and those that once went wrong.
fn kept(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn run(target: &Target, input: &[u8]) {
    let outcome = panic::catch_unwind(|| (target.run)(input));
    assert!(outcome.is_ok(), "{} fails on {input:?}", target.name);
}

fn runs(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut corpus = (target.seeds)();
    corpus.extend(kept(target));
    assert!(corpus.len() >= 3, "{name} has nothing to begin with");
    for input in &corpus {
        run(target, input);
    }
    let times: u32 = std::env::var("AIRUNNER_FUZZ_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let mutator = Mutator::new(u64::from(times));
    for _ in 0..target.rounds.saturating_mul(times) {
        run(target, &mutator.input(&corpus));
    }
}

#[test]
fn certificate_requests() {
    runs("csr");
}

#[test]
fn certificates() {
    runs("certificate");
}

#[test]
fn enrolment_tokens() {
    runs("token");
}

#[test]
fn json_bodies() {
    runs("json");
}

#[test]
fn paths_and_queries() {
    runs("path");
}

#[test]
fn grpc_frames() {
    runs("frame");
}

#[test]
fn page_tokens() {
    runs("page");
}

#[test]
fn each_target_has_a_fuzzer_and_a_corpus() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let text = fs::read_to_string(manifest.join("Cargo.toml")).unwrap();
    for target in &TARGETS {
        assert!(text.contains(&format!("name = \"{}\"", target.name)), "{} has no fuzzer", target.name);
        assert!(!kept(target).is_empty(), "{} has no corpus", target.name);
    }
    assert_eq!(text.matches("[[bin]]").count(), TARGETS.len());
}
