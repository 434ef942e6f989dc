//! Bytes that are no text, a great many of them, through everything: job, worker, server, watcher, command line.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use airunner_core::SecureRandom as _;
use airunner_pki::sha256;
use airunner_proto::job::v1::{GetJobRequest, JobSpec, JobState};
use airunner_testkit::random::SeededRandom;

use crate::world::{World, until_answered};

/// Bytes that the job prints.
const SIZE: usize = 64 << 20;
/// How long the watcher may take to get on: a lost server is noticed, another is looked for.
const PATIENCE: Duration = Duration::from_mins(2);

/// Every byte there is in any order, then one line of 16 MiB, then nothing but NUL, then half a character, without end of
/// line.
fn hostile() -> Vec<u8> {
    let mut noise = vec![0; 65_536];
    SeededRandom::new(64).fill(&mut noise);
    let mut bytes: Vec<u8> = Vec::with_capacity(SIZE);
    while bytes.len() < SIZE / 2 {
        // No two blocks are alike: one that came twice or not at all shows.
        bytes.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&noise);
    }
    bytes.resize(bytes.len() + (16 << 20), b'x');
    bytes.resize(SIZE - 2, 0);
    // The first two of the three bytes of a character.
    bytes.extend_from_slice(&"\u{20ac}".as_bytes()[..2]);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_changed_lost_or_doubled_over_servers_that_are_killed() {
    let mut world = World::start(1).await;
    let (source, seen) = (world.folder().join("hostile"), world.folder().join("seen"));
    let all = hostile();
    fs::write(&source, &all).unwrap();
    let job =
        JobSpec { command: "cat".to_owned(), args: vec![source.display().to_string()], ..JobSpec::default() };
    let id = world.enqueue(job).await;
    let mut watching = world.command_line(&["job", "logs", "--follow", &id]);
    let mut watcher = watching.stdout(File::create(&seen).unwrap()).spawn().unwrap();
    for part in [SIZE / 8, SIZE / 2] {
        grows_to(&seen, part, &mut watcher).await;
        world.restart_server();
    }
    let ended = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || watcher.wait().unwrap()));
    assert!(ended.await.expect("the watcher never ended").unwrap().success());

    let same = |bytes: &[u8], whose: &str| {
        assert_eq!(bytes.len(), SIZE, "{whose}");
        assert_eq!(sha256(bytes), sha256(&all), "{whose}");
    };
    same(&fs::read(&seen).unwrap(), "the watcher's, who came again by itself");
    let job = until_answered(async || {
        let request = GetJobRequest { job_id: id.clone() };
        world.client().jobs().get_job(request).await.map(|answer| answer.into_inner().job.unwrap())
    })
    .await;
    assert_eq!(
        (job.state(), job.attempt),
        (JobState::Completed, 1),
        "the worker went on with the same lease"
    );
    for verb in ["logs", "output"] {
        same(&printed(&mut world.command_line(&["job", verb, &id])), verb);
    }
}

/// Waits until the file has so many bytes; there are more to come.
async fn grows_to(file: &Path, bytes: usize, watcher: &mut Child) {
    let grown = tokio::time::timeout(PATIENCE, async {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while fs::metadata(file).unwrap().len() < bytes as u64 {
            assert!(watcher.try_wait().unwrap().is_none(), "the watcher ended before the job");
            look.tick().await;
        }
    });
    grown.await.expect("the watcher gets nothing");
}

fn printed(command: &mut Command) -> Vec<u8> {
    let run = command.stderr(Stdio::piped()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}
