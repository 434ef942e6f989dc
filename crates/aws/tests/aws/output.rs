//! Output in S3: it does what every store of output must, whichever server writes and whichever reads, and a long job
//! stays a short list.

use std::{sync::Arc, time::Duration};

use airunner_aws::{
    S3Output,
    output::{create_bucket, has_bucket},
};
use airunner_core::{JobId, Label, OutputChunk, OutputStore, OutputStream, Sequence, Stores, Timestamp};
use airunner_store::MemoryStore;
use airunner_testkit::{conformance::OUTPUT_LIMIT, output_conformance, random::SeededRandom};

use crate::bed::{aws, name, s3};

output_conformance!(s3_output, async || -> Stores {
    let (output, _) = output(OUTPUT_LIMIT).await;
    Stores { output: Arc::new(output), ..MemoryStore::new(OUTPUT_LIMIT).stores() }
});

async fn output(limit: u64) -> (S3Output, String) {
    let (aws, bucket) = (aws(), name("airunner-test-output"));
    assert!(create_bucket(&aws, &bucket).await.unwrap());
    (S3Output::open(&aws, &bucket, limit).await.unwrap(), bucket)
}

fn job(seed: u64) -> JobId {
    JobId::new(Timestamp::from_millis(1), &SeededRandom::new(seed))
}

fn chunk(n: u64, bytes: &[u8]) -> OutputChunk {
    let sequence = Sequence::new(1, n);
    OutputChunk {
        sequence,
        at: Timestamp::from_millis(5),
        stream: OutputStream::Stdout,
        bytes: bytes.to_vec().into(),
    }
}

async fn keys(bucket: &str) -> Vec<String> {
    let mut pages = s3().list_objects_v2().bucket(bucket).into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(page.unwrap().contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    keys
}

/// Waits, for a bounded time, for what goes on in the background.
async fn eventually(bucket: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..200 {
        found = keys(bucket).await;
        if is_so(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to be: {found:?}")
}

#[tokio::test]
async fn a_missing_bucket_names_both_ways_to_make_it() {
    let aws = aws();
    assert!(!has_bucket(&aws, "airunner-prod-output-1").await.unwrap());
    let error = S3Output::open(&aws, "airunner-prod-output-1", OUTPUT_LIMIT).await.err().unwrap();
    assert_eq!(error.label(), Label::AwsMissing);
    for says in ["airunner-prod-output-1", "eu-central-1", "Terraform", "--create", "[store] bucket"] {
        assert!(error.message().contains(says), "{error} does not say {says}");
    }
}

#[tokio::test]
async fn a_bucket_is_made_once() {
    let (aws, bucket) = (aws(), name("airunner-made-once"));
    assert!(create_bucket(&aws, &bucket).await.unwrap());
    create_bucket(&aws, &bucket).await.unwrap();
    assert!(has_bucket(&aws, &bucket).await.unwrap());
}

#[tokio::test]
async fn one_server_reads_what_another_wrote_and_goes_on_after_it() {
    let (one, bucket) = output(OUTPUT_LIMIT).await;
    let other = S3Output::open(&aws(), &bucket, OUTPUT_LIMIT).await.unwrap();
    let job = job(1);
    one.append_output(&job, &[chunk(1, b"a"), chunk(2, b"b")]).await.unwrap();
    assert_eq!(other.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, 2)));
    other.append_output(&job, &[chunk(2, b"b"), chunk(3, b"c")]).await.unwrap();
    // The first server does not know of the third chunk: what it writes overlaps, and is given once all the same.
    one.append_output(&job, &[chunk(2, b"b"), chunk(3, b"c"), chunk(5, b"d")]).await.unwrap();
    for server in [&one, &other] {
        let read = server.output_after(&job, Sequence::default(), 1 << 20).await.unwrap();
        assert_eq!(read.chunks, [chunk(1, b"a"), chunk(2, b"b"), chunk(3, b"c"), chunk(5, b"d")]);
    }
}

#[tokio::test]
async fn a_batch_is_never_overwritten() {
    let (one, bucket) = output(OUTPUT_LIMIT).await;
    let other = S3Output::open(&aws(), &bucket, OUTPUT_LIMIT).await.unwrap();
    let job = job(2);
    // Both think that they are first.
    assert_eq!(other.last_output(&job, 1).await.unwrap(), None);
    let (a, b) = ([chunk(1, b"first")], [chunk(1, b"other")]);
    let (first, second) = tokio::join!(one.append_output(&job, &a), other.append_output(&job, &b));
    first.and(second).unwrap();
    assert_eq!(keys(&bucket).await.len(), 1);
    let kept = one.output_after(&job, Sequence::default(), 1 << 20).await.unwrap().chunks;
    one.append_output(&job, &[chunk(1, b"third")]).await.unwrap();
    assert_eq!(other.output_after(&job, Sequence::default(), 1 << 20).await.unwrap().chunks, kept);
}

#[tokio::test]
async fn many_batches_become_one_segment_and_not_a_byte_is_lost() {
    let (output, bucket) = output(64 << 20).await;
    let job = job(3);
    let chunks: Vec<_> = (1..=70).map(|n| chunk(n, format!("line {n}\n").repeat(40).as_bytes())).collect();
    let mut place = Sequence::default();
    let mut followed = Vec::new();
    for chunk in &chunks {
        output.append_output(&job, std::slice::from_ref(chunk)).await.unwrap();
        // A watcher reads while the background merges.
        let read = output.output_after(&job, place, 1 << 20).await.unwrap();
        place = read.chunks.last().map_or(place, |chunk| chunk.sequence);
        followed.extend(read.chunks);
    }
    assert_eq!(followed, chunks);
    let segments = |keys: &[String]| keys.iter().filter(|key| key.ends_with(".segment")).count();
    let found = eventually(&bucket, |keys| segments(keys) > 0 && keys.len() <= 40).await;
    assert!(found.len() < chunks.len(), "{found:?}");
    // From every place, with room for a few.
    for after in [0, 1, 31, 32, 33, 69] {
        let mut place = Sequence::new(1, after);
        let mut read = Vec::new();
        loop {
            let got = output.output_after(&job, place, 1_000).await.unwrap();
            let Some(last) = got.chunks.last() else { break };
            place = last.sequence;
            read.extend(got.chunks);
        }
        assert_eq!(read, chunks[usize::try_from(after).unwrap()..], "after {after}");
    }
    // A server that starts now knows where the job is.
    let other = S3Output::open(&aws(), &bucket, 64 << 20).await.unwrap();
    assert_eq!(other.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, 70)));
    other.append_output(&job, &[chunk(70, b"again"), chunk(71, b"end")]).await.unwrap();
    let read = output.output_after(&job, Sequence::new(1, 69), 1 << 20).await.unwrap();
    assert_eq!(read.chunks, [chunks[69].clone(), chunk(71, b"end")]);
}

#[tokio::test]
async fn what_is_no_output_of_ours_is_let_be() {
    let (output, bucket) = output(OUTPUT_LIMIT).await;
    let job = job(4);
    let stray = format!("output/{job}/readme.txt");
    s3().put_object().bucket(&bucket).key(&stray).send().await.unwrap();
    output.append_output(&job, &[chunk(1, b"a")]).await.unwrap();
    let read = output.output_after(&job, Sequence::default(), 1 << 20).await.unwrap();
    assert_eq!(read.chunks, [chunk(1, b"a")]);
    assert!(keys(&bucket).await.contains(&stray));
}
