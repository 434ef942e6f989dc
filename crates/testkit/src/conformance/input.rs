//! How a `JobStore` keeps what goes into a job: in order, up to a limit, from one writer at a time.

use airunner_core::{
    AttemptOutcome, Cancellation, Exit, InputWrite, InputWriter, Job, JobId, Label, Result, Stores,
    TerminalSize, WriterId,
};

use super::world::{NOW, World, refused};
use crate::records::{JobExt as _, audit};

const SIZE: TerminalSize = TerminalSize { rows: 50, columns: 200 };

/// Bytes that nobody in particular writes.
fn bytes(job_id: JobId, bytes: &[u8]) -> InputWrite {
    InputWrite { job_id, writer: None, take: false, bytes: bytes.to_vec(), end: false, size: None }
}

async fn write(world: &World, write: InputWrite) -> Result<()> {
    world.stores.jobs.write_input(write, audit("job.input", "x", NOW)).await
}

async fn read(world: &World, job: &Job) -> Vec<(u64, Vec<u8>, bool, Option<TerminalSize>)> {
    let inputs = world.stores.jobs.inputs_after(&job.id, 0, 100).await.unwrap();
    inputs.into_iter().map(|input| (input.n, input.bytes, input.end, input.size)).collect()
}

fn reader(world: &World) -> Job {
    world.job().with(|spec| spec.stdin = true)
}

pub async fn standard_input_is_kept_in_order(stores: Stores) {
    let world = World::new(stores);
    let job = world.running_with(reader(&world), "w1").await;
    write(&world, bytes(job.id, b"one\0\xff")).await.unwrap();
    write(&world, bytes(job.id, b"two")).await.unwrap();
    write(&world, InputWrite { end: true, ..bytes(job.id, b"") }).await.unwrap();
    refused(write(&world, bytes(job.id, b"late")).await, Label::JobEnded);
    let all = [
        (1, b"one\0\xff".to_vec(), false, None),
        (2, b"two".to_vec(), false, None),
        (3, Vec::new(), true, None),
    ];
    assert_eq!(read(&world, &job).await, all);
    let second = world.stores.jobs.inputs_after(&job.id, 1, 1).await.unwrap();
    assert_eq!((second.len(), second[0].n), (1, 2));
    assert_eq!(world.stores.jobs.inputs_after(&job.id, 3, 10).await.unwrap(), []);
    assert_eq!(world.audited("job.input").await, 3);
    // The next attempt reads it again from the start.
    world.complete("w1", &job, AttemptOutcome::Failed("no".to_owned())).await.unwrap();
    assert_eq!(read(&world, &job).await, all);
}

pub async fn standard_input_has_a_limit(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let some = |count: usize| bytes(job.id, &vec![7; count]);
    write(&world, some(1024 * 1024 - 1)).await.unwrap();
    refused(write(&world, some(2)).await, Label::LimitReached);
    write(&world, some(1)).await.unwrap();
    refused(write(&world, some(1)).await, Label::LimitReached);
}

pub async fn what_has_ended_takes_no_input(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
    refused(write(&world, bytes(job.id, b"x")).await, Label::JobEnded);
    let unknown = world.job();
    refused(write(&world, bytes(unknown.id, b"x")).await, Label::NotFound);
    assert_eq!(read(&world, &unknown).await, []);
    assert_eq!(world.audited("job.input").await, 0);
}

pub async fn one_writes_at_a_time_and_what_is_sent_twice_is_written_once(stores: Stores) {
    let world = World::new(stores);
    let job = world.running_with(reader(&world), "w1").await;
    let [first, second] = [1, 2].map(|n| WriterId::from_bytes([n; 16]));
    let by = |id, piece, text: &str| InputWrite {
        writer: Some(InputWriter { id, piece }),
        ..bytes(job.id, text.as_bytes())
    };
    write(&world, by(first, 1, "a")).await.unwrap();
    write(&world, by(first, 1, "a")).await.expect("what is there already is dropped");
    write(&world, by(first, 2, "b")).await.unwrap();
    refused(write(&world, by(second, 1, "x")).await, Label::InputTaken);
    refused(write(&world, bytes(job.id, b"x")).await, Label::InputTaken);
    write(&world, InputWrite { take: true, ..by(second, 1, "c") }).await.unwrap();
    refused(write(&world, by(first, 3, "x")).await, Label::InputTaken);
    write(&world, by(second, 2, "d")).await.unwrap();
    let written: Vec<u8> = read(&world, &job).await.into_iter().flat_map(|(_, bytes, ..)| bytes).collect();
    assert_eq!(written, b"abcd");
    // Taking the input is an act; each letter is none.
    assert_eq!(world.audited("job.input").await, 2);
}

pub async fn what_was_typed_at_a_terminal_is_never_typed_again(stores: Stores) {
    let world = World::new(stores);
    let terminal = world.job().with(|spec| spec.process_type = airunner_core::ProcessType::Terminal(SIZE));
    let job = world.running_with(terminal, "w1").await;
    write(&world, bytes(job.id, b"yes\r")).await.unwrap();
    write(&world, InputWrite { size: Some(SIZE), ..bytes(job.id, b"") }).await.unwrap();
    let all = [(1, b"yes\r".to_vec(), false, None), (2, Vec::new(), false, Some(SIZE))];
    assert_eq!(read(&world, &job).await, all);
    // One that is told to stop runs on for a while, and may be asked something.
    let cancellation = Cancellation {
        at: NOW,
        signal: 15,
        grace: std::time::Duration::from_secs(10),
        by: "alice".to_owned(),
    };
    world.stores.jobs.cancel_job(&job.id, cancellation, audit("job.cancel", "x", NOW)).await.unwrap();
    assert_eq!(read(&world, &job).await, all);
    world.complete("w1", &job, AttemptOutcome::HandedBack).await.unwrap();
    assert_eq!(read(&world, &job).await, []);
}
