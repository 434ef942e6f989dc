//! Killed at any moment, the store loses nothing that it acknowledged.
//!
//! The test runs itself as a child, which issues certificates, completes jobs and appends output, and prints what was
//! acknowledged after it was; kills it at some moment; and looks for everything that was printed.
//! `AIRUNNER_SOAK_ROUNDS` says how often; 50 times if it is not set.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use airunner_core::{
    AttemptOutcome, Completion, Exit, Issued, JobId, JobState, Labels, LeaseRequest, OutputChunk,
    OutputStream, Principal, QueueOrder, Sequence, Serial, Stores,
};
use airunner_store::{SqliteOptions, SqliteStore};
use airunner_testkit::{
    random::SeededRandom,
    records::{self, audit, id},
};

use crate::world::{NOW, Place, worker};

const DIR: &str = "AIRUNNER_TEST_KILL_DIR";
const ROUND: &str = "AIRUNNER_TEST_KILL_ROUND";

/// The job whose output is appended to, in every round.
const OUTPUT_JOB: JobId = JobId::from_bytes([0x77; 16]);

fn options(dir: &Path) -> SqliteOptions {
    SqliteOptions::new(dir.join("store.db"), dir.join("output"))
}

#[derive(Default)]
struct Acknowledged {
    serials: BTreeSet<Serial>,
    jobs: BTreeSet<JobId>,
    output: Option<u64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let rounds =
        std::env::var("AIRUNNER_SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(50);
    let place = Place::new();
    let store = place.open();
    let principal = worker(&store.stores(), "w1").await;
    let unlimited = airunner_core::PrincipalUpdate { max_certificates: Some(0), ..Default::default() };
    store
        .stores()
        .principals
        .update_principal(&principal.id, 1, unlimited, audit("u", "w1", NOW))
        .await
        .unwrap();
    store.close();
    let mut acknowledged = Acknowledged::default();
    for round in 0..rounds {
        let new = run_and_kill(place.path(), round);
        let store = SqliteStore::open(options(place.path())).unwrap();
        check(&store.stores(), &new, round).await;
        go_on(&store.stores(), round).await;
        store.close();
        acknowledged.add(new);
    }
    check_whole(&place, &acknowledged).await;
}

/// Lets a child write, and kills it after some number of acknowledged certificates.
fn run_and_kill(dir: &Path, round: u64) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let random: &dyn airunner_core::SecureRandom = &SeededRandom::new(round);
    let patience = usize::from(u16::from_be_bytes(random.array()) % 200) + 1;
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Acknowledged::default();
    for line in lines.map_while(Result::ok) {
        acknowledged.note(&line);
        if acknowledged.serials.len() == patience {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the child ended by itself in round {round}");
    acknowledged
}

impl Acknowledged {
    /// Notes what a line of the child says.
    fn note(&mut self, line: &str) {
        // A line that the kill cut short lacks its full stop, and acknowledges nothing.
        let Some((kind, what)) = line.strip_suffix('.').and_then(|line| line.split_once(' ')) else { return };
        match kind {
            "serial" => assert!(self.serials.insert(what.parse().unwrap()), "serial {what} was used twice"),
            "job" => assert!(self.jobs.insert(what.parse().unwrap()), "job {what} was completed twice"),
            "output" => self.output = Some(what.parse().unwrap()),
            _ => {}
        }
    }

    fn add(&mut self, new: Self) {
        assert!(self.serials.is_disjoint(&new.serials), "a serial was used in two rounds");
        assert!(self.jobs.is_disjoint(&new.jobs), "a job was completed in two rounds");
        self.serials.extend(new.serials);
        self.jobs.extend(new.jobs);
        self.output = self.output.max(new.output);
    }
}

async fn check(stores: &Stores, acknowledged: &Acknowledged, round: u64) {
    for serial in &acknowledged.serials {
        let found = stores.certificates.get_by_serial(serial).await.unwrap();
        assert_eq!(found.len(), 1, "round {round}: {serial} was acknowledged");
    }
    for job in &acknowledged.jobs {
        let found = stores.jobs.get_job(job).await.unwrap().unwrap();
        assert_eq!(found.state, JobState::Completed, "round {round}: job {job} was acknowledged");
        let events = stores.events.events_after(job, Sequence::default(), 10).await.unwrap();
        assert_eq!(events.len(), 1, "round {round}: job {job} ended once");
    }
    if let Some(last) = acknowledged.output {
        let kept = stores.output.last_output(&OUTPUT_JOB, 1).await.unwrap().unwrap();
        assert!(kept.n() >= last, "round {round}: output {last} was acknowledged, {kept} is kept");
    }
}

/// Issues another certificate.
async fn go_on(stores: &Stores, round: u64) {
    let holder = stores.principals.get_principal(&id("w1")).await.unwrap().unwrap();
    let random = SeededRandom::new(round + (1 << 33));
    assert_eq!(issue(stores, &holder, &random).await.1, Issued::New);
}

async fn check_whole(place: &Place, acknowledged: &Acknowledged) {
    let twice = "SELECT count(*) FROM (SELECT 1 FROM certificates GROUP BY issuer_id, serial_number HAVING count(*) > 1)";
    assert_eq!(place.by_hand(twice), "0");
    assert_eq!(place.by_hand("PRAGMA integrity_check"), "ok");
    let ends = "SELECT count(*) FROM job_events GROUP BY job ORDER BY 1 DESC LIMIT 1";
    assert_eq!(place.by_hand(ends), "1");
    let store = SqliteStore::open(options(place.path())).unwrap();
    let stores = store.stores();
    check(&stores, acknowledged, u64::MAX).await;
    let read = stores.output.output_after(&OUTPUT_JOB, Sequence::default(), usize::MAX).await.unwrap();
    let places: Vec<_> = read.chunks.iter().map(|chunk| chunk.sequence.n()).collect();
    assert!(places.iter().copied().eq(1..=places.len() as u64), "output has a gap");
    assert!(read.chunks.iter().all(|chunk| chunk.bytes == line(chunk.sequence.n())));
    assert!(Some(places.len() as u64) >= acknowledged.output);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs until it is killed: the test above runs it as a child"]
async fn child() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = SqliteStore::open(options(&dir)).unwrap();
    let stores = store.stores();
    let holder = stores.principals.get_principal(&id("w1")).await.unwrap().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (stores, holder) = (stores.clone(), holder.clone());
        tasks.spawn(async move {
            let random = SeededRandom::new((round << 4) | task);
            loop {
                let (serial, _) = issue(&stores, &holder, &random).await;
                acknowledge("serial", serial);
            }
        });
    }
    tasks.spawn(complete_jobs(stores.clone(), round));
    tasks.spawn(append_output(stores));
    // None of them ends but by a failure.
    tasks.join_next().await.unwrap().unwrap();
}

async fn issue(stores: &Stores, holder: &Principal, random: &SeededRandom) -> (Serial, Issued) {
    let leaf = records::certificate(holder, NOW, random);
    let serial = leaf.serial;
    let issuance = airunner_core::Issuance { principal_version: 2, ..records::issuance(leaf) };
    (serial, stores.certificates.record_issued(issuance).await.unwrap())
}

async fn complete_jobs(stores: Stores, round: u64) {
    let random = SeededRandom::new((round << 4) | 9);
    loop {
        let job = records::job("w1", NOW, &random);
        stores.jobs.enqueue_jobs(vec![job], None, audit("job.enqueue", "x", NOW)).await.unwrap();
        let ask = LeaseRequest {
            queues: vec![records::queue("default")],
            order: QueueOrder::Strict,
            turn: 0,
            labels: Labels::new(),
            holder: id("w1"),
            worker: None,
            max: 1,
            now: NOW,
            deadline: NOW.plus(std::time::Duration::from_mins(5)),
        };
        for job in stores.jobs.lease_jobs(&ask).await.unwrap() {
            let outcome = AttemptOutcome::Exited(Exit::Code(0));
            let completion = Completion { job_id: job.id, attempt: job.attempt, outcome, usage: None };
            let done = stores.jobs.complete_jobs(&id("w1"), &[completion], NOW).await.unwrap();
            assert!(done[0].is_ok());
            acknowledge("job", job.id);
        }
    }
}

async fn append_output(stores: Stores) {
    let mut last = stores.output.last_output(&OUTPUT_JOB, 1).await.unwrap().map_or(0, Sequence::n);
    loop {
        last += 1;
        let chunk = OutputChunk {
            sequence: Sequence::new(1, last),
            at: NOW,
            stream: OutputStream::Stdout,
            bytes: line(last).into(),
        };
        stores.output.append_output(&OUTPUT_JOB, &[chunk]).await.unwrap();
        acknowledge("output", last);
    }
}

fn line(n: u64) -> Vec<u8> {
    format!("line {n}\n").repeat(20).into_bytes()
}

fn acknowledge(kind: &str, what: impl std::fmt::Display) {
    let line = format!("{kind} {what}.\n");
    // Past the capture of the test harness, and in one piece.
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
