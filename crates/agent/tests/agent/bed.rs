//! A server, workers for it, and jobs.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use airunner_agent::{JobUser, WorkerOptions, run_worker};
use airunner_client::{
    Client, ClientOptions, FollowOptions, Followed, IdentitySource, LoadedIdentity, follow_job,
};
use airunner_core::{Clock, PrincipalType};
use airunner_e2e::{Credentials, TestServer};
use airunner_net::system::{SystemClock, SystemRandom};
use airunner_pki::certificate_to_pem;
use airunner_proto::job::v1::{
    EnqueueJobsRequest, Exit, GetJobRequest, Job, JobEnded, JobSpec, JobState, OutputStream, exit::How,
    job_event::Kind,
};
use futures_util::{Stream, StreamExt as _};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for `future`, and fails rather than hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("did not happen in time")
}

/// Waits until `happened` says so, for what tells nobody that it has.
pub(crate) async fn until(mut happened: impl AsyncFnMut() -> bool) {
    soon(async {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while !happened().await {
            looks.tick().await;
        }
    })
    .await;
}

/// A directory that everyone can pass through and write into.
pub(crate) fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    directory
}

/// Whom jobs can run as here.
pub(crate) fn user() -> JobUser {
    if is_root() { JobUser::Named("nobody".to_owned()) } else { JobUser::Same }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn loaded(credentials: &Credentials, roots_pem: &str) -> LoadedIdentity {
    let chain: String = credentials.chain.iter().map(|der| certificate_to_pem(der)).collect();
    let key = credentials.key.to_pem(None).unwrap();
    LoadedIdentity::from_pem(chain.as_bytes(), key.expose(), None, roots_pem.as_bytes()).unwrap()
}

/// A server with an admin who owns the jobs, and one worker's principal.
pub(crate) struct Bed {
    pub(crate) server: TestServer,
    pub(crate) admin: Client,
    pub(crate) credentials: Credentials,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let server = TestServer::start().await;
        let credentials = server.principal("worker", PrincipalType::Worker).await;
        let admin = client_at(server.addresses.api, &server, &server.admin);
        Self { server, admin, credentials }
    }

    /// A client of the worker's principal.
    pub(crate) fn client(&self) -> Client {
        client_at(self.server.addresses.api, &self.server, &self.credentials)
    }

    /// A client of another principal.
    pub(crate) fn client_of(&self, credentials: &Credentials) -> Client {
        client_at(self.server.addresses.api, &self.server, credentials)
    }

    /// A client of the worker's principal, through a proxy.
    pub(crate) fn client_through(&self, proxy: &Proxy) -> Client {
        client_at(proxy.address, &self.server, &self.credentials)
    }

    /// Starts the usual worker.
    pub(crate) fn worker(&self) -> Worker {
        self.worker_with(|_| {})
    }

    pub(crate) fn worker_with(&self, change: impl FnOnce(&mut WorkerOptions)) -> Worker {
        Worker::start(self.client(), open_directory(), change)
    }

    pub(crate) async fn submit(&self, spec: JobSpec) -> String {
        let request = EnqueueJobsRequest { jobs: vec![spec], ..Default::default() };
        soon(self.admin.jobs().enqueue_jobs(request)).await.unwrap().into_inner().job_ids.remove(0)
    }

    pub(crate) fn watch(&self, job_id: &str) -> Watch {
        Watch {
            stream: Box::pin(follow_job(&self.admin, job_id, FollowOptions::default())),
            seen: Report::default(),
        }
    }

    /// Submits a job and follows it to its end.
    pub(crate) async fn run(&self, spec: JobSpec) -> Report {
        let job_id = self.submit(spec).await;
        self.watch(&job_id).end().await
    }

    pub(crate) async fn job(&self, job_id: &str) -> Job {
        let request = GetJobRequest { job_id: job_id.to_owned() };
        soon(self.admin.jobs().get_job(request)).await.unwrap().into_inner().job.unwrap()
    }
}

fn client_at(address: SocketAddr, server: &TestServer, credentials: &Credentials) -> Client {
    let identity = IdentitySource::Loaded(Box::new(loaded(credentials, "")));
    let options =
        ClientOptions::new(address.to_string().parse().unwrap(), server.roots_pem(), Some(identity));
    Client::new(options).unwrap()
}

/// A running worker.
pub(crate) struct Worker {
    pub(crate) state: TempDir,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<airunner_client::Result<()>>,
}

impl Worker {
    pub(crate) fn start(client: Client, state: TempDir, change: impl FnOnce(&mut WorkerOptions)) -> Self {
        Self::start_at(Arc::new(SystemClock), client, state, change)
    }

    /// With a clock of its own.
    pub(crate) fn start_at(
        clock: Arc<dyn Clock>,
        client: Client,
        state: TempDir,
        change: impl FnOnce(&mut WorkerOptions),
    ) -> Self {
        let mut options = WorkerOptions { user: user(), ..WorkerOptions::new(state.path()) };
        change(&mut options);
        let shutdown = CancellationToken::new();
        let random = Arc::new(SystemRandom::new());
        let task = tokio::spawn(run_worker(client, options, clock, random, shutdown.clone()));
        Self { state, shutdown, task }
    }

