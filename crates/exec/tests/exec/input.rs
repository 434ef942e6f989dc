//! Standard input.

use airunner_exec::{Exit, Signal, Stdin};
use std::time::Duration;

use crate::bench::{bounded, collect, command, shell, spawn, stdout_of};

#[tokio::test]
async fn without_a_wish_the_input_is_empty() {
    assert_eq!(stdout_of(command("cat")).await, "");
}

#[tokio::test]
async fn what_is_written_arrives_byte_for_byte_and_dropping_ends_it() {
    let (mut job, mut output) = spawn(command("cat").stdin(Stdin::Piped)).await;
    let mut input = job.input().unwrap();
    assert!(job.input().is_none());
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        for piece in sent.chunks(70_000) {
            input.write(piece).await.unwrap();
        }
    });
    let (stdout, _) = collect(&mut output).await;
    bounded(writing).await.unwrap();
    assert!(stdout == expected, "the bytes differ");
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
}

#[tokio::test]
async fn a_job_that_does_not_read_makes_the_writer_wait_and_its_end_frees_it() {
    let (mut job, _output) = spawn(shell("sleep 1000").stdin(Stdin::Piped)).await;
    let mut input = job.input().unwrap();
    let writing = tokio::spawn(async move { input.write(&vec![0; 1_000_000]).await });
    bounded(job.stop(Signal::Kill, Duration::ZERO)).await;
    let error = bounded(writing).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("takes no more input"), "{error}");
}

#[test]
fn signals_are_known_by_number() {
    assert_eq!(Signal::from_number(15), Some(Signal::Term));
    assert_eq!(Signal::from_number(9), Some(Signal::Kill));
    assert_eq!(Signal::from_number(64), None);
}
