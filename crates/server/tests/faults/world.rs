//! A server, two workers, and those who submit and watch, each with a way of its own to the server.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use airunner_client::{Client, ClientOptions, IdentitySource, LoadedIdentity};
use airunner_core::{PrincipalType, SecureRandom};
use airunner_e2e::Line;
use airunner_pki::certificate_to_pem;
use airunner_proto::{
    ca::v1::ListCertificatesRequest,
    job::v1::{EnqueueJobsRequest, ListJobsRequest},
};
use airunner_testkit::random::SeededRandom;
use tonic::Status;

use crate::{
    bed::{Bed, Process},
    fault::signal,
    job::{Running, Task},
};

/// How long the world may take to be well again: a lease that a worker died with runs out first, and so does what HTTP/2
/// allows for the answer to a ping.
const PATIENCE: Duration = Duration::from_mins(2);
/// Jobs that are submitted in a round.
const JOBS: u64 = 3;
/// The shortest lease there is.
const LEASE: &str = "10s";
/// What lets a process see another wall clock, in a folder of /usr/lib that is named for the machine.
const FAKE_CLOCK: &str = "faketime/libfaketimeMT.so.1";

/// Whatever is drawn, drawn from one seed.
pub(crate) struct Dice {
    random: Box<dyn SecureRandom>,
    pub(crate) start: u64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        let random: Box<dyn SecureRandom> = Box::new(SeededRandom::new(seed));
        let start = u64::from_be_bytes(random.array()) % 1_000;
        Self { random, start }
    }

    pub(crate) fn up_to(&self, most: u64) -> u64 {
        u64::from_be_bytes(self.random.array()) % (most + 1)
    }

    pub(crate) fn coin(&self) -> bool {
        self.up_to(1) == 1
    }
}

struct Worker {
    child: Option<Child>,
    line: Line,
    folder: PathBuf,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    bed: Bed,
    server: Option<Process>,
    workers: Vec<Worker>,
    watchers: Line,
    client: Client,
    running: Vec<Running>,
    clock: PathBuf,
}

impl World {
    pub(crate) async fn start(seed: u64) -> Self {
        let bed = Bed::new().await;
        let clock = bed.home.path().join("clock");
        fs::write(&clock, "+0s").unwrap();
        let server = Process::start(command(&bed, &clock));
        let mut workers = Vec::new();
        for id in ["w1", "w2"] {
            let folder = bed.home.path().join(id);
            write_identity(&bed, &server, id, &folder).await;
            workers.push(Worker { child: None, line: Line::to(server.api).await, folder });
        }
        let watchers = Line::to(server.api).await;
        let client = admin(&bed, &watchers);
        let dice = Dice::new(seed);
        let mut world =
            Self { dice, bed, server: Some(server), workers, watchers, client, running: Vec::new(), clock };
        (0..world.workers.len()).for_each(|worker| world.start_worker(worker));
        world
    }

    /// Submits jobs, as often as it takes until they are accepted, and sets watchers on them.
    pub(crate) async fn submit(&mut self) {
        for _ in 0..JOBS {
            let task = Task::draw(&self.dice);
            let request_id = format!("{:032x}", u128::from_be_bytes(self.dice.random.array()));
            let request = EnqueueJobsRequest { jobs: vec![task.spec()], request_id };
            let enqueued = until_answered(async || self.client.jobs().enqueue_jobs(request.clone()).await);
            let id = enqueued.await.into_inner().job_ids.remove(0);
            self.running.push(Running::watch(self.client.clone(), id, task));
        }
    }

    /// Waits until the server says that it is ready.
    pub(crate) async fn is_well_again(&self) {
        self.server().until_ready_says(200, "ready").await;
    }

    /// Waits until every job has ended, and checks what was seen of it; then that nothing is left of any.
    pub(crate) async fn settle(mut self) {
        let running = std::mem::take(&mut self.running);
        let accepted = running.len();
        let certified = running.iter().filter(|job| job.task.certified).count();
        for job in running {
            let ended = tokio::time::timeout(PATIENCE, job.ended_well(&self.client)).await;
            ended.expect("a job never ended");
        }
        let listed = until_answered(async || {
            let request = ListJobsRequest { page_size: 1_000, ..Default::default() };
            self.client.jobs().list_jobs(request).await
        });
        let listed = listed.await.into_inner();
        assert!(listed.next_page_token.is_empty(), "one page holds all that a test submits");
        assert_eq!(listed.jobs.len(), accepted, "what was accepted is there, and nothing twice");
        self.certificates_are_over(certified).await;
        for worker in &mut self.workers {
            let mut child = worker.child.take().unwrap();
            signal(child.id(), "-TERM");
            assert!(child.wait().unwrap().success(), "a worker ends in order");
            let left: Vec<_> = workspaces(&worker.folder);
            assert!(left.is_empty(), "{left:?}");
        }
        assert_eq!(
            processes_of_jobs(self.bed.home.path()),
            Vec::<String>::new(),
            "a process of a job is left"
        );
        self.server.take().unwrap().stop();
    }