    /// Whether every job that it ran has been cleared away.
    pub(crate) fn holds_no_workspace(&self) -> bool {
        fs::read_dir(self.state.path().join("work")).is_ok_and(|mut found| found.next().is_none())
    }

    /// Tells it to stop, and returns how it ended.
    pub(crate) async fn stop(self) -> airunner_client::Result<()> {
        self.shutdown.cancel();
        self.ended().await
    }

    /// Lets go of it, whatever it is doing.
    pub(crate) async fn stop_now(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> airunner_client::Result<()> {
        soon(self.task).await.unwrap()
    }
}

/// What a job was seen to do.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// What was printed, in order, with where to.
    pub(crate) printed: Vec<(OutputStream, String)>,
    pub(crate) notes: Vec<String>,
    /// Process ids, of each attempt.
    pub(crate) started: Vec<u32>,
    pub(crate) sequences: Vec<u64>,
    pub(crate) ended: Option<JobEnded>,
}

impl Report {
    pub(crate) fn state(&self) -> JobState {
        self.ended.as_ref().unwrap().state()
    }

    pub(crate) fn exit(&self) -> Option<How> {
        self.ended.as_ref().unwrap().exit.and_then(|Exit { how }| how)
    }

    pub(crate) fn reason(&self) -> &str {
        &self.ended.as_ref().unwrap().reason
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    fn note(&mut self, followed: Followed) {
        let event = match followed {
            Followed::Event(event) => event,
            Followed::Ended(ended) => return self.ended = Some(ended),
        };
        self.sequences.push(event.sequence);
        match event.kind.unwrap() {
            Kind::Started(started) => self.started.push(started.process_id),
            Kind::Note(note) => self.notes.push(note.message),
            Kind::Output(output) => {
                let to =
                    if output.stream() == OutputStream::Stdout { &mut self.stdout } else { &mut self.stderr };
                to.extend_from_slice(&output.data);
                self.printed.push((output.stream(), String::from_utf8_lossy(&output.data).into_owned()));
            }
            Kind::AttemptEnded(_) | Kind::Gap(_) => {}
        }
    }
}

/// Someone who follows a job.
pub(crate) struct Watch {
    stream: std::pin::Pin<Box<dyn Stream<Item = airunner_client::Result<Followed>> + Send>>,
    pub(crate) seen: Report,
}

impl Watch {
    /// Follows until what was seen is enough.
    pub(crate) async fn until(&mut self, enough: impl Fn(&Report) -> bool) -> &Report {
        while !enough(&self.seen) {
            let followed = soon(self.stream.next()).await.expect("the job ended too soon").unwrap();
            self.seen.note(followed);
        }
        &self.seen
    }

    /// Follows to the end.
    pub(crate) async fn end(mut self) -> Report {
        while let Some(followed) = soon(self.stream.next()).await {
            self.seen.note(followed.unwrap());
        }
        assert!(self.seen.ended.is_some(), "{:?}", self.seen);
        self.seen
    }
}

/// A job of one shell line.
pub(crate) fn shell(line: &str) -> JobSpec {
    JobSpec { command: "sh".to_owned(), args: vec!["-c".to_owned(), line.to_owned()], ..Default::default() }
}

pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap()
}

/// How many lines there are.
pub(crate) fn lines(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).lines().count()
}

/// Whether a process of this id is there, and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}

/// Passes bytes on to a server, until it is told to cut.
pub(crate) struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<u64>,
    /// Which ways are open: to the server, and from it.
    open: watch::Sender<(bool, bool)>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, open) = (watch::Sender::new(0), watch::Sender::new((true, true)));
        let (cuts, opens) = (cut.clone(), open.clone());
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut tcp, _)) = listener.accept().await {
                let (mut cut, to, from) = (cuts.subscribe(), opens.subscribe(), opens.subscribe());
                connections.spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let ((from_worker, to_worker), (from_server, to_server)) = (tcp.split(), server.split());
                    tokio::select! {
                        () = pass(from_worker, to_server, to, |open| open.0) => {}
                        () = pass(from_server, to_worker, from, |open| open.1) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, open, _accepting: accepting }
    }

    /// Holds back what is said to the server.
    pub(crate) fn hold_to_server(&self) {
        self.open.send_replace((false, true));
    }

    /// Holds back what the server says.
    pub(crate) fn hold_from_server(&self) {
        self.open.send_replace((true, false));
    }

    /// Drops every connection, with what was held back; the next ones are not held back.
    pub(crate) fn lose(&self) {
        self.cut();
        self.open.send_replace((true, true));
    }

    /// Drops every connection.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Drops every connection and takes no more.
    pub(crate) fn close(self) {
        self.cut();
    }
}

/// Passes bytes on one way, while that is open.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut open: watch::Receiver<(bool, bool)>,
    way: impl Fn(&(bool, bool)) -> bool,
) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let closed = open.wait_for(&way).await.is_err();
        if closed || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
