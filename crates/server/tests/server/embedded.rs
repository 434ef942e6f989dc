//! The worker inside a server's process: what its jobs can't reach, and that it outlives its CA.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use airunner_client::{
    Client, ClientOptions, FollowOptions, Followed, IdentitySource, LoadedIdentity, follow_job,
};
use airunner_host::{
    Home,
    bootstrap::Plan,
    config::Environment,
    local::{self, LocalPlan, Means},
};
use airunner_net::system::{SystemClock, SystemRandom};
use airunner_pki::sha256;
use airunner_proto::job::v1::{EnqueueJobsRequest, JobSpec, OutputStream, job_event::Kind};
use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;
use tempfile::TempDir;

/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the environment of the server's process holds.
const CANARY: &str = "in-the-servers-environment";

/// A local environment in a folder that everyone can pass through, and a server that runs over it.
struct Running {
    home: Home,
    api: SocketAddr,
    child: Child,
    _folder: TempDir,
}

/// What a job printed.
#[derive(Debug, Default)]
struct Printed {
    stdout: String,
    stderr: String,
}

impl Running {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let home = Home::at(folder.path().join("home"));
        bootstrap(&home, false).await;
        let mut child = Command::new(env!("CARGO_BIN_EXE_airunner-server"))
            .args(["--ready-fd", "1", "--config"])
            .arg(home.server_toml())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CANARY", CANARY)
            .env("AIRUNNER_LOG", "warn")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses: serde_json::Value = serde_json::from_str(&line).expect("the server starts");
        let api = addresses["api"].as_str().unwrap().parse().unwrap();
        Self { home, api, child, _folder: folder }
    }

    /// A client of the first admin, by what bootstrap wrote last.
    fn admin(&self) -> Client {
        let (files, roots) = (self.home.admin(), fs::read(self.home.ca()).unwrap());
        let (chain, key) = (fs::read(files.cert).unwrap(), fs::read(files.key).unwrap());
        let identity = LoadedIdentity::from_pem(&chain, &key, None, &roots).unwrap();
        let source = IdentitySource::Loaded(Box::new(identity));
        Client::new(ClientOptions::new(self.api.to_string().parse().unwrap(), "", Some(source))).unwrap()
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
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Where a worker keeps its workspaces that runs jobs as another user.
        let store = self.home.path().join("airunner.db");
        let name = HEXLOWER.encode(&sha256(store.as_os_str().as_encoded_bytes())[..6]);
        let _ = fs::remove_dir_all(PathBuf::from(format!("/var/lib/airunner/worker-{name}")));
    }
}

async fn bootstrap(home: &Home, force_new_ca: bool) {
    let free = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let plan = LocalPlan {
        environment: Environment::Local,
        domain: None,
        profile: None,
        api_addr: free,
        public_addr: free,
        plain_addr: free,
        metrics_addr: free,
        key_passphrase_file: None,
        same_user: !is_root(),
        steps: Plan { force_new_ca, ..Plan::first_admin().unwrap() },
    };
    let means =
        Means { variable: &|_| None, clock: Arc::new(SystemClock), random: Arc::new(SystemRandom::new()) };
    local::bootstrap(home, &plan, &means).await.unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_reads_neither_the_keys_nor_the_store_nor_the_process_of_its_server() {
    if !is_root() {
        // Without root the worker runs jobs as the server's own user, and says so at every start.
        return;
    }
    let server = Running::start().await;
    let (home, process) = (server.home.path().display(), format!("/proc/{}", server.child.id()));
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
    let printed = server.run(&line).await;
    let own = fs::read_to_string(format!("{process}/environ")).unwrap();
    assert!(own.contains(CANARY), "there was something to be found");
    assert!(printed.stdout.starts_with("65534\n"), "{printed:?}");
    assert!(printed.stdout.contains("AIRUNNER_JOB_ID="), "the job got an environment: {printed:?}");
    assert!(!printed.stdout.contains("read ") && !printed.stdout.contains(CANARY), "{printed:?}");
    assert_eq!(printed.stderr.matches("Permission denied").count(), all.len() + 1, "{printed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_follows_a_new_ca_without_a_restart() {
    let server = Running::start().await;
    assert_eq!(server.run("echo before").await.stdout, "before\n");
    for n in 1..=2 {
        bootstrap(&server.home, true).await;
        assert_eq!(server.run(&format!("echo after {n}")).await.stdout, format!("after {n}\n"));
    }
}