    /// Every certificate that a job was given is revoked, and each that was to have one had one.
    async fn certificates_are_over(&self, jobs: usize) {
        let listed = until_answered(async || {
            let request = ListCertificatesRequest { page_size: 1_000, ..Default::default() };
            self.client.certificates().list_certificates(request).await
        });
        let listed = listed.await.into_inner();
        assert!(listed.next_page_token.is_empty(), "one page holds all that a test needs");
        let given: Vec<_> = listed.certificates.iter().filter(|one| !one.job_id.is_empty()).collect();
        let left: Vec<_> = given.iter().filter(|one| !one.revoked).map(|one| &one.job_id).collect();
        assert!(left.is_empty(), "jobs have ended, and their certificates have not: {left:?}");
        let certified: BTreeSet<_> = given.iter().map(|one| &one.job_id).collect();
        assert_eq!(certified.len(), jobs);
    }

    pub(crate) fn server(&self) -> &Process {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn worker(&self, worker: usize) -> &Child {
        self.workers[worker].child.as_ref().unwrap()
    }

    pub(crate) fn line_of(&self, worker: usize) -> &Line {
        &self.workers[worker].line
    }

    pub(crate) fn watchers_line(&self) -> &Line {
        &self.watchers
    }

    /// Kills the server, and starts another on the same store, at another address.
    pub(crate) fn restart_server(&mut self) {
        drop(self.server.take());
        let server = Process::start(command(&self.bed, &self.clock));
        for line in self.workers.iter().map(|worker| &worker.line).chain([&self.watchers]) {
            line.leads_to(server.api);
        }
        self.server = Some(server);
    }

    /// Kills a worker, and starts it again.
    pub(crate) fn restart_worker(&mut self, worker: usize) {
        let mut child = self.workers[worker].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.start_worker(worker);
    }

    /// Turns the server's wall clock by so many seconds from the right time.
    pub(crate) fn set_clock(&self, seconds: i64) {
        fs::write(&self.clock, format!("{seconds:+}s")).unwrap();
    }

    fn start_worker(&mut self, worker: usize) {
        let Worker { child, line, folder } = &mut self.workers[worker];
        let program = Path::new(env!("CARGO_BIN_EXE_airunner-server")).with_file_name("airunner-cli");
        let mut command = Command::new(program);
        command.args(["worker", "--same-user", "--concurrency", "4", "--drain", "0"]);
        command.args(["--visibility-timeout", LEASE, "--server", &line.address().to_string()]);
        for (flag, file) in [
            ("--cacert", self.bed.home.ca()),
            ("--client-cert", folder.join("chain.pem")),
            ("--client-key", folder.join("key.pem")),
            ("--state-dir", folder.join("state")),
        ] {
            command.arg(flag).arg(file);
        }
        command.env_clear().current_dir("/").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &*folder).env("AIRUNNER_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null());
        let started = command.spawn();
        *child = Some(started.expect("this test needs the other binary: run it with --workspace"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().filter_map(|worker| worker.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The server, under a wall clock that can be turned. Monotonic time is left alone, as the kernel leaves it.
fn command(bed: &Bed, clock: &Path) -> Command {
    let folders = fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let fake_clock = folders.map(|folder| folder.path().join(FAKE_CLOCK)).find(|file| file.exists());
    let fake_clock = fake_clock.expect("this test needs libfaketime: run `make test-tools`");
    let mut command = bed.command(&["--ready-fd", "1"]);
    command.env("LD_PRELOAD", fake_clock).env("FAKETIME_TIMESTAMP_FILE", clock);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_CACHE_DURATION", "0");
    command.env("AIRUNNER_LOG", "error");
    command
}

fn admin(bed: &Bed, line: &Line) -> Client {
    let (files, roots) = (bed.home.admin(), fs::read(bed.home.ca()).unwrap());
    let (chain, key) = (fs::read(files.cert).unwrap(), fs::read(files.key).unwrap());
    let identity = LoadedIdentity::from_pem(&chain, &key, None, &roots).unwrap();
    let source = IdentitySource::Loaded(Box::new(identity));
    Client::new(ClientOptions::new(line.address().to_string().parse().unwrap(), "", Some(source))).unwrap()
}

async fn write_identity(bed: &Bed, server: &Process, id: &str, folder: &Path) {
    let identity = bed.principal(server, id, PrincipalType::Worker).await;
    fs::create_dir_all(folder).unwrap();
    let chain: String = identity.chain.iter().map(|der| certificate_to_pem(der)).collect();
    fs::write(folder.join("chain.pem"), chain).unwrap();
    let key = folder.join("key.pem");
    fs::write(&key, identity.key.to_pem(None).unwrap().expose()).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Asks until there is an answer, whatever happens to the server meanwhile.
pub(crate) async fn until_answered<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> T {
    let answered = tokio::time::timeout(PATIENCE, async {
        loop {
            match ask().await.map_err(airunner_client::Error::from) {
                Ok(answer) => return answer,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    answered.await.expect("the server never answered")
}

fn workspaces(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("state/workspaces")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Processes whose working folder is in the world's.
fn processes_of_jobs(home: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let within = |process: &fs::DirEntry| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder.starts_with(home))
    };
    let name = |process: fs::DirEntry| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    };
    processes.filter(within).map(name).collect()
}
