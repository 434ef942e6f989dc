//! The worker inside a server's process: what its jobs can't reach, and that it outlives its CA.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use airunner_client::{
    Client, ClientOptions, FollowOptions, Followed, IdentitySource, LoadedIdentity, follow_job,
};
use airunner_core::Isolation;
use airunner_pki::sha256;
use airunner_proto::job::v1::{EnqueueJobsRequest, JobSpec, OutputStream, job_event::Kind};
use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;

use crate::bed::{Bed, Process};

/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the environment of the server's process holds.
const CANARY: &str = "in-the-servers-environment";

/// A server with a worker inside, whose jobs run as another user where that is possible.
struct Running {
    bed: Bed,
    server: Process,
}

/// What a job printed.
#[derive(Debug, Default)]
struct Printed {
    stdout: String,
    stderr: String,
}

impl Running {
    async fn start(level: Isolation) -> Self {
        let bed = Bed::new().await;
        // What is kept from jobs is kept by the files' own modes.
        for folder in [bed.home.path(), bed.home.path().parent().unwrap()] {
            fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let mut command = bed.command(&["--ready-fd", "1"]);
        command.env("AIRUNNER_WORKER_EMBEDDED", "true").env("CANARY", CANARY);
        command.env("AIRUNNER_WORKER_ISOLATION", level.as_str());
        command.env("AIRUNNER_WORKER_SAME_USER", (!is_root()).to_string());
        Self { server: Process::start(command), bed }
    }

    /// A client of the first admin, by what bootstrap wrote last.
    fn admin(&self) -> Client {
        let (files, roots) = (self.bed.home.admin(), fs::read(self.bed.home.ca()).unwrap());
        let (chain, key) = (fs::read(files.cert).unwrap(), fs::read(files.key).unwrap());
        let identity = LoadedIdentity::from_pem(&chain, &key, None, &roots).unwrap();
        let source = IdentitySource::Loaded(Box::new(identity));
        let api = self.server.api.to_string().parse().unwrap();
        Client::new(ClientOptions::new(api, "", Some(source))).unwrap()
    }

    /// Submits a shell line as soon as the server takes it, and follows it to its end.
    async fn run(&self, line: &str) -> Printed {
        let ran = async {
            let admin = self.admin();
            let mut tries = tokio::time::interval(Duration::from_millis(50));
            let job_id = loop {
                tries.tick().await;
                let job = JobSpec {
                    command: "sh".to_owned(),
                    args: vec!["-c".to_owned(), line.to_owned()],
                    ..Default::default()
                };
                let request = EnqueueJobsRequest { jobs: vec![job], ..Default::default() };
                if let Ok(enqueued) = admin.jobs().enqueue_jobs(request).await {
                    break enqueued.into_inner().job_ids.remove(0);
                }
            };
            let mut printed = Printed::default();
            let mut events = std::pin::pin!(follow_job(&admin, &job_id, FollowOptions::default()));
            while let Some(followed) = events.next().await {
                let Followed::Event(event) = followed.unwrap() else { continue };
                let Some(Kind::Output(output)) = event.kind else { continue };
                let text = String::from_utf8_lossy(&output.data).into_owned();
                match output.stream() {
                    OutputStream::Stderr => printed.stderr.push_str(&text),
                    _ => printed.stdout.push_str(&text),
                }
            }
            printed
        };
        tokio::time::timeout(PATIENCE, ran).await.expect("the job ran in time")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where a worker keeps its workspaces that runs jobs as another user.
        let store = self.bed.store();
        let name = HEXLOWER.encode(&sha256(store.as_os_str().as_encoded_bytes())[..6]);
        let _ = fs::remove_dir_all(PathBuf::from(format!("/var/lib/airunner/worker-{name}")));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_reads_neither_the_keys_nor_the_store_nor_the_process_of_its_server() {
    // Without root the worker runs jobs as the server's own user, and says so at every start.
    assert!(is_root(), "this test needs root: only root runs jobs as another user");
    for level in Isolation::ALL {
        reads_no_secret(*level).await;
    }
}

async fn reads_no_secret(level: Isolation) {
    let running = Running::start(level).await;
    let (home, process) = (running.bed.home.path().display(), format!("/proc/{}", running.server.id()));
    let secrets =
        ["master.key", "airunner.db", "airunner.db-wal", "ca-key.pem", "server/key.pem", "admin/key.pem"];
    let secrets = secrets.iter().map(|file| format!("{home}/{file}"));
    let of_process = ["environ", "mem", "maps"].iter().map(|file| format!("{process}/{file}"));
    let all: Vec<String> = secrets.chain(of_process).collect();
    for file in all.iter().filter(|file| !file.starts_with("/proc")) {
        assert!(fs::exists(file).unwrap(), "{file} is what a server has");
    }
    let line = format!(
        "id -u; for file in {}; do cat $file && echo \"read $file\"; done; ls {process}/fd; env",
        all.join(" ")
    );
    let printed = running.run(&line).await;
    let own = fs::read_to_string(format!("{process}/environ")).unwrap();
    assert!(own.contains(CANARY), "there was something to be found");
    assert!(printed.stdout.starts_with("65534\n"), "{printed:?}");
    assert!(printed.stdout.contains("AIRUNNER_JOB_ID="), "the job got an environment: {printed:?}");
    assert!(!printed.stdout.contains("read ") && !printed.stdout.contains(CANARY), "{printed:?}");
    // In a sandbox they are not there at all.
    let why = if level == Isolation::Sandbox { "No such file" } else { "Permission denied" };
    assert_eq!(printed.stderr.matches(why).count(), all.len() + 1, "{level}: {printed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_stand_back_behind_their_server() {
    let running = Running::start(Isolation::None).await;
    let own = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(running.run("nice").await.stdout, format!("{}\n", (own + 10).min(19)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_follows_a_new_ca_without_a_restart() {
    let running = Running::start(Isolation::None).await;
    assert_eq!(running.run("echo before").await.stdout, "before\n");
    for n in 1..=2 {
        running.bed.bootstrap(true).await;
        assert_eq!(running.run(&format!("echo after {n}")).await.stdout, format!("after {n}\n"));
    }
}
