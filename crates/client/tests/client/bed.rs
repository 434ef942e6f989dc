//! A server, clients for it, and a proxy between them that can be cut.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use airunner_client::{Client, ClientOptions, IdentitySource, LoadedIdentity};
use airunner_core::{PrincipalType, Secret};
use airunner_e2e::{Credentials, TestServer};
use airunner_pki::certificate_to_pem;
use airunner_proto::{
    ca::v1::CreateEnrollmentTokenRequest,
    job::v1::{
        Claim, DequeueJobsRequest, EnqueueJobsRequest, JobEvent, JobSpec, Output, OutputStream,
        PublishEventBatchRequest, dequeue_jobs_response::Message, job_event::Kind,
    },
    principal::v1::WhoAmIRequest,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, and fails rather than hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("did not happen in time")
}

/// Waits until `happened` says so, for what tells nobody that it has.
pub(crate) async fn until(mut happened: impl FnMut() -> bool) {
    soon(async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !happened() {
            looks.tick().await;
        }
    })
    .await;
}

pub(crate) fn loaded(credentials: &Credentials) -> LoadedIdentity {
    let chain: String = credentials.chain.iter().map(|der| certificate_to_pem(der)).collect();
    let key = credentials.key.to_pem(None).unwrap();
    LoadedIdentity::from_pem(chain.as_bytes(), key.expose(), None, &[]).unwrap()
}

/// The options of a client of `server` that shows `credentials`.
pub(crate) fn options(server: &TestServer, credentials: Option<&Credentials>) -> ClientOptions {
    let identity = credentials.map(|credentials| IdentitySource::Loaded(Box::new(loaded(credentials))));
    ClientOptions::new(server.addresses.api.to_string().parse().unwrap(), server.roots_pem(), identity)
}

pub(crate) fn client(server: &TestServer, credentials: &Credentials) -> Client {
    Client::new(options(server, Some(credentials))).unwrap()
}

/// A client whose connections go through `proxy`.
pub(crate) fn client_through(proxy: &Proxy, server: &TestServer, credentials: &Credentials) -> Client {
    let server_option = proxy.address.to_string().parse().unwrap();
    Client::new(ClientOptions { server: server_option, ..options(server, Some(credentials)) }).unwrap()
}

/// The serial number of the certificate that the server sees.
pub(crate) async fn seen_serial(client: &Client) -> String {
    client.principals().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner().serial_number
}

/// An enrolment token for a new worker.
pub(crate) async fn token(server: &TestServer, id: &str) -> Secret {
    let request = CreateEnrollmentTokenRequest { principal_id: id.to_owned(), ..Default::default() };
    let admin = client(server, &server.admin);
    let token = admin.enrollments().create_enrollment_token(request).await.unwrap().into_inner().token;
    Secret::new(token.into_bytes())
}

/// A principal of type worker without a certificate.
pub(crate) async fn worker_without_certificate(server: &TestServer, id: &str) {
    let principal = airunner_app::principal::new_principal(
        id.parse().unwrap(),
        PrincipalType::Worker,
        airunner_core::Clock::now(&*server.clock),
        "test",
    );
    server.stores.principals.create_principal(principal, server.audit("principal.create")).await.unwrap();
}

/// The names in a folder that begin with `prefix`.
pub(crate) fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Passes bytes on to a server, until it is told to cut.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

struct State {
    /// Counts the cuts.
    cut: watch::Sender<u64>,
    silent: watch::Sender<bool>,
    accepted: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            cut: watch::Sender::new(0),
            silent: watch::Sender::new(false),
            accepted: AtomicUsize::new(0),
        });
        let mut accepting = JoinSet::new();
        let shared = Arc::clone(&state);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(pass(tcp, target, Arc::clone(&shared)));
            }
        });
        Self { address, state, _accepting: accepting }
    }

    /// Drops every connection.
    pub(crate) fn cut(&self) {
        self.state.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Takes connections and passes nothing on.
    pub(crate) fn fall_silent(&self) {
        self.state.silent.send_replace(true);
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(SeqCst)
    }
}

async fn pass(mut tcp: TcpStream, target: SocketAddr, state: Arc<State>) {
    state.accepted.fetch_add(1, SeqCst);
    let mut cut = state.cut.subscribe();
    let mut silent = state.silent.subscribe();
    let passing = async {
        let mut server = TcpStream::connect(target).await.unwrap();
        copy_bidirectional(&mut tcp, &mut server).await.ok();
    };
    let passing = async {
        tokio::select! {
            () = passing => {}
            () = async { drop(silent.wait_for(|silent| *silent).await) } => std::future::pending().await,
        }
    };
    tokio::select! {
        () = passing => {}
        _ = cut.changed() => {}
    }
}

/// A job of the admin's that a worker holds.
pub(crate) struct Held {
    pub(crate) job_id: String,
    pub(crate) claim: Claim,
    pub(crate) worker: Client,
    next: u64,
    _line: tonic::Streaming<airunner_proto::job::v1::DequeueJobsResponse>,
}

impl Held {
    /// Has a job enqueued by `owner` and taken by a worker of its own.
    pub(crate) async fn new(server: &TestServer, owner: &Client) -> Self {
        let spec = JobSpec { command: "true".to_owned(), ..Default::default() };
        let request = EnqueueJobsRequest { jobs: vec![spec], ..Default::default() };
        let job_id = owner.jobs().enqueue_jobs(request).await.unwrap().into_inner().job_ids.remove(0);
        let credentials = server.principal("holder", PrincipalType::Worker).await;
        let worker = client(server, &credentials);
        let request = DequeueJobsRequest { max_jobs: 1, ..Default::default() };
        let mut line = worker.jobs().dequeue_jobs(request).await.unwrap().into_inner();
        let claim = loop {
            if let Some(Message::Claim(claim)) = soon(line.message()).await.unwrap().unwrap().message {
                break claim;
            }
        };
        Self { job_id, claim, worker, next: 1, _line: line }
    }

    /// Publishes `count` more chunks, each of which holds its number.
    pub(crate) async fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let output = Output { stream: OutputStream::Stdout as i32, data: self.next.to_string().into() };
            let event = JobEvent {
                sequence: (1 << 40) + self.next,
                at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
                kind: Some(Kind::Output(output)),
            };
            let task_token = self.claim.task_token.clone();
            let request = PublishEventBatchRequest { task_token, events: vec![event] };
            self.worker.events().publish_event_batch(request).await.unwrap();
            self.next += 1;
        }
    }
}
