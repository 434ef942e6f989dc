//! Workers in processes of their own: what is left when one is killed, and what its jobs can't reach.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use airunner_agent::{WorkerOptions, run_worker};
use airunner_client::{Client, ClientOptions, IdentityFiles, IdentitySource};
use airunner_core::PrincipalType;
use airunner_net::system::{SystemClock, SystemRandom};
use airunner_proto::job::v1::{JobState, exit::How};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, Worker, is_alive, is_root, open_directory, shell, until, user};

const IDENTITY: &str = "TEST_IDENTITY";
const SERVER: &str = "TEST_SERVER";
const STATE: &str = "TEST_STATE";
/// What the environment of the process holds.
const CANARY: &str = "in-the-workers-environment";

/// The worker of a [`WorkerProcess`].
#[tokio::test]
#[ignore = "a role that a test plays in another process"]
async fn worker_role() {
    let Ok(folder) = std::env::var(IDENTITY) else { return };
    let files = IdentityFiles::open(folder.as_ref(), None).unwrap();
    let server = std::env::var(SERVER).unwrap().parse().unwrap();
    let client = Client::new(ClientOptions::new(server, "", Some(IdentitySource::Folder(files)))).unwrap();
    let options = WorkerOptions { user: user(), ..WorkerOptions::new(std::env::var(STATE).unwrap()) };
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom::new()));
    run_worker(client, options, clock, random, CancellationToken::new()).await.unwrap();
}

/// A worker of the bed's principal. It is killed when this is dropped.
struct WorkerProcess {
    child: Child,
    /// Its certificate and key, in a folder that everyone can pass through.
    identity: TempDir,
    state: TempDir,
}

impl WorkerProcess {
    fn start(bed: &Bed) -> Self {
        let (identity, state) = (open_directory(), open_directory());
        let credentials = &bed.credentials;
        let chain: String =
            credentials.chain.iter().map(|der| airunner_pki::certificate_to_pem(der)).collect();
        let key = credentials.key.to_pem(None).unwrap().expose().to_vec();
        for (name, content) in [
            ("key.pem", key),
            ("cert.pem", chain.into_bytes()),
            ("ca.pem", bed.server.roots_pem().into_bytes()),
        ] {
            let path = identity.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["process::worker_role", "--exact", "--ignored", "--nocapture"])
            .env(IDENTITY, identity.path())
            .env(SERVER, bed.server.addresses.api.to_string())
            .env(STATE, state.path())
            .env("CANARY", CANARY)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, identity, state }
    }

    /// Kills it as `kill -9` does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another worker over the same state, in this process.
    fn succeeded(mut self, bed: &Bed) -> Worker {
        let state = std::mem::replace(&mut self.state, open_directory());
        Worker::start(bed.client(), state, |_| {})
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_a_killed_worker_left_running_is_gone_after_the_next_start() {
    let bed = Bed::new().await;
    let mut victim = WorkerProcess::start(&bed);
    let place = open_directory();
    // The job leaves a child behind that has forgotten its parent.
    let line =
        format!("cd {}; (sleep 1001 & echo $! > child); echo ready; exec sleep 1000", place.path().display());
    let job_id = bed.submit(shell(&line)).await;
    let pid = bed.watch(&job_id).until(|seen| !seen.stdout.is_empty()).await.started[0];
    let child: u32 = fs::read_to_string(place.path().join("child")).unwrap().trim().parse().unwrap();
    victim.kill();
    assert!(is_alive(pid) && is_alive(child));
    let workspace = format!("work/{job_id}-1");
    assert!(victim.state.path().join(&workspace).exists());

    let next = victim.succeeded(&bed);
    until(async || !is_alive(pid) && !is_alive(child)).await;
    until(async || !next.state.path().join(&workspace).exists()).await;
    next.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_of_a_killed_worker_runs_again_elsewhere_once_its_lease_is_over() {
    let bed = Bed::new().await;
    let mut victim = WorkerProcess::start(&bed);
    let line = "echo $AIRUNNER_ATTEMPT; [ $AIRUNNER_ATTEMPT -gt 1 ] || exec sleep 1000";
    let job_id = bed.submit(shell(line)).await;
    let mut watch = bed.watch(&job_id);
    let pid = watch.until(|seen| !seen.stdout.is_empty()).await.started[0];
    victim.kill();

    let elsewhere = bed.server.principal("elsewhere", PrincipalType::Worker).await;
    let other = Worker::start(bed.client_of(&elsewhere), open_directory(), |_| {});
    // Another job shows that it works, and that the lease of the dead one still counts.
    assert_eq!(bed.run(shell("echo works")).await.text(), "works\n");
    let held = bed.job(&job_id).await;
    assert_eq!((held.state(), held.attempt, held.holder.as_str()), (JobState::Running, 1, "worker"));

    bed.server.turn_ahead(Duration::from_secs(5 * 60 + 3)).await;
    bed.server.app.housekeeping.step().await.unwrap();
    watch.until(|seen| seen.started.len() == 2).await;
    let report = watch.end().await;
    assert_eq!((report.state(), report.exit()), (JobState::Completed, Some(How::Code(0))));
    assert_eq!(report.text(), "1\n2\n");
    other.stop().await.unwrap();

    let next = victim.succeeded(&bed);
    until(async || !is_alive(pid)).await;
    next.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_reads_neither_the_key_nor_the_process_of_its_worker() {
    if !is_root() {
        // Without root a worker runs jobs as itself, and says so.
        return;
    }
    let bed = Bed::new().await;
    let worker = WorkerProcess::start(&bed);
    let process = format!("/proc/{}", worker.child.id());
    let secrets = ["environ", "mem", "maps"].map(|file| format!("{process}/{file}"));
    let key = worker.identity.path().join("key.pem");
    let line = format!(
        "id -u; for file in {} {}; do cat $file && echo \"read $file\"; done; ls {process}/fd; env",
        key.display(),
        secrets.join(" ")
    );
    let report = bed.run(shell(&line)).await;
    let own = fs::read_to_string(&secrets[0]).unwrap();
    assert!(own.contains(CANARY), "there was something to be found");
    let (stdout, stderr) = (report.text(), String::from_utf8(report.stderr).unwrap());
    assert!(stdout.starts_with("65534\n") && stdout.contains("AIRUNNER_JOB_ID="), "{stdout}");
    assert!(!stdout.contains("read ") && !stdout.contains(CANARY), "{stdout}");
    assert_eq!(stderr.matches("Permission denied").count(), 5, "{stderr}");
}
