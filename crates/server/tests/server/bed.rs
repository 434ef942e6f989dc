//! An environment in a folder of its own, servers that run over it as processes, and clients of them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use airunner_core::{Clock as _, KeyAlgorithm, Monotonic, PrincipalType};
use airunner_e2e::{Answer, AnswerStream, HttpAnswer, RawClient, http};
use airunner_host::{
    Home,
    bootstrap::Plan,
    config::Environment,
    local::{self, CloudPlan, LocalPlan, Means},
};
use airunner_net::{
    ClientTls, TlsIdentity, TlsProfile, client_config,
    system::{SystemClock, SystemRandom},
};
use airunner_pki::{PrivateKey, certificates_from_pem, create_csr};
use airunner_proto::{
    ca::v1::{IssueCertificateRequest, IssueCertificateResponse},
    job::v1::{DequeueJobsRequest, DequeueJobsResponse, dequeue_jobs_response::Message},
    principal::v1::{self as principal, CreatePrincipalRequest, CreatePrincipalResponse},
};
use tempfile::TempDir;
use tonic::Code;

pub(crate) const WHO_AM_I: &str = "/airunner.principal.v1.PrincipalService/WhoAmI";
pub(crate) const LIST_PRINCIPALS: &str = "/airunner.principal.v1.PrincipalService/ListPrincipals";
pub(crate) const CREATE_PRINCIPAL: &str = "/airunner.principal.v1.PrincipalService/CreatePrincipal";
pub(crate) const SUSPEND: &str = "/airunner.principal.v1.PrincipalService/SuspendPrincipal";
pub(crate) const ISSUE: &str = "/airunner.ca.v1.CertificateService/IssueCertificate";
pub(crate) const REVOKE: &str = "/airunner.ca.v1.CertificateService/RevokeCertificates";
pub(crate) const LIST_JOBS: &str = "/airunner.job.v1.JobService/ListJobs";
pub(crate) const DEQUEUE: &str = "/airunner.job.v1.JobService/DequeueJobs";
pub(crate) const TAIL_AUDIT: &str = "/airunner.audit.v1.AuditService/TailAudit";

/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// An environment that was bootstrapped, in a folder that goes with it.
pub(crate) struct Bed {
    folder: PathBuf,
    _kept: Option<TempDir>,
    pub(crate) home: Home,
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) serial: String,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let bed = Self { folder: folder.path().to_owned(), _kept: Some(folder), home };
        bed.bootstrap(false).await;
        bed
    }

    /// An environment that somebody else bootstraps, in a folder that is somebody else's.
    #[cfg(feature = "aws")]
    pub(crate) fn at(folder: &std::path::Path) -> Self {
        Self { folder: folder.to_owned(), _kept: None, home: Home::at(folder.join("home")) }
    }

    /// Runs the bootstrap, for the first time or again.
    pub(crate) async fn bootstrap(&self, force_new_ca: bool) {
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
            same_user: true,
            cloud: CloudPlan::default(),
            steps: Plan { force_new_ca, ..Plan::first_admin().unwrap() },
        };
        let means = Means {
            variable: &|_| None,
            flags: Vec::new(),
            watch: &|_| Ok(()),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::new()),
        };
        local::bootstrap(&self.home, &plan, &means).await.unwrap();
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.home.path().join("airunner.db")
    }

    /// The server's binary with these arguments, not yet started. It sees nothing of the machine's environment, and
    /// outlives a limit on its files.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_airunner-server")]);
        command.args(args).env_clear().current_dir("/").stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.folder).env("AIRUNNER_HOME", self.home.path());
        command.env("AIRUNNER_WORKER_EMBEDDED", "false");
        command
    }

    /// Runs the server's binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().unwrap();
        Run {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a server, and returns once it serves.
    pub(crate) fn start(&self) -> Process {
        Process::start(self.command(&["--ready-fd", "1"]))
    }

    /// Runs SQL with the distribution's `sqlite3`, as an admin would, and returns what it prints.
    pub(crate) fn by_hand(&self, sql: &str) -> String {
        let mut command = Command::new("sqlite3");
        command.args(["-cmd", ".timeout 5000"]).arg(self.store()).arg(sql);
        let output = command.output().expect("this test needs the command sqlite3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The first admin.
    pub(crate) fn admin(&self) -> Identity {
        let files = self.home.admin();
        let key = PrivateKey::from_pem(&std::fs::read(files.key).unwrap(), None).unwrap();
        let chain = certificates_from_pem(&std::fs::read(files.cert).unwrap()).unwrap();
        Identity { chain, key: Arc::new(key), serial: String::new() }
    }

    fn tls(&self, identity: &Identity) -> Arc<rustls::ClientConfig> {
        let profile = TlsProfile::Default;
        let roots = certificates_from_pem(&std::fs::read(self.home.ca()).unwrap()).unwrap();
        let identity =
            TlsIdentity::from_der(identity.chain.clone(), &identity.key.to_pkcs8(), profile).unwrap();
        client_config(ClientTls { profile, roots, identity: Some(identity) }, Arc::new(SystemClock)).unwrap()
    }

    /// A connection to a server.
    pub(crate) async fn connect(&self, server: &Process, identity: &Identity) -> RawClient {
        RawClient::connect(self.tls(identity), &server.api.to_string()).await.unwrap()
    }

    /// How a new connection of this identity is refused: in the handshake or after it.
    pub(crate) async fn refused(&self, server: &Process, identity: &Identity) -> String {
        let answer = self.connect(server, identity).await.probe(WHO_AM_I).await;
        answer.map_or_else(|error| error.label().as_str().to_owned(), |answer| answer.label)
    }

    /// A new principal with a certificate, made through this server.
    pub(crate) async fn principal(&self, server: &Process, id: &str, kind: PrincipalType) -> Identity {
        let admin = self.connect(server, &self.admin()).await;
        let _: CreatePrincipalResponse = admin.ask(CREATE_PRINCIPAL, &new_principal(id, kind)).await;
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let request = IssueCertificateRequest {
            principal_id: id.to_owned(),
            csr: create_csr(&key).unwrap(),
            ..Default::default()
        };
        let issued: IssueCertificateResponse = admin.ask(ISSUE, &request).await;
        let certificate = issued.certificate.unwrap();
        let pem = format!("{}{}", certificate.pem, issued.chain_pem);
        let chain = certificates_from_pem(pem.as_bytes()).unwrap();
        Identity { chain, key: Arc::new(key), serial: certificate.serial_number }
    }
}

pub(crate) fn new_principal(id: &str, kind: PrincipalType) -> CreatePrincipalRequest {
    let kind = match kind {
        PrincipalType::Admin => principal::PrincipalType::Admin,
        PrincipalType::Worker => principal::PrincipalType::Worker,
        PrincipalType::User => principal::PrincipalType::User,
        PrincipalType::Service => principal::PrincipalType::Service,
    };
    CreatePrincipalRequest { principal_id: id.to_owned(), r#type: kind as i32, ..Default::default() }
}

/// How a run of the binary ended.
pub(crate) struct Run {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn ended_with(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}{}", self.stdout, self.stderr);
        self
    }
}

/// A server that runs. It is killed when this is dropped.
pub(crate) struct Process {
    pub(crate) api: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) metrics: SocketAddr,
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts a server by this command, and returns once it serves.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text);
            text
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(addresses) = serde_json::from_str::<serde_json::Value>(&line) else {
            panic!("the server did not start: {}", log.join().unwrap());
        };
        let of = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        Self { api: of("api"), plain: of("plain"), metrics: of("metrics"), child, log: Some(log) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets every file of this server grow to so many bytes, or without `limit` as it likes. What is longer can't be
    /// written to at all.
    pub(crate) fn limit_files(&self, limit: Option<u64>) {
        let limit = limit.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.child.id().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
        assert!(set.expect("this test needs prlimit, of util-linux").success());
    }

    /// The answer of the plain listener: the status and a word.
    pub(crate) async fn ready(&self) -> (u16, String) {
        let HttpAnswer { status, body, .. } = http(self.plain, "GET", "/ready", &[]).await.unwrap();
        (status.as_u16(), body.trim_end().to_owned())
    }

    /// Waits until `/ready` says this, and returns all that it has to say.
    pub(crate) async fn until_ready_says(&self, status: u16, word: &str) -> String {
        until(&format!("/ready says {word}"), async || self.ready().await == (status, word.to_owned())).await;
        http(self.metrics, "GET", "/ready?verbose", &[]).await.unwrap().body
    }

    /// Stops the server in order; its log.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        assert!(status.success(), "the server ended with {status}: {log}");
        log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let (true, Some(log)) = (std::thread::panicking(), self.log.take()) {
            let _ = writeln!(std::io::stderr(), "{}", log.join().unwrap());
        }
    }
}

/// A worker's connection with its line open.
pub(crate) struct Worker {
    pub(crate) client: RawClient,
    line: AnswerStream,
}

impl Worker {
    /// Opens a line, and waits until it is in force.
    pub(crate) async fn open(bed: &Bed, server: &Process, identity: &Identity) -> Self {
        let client = bed.connect(server, identity).await;
        let request = DequeueJobsRequest { max_jobs: 1, ..Default::default() };
        let mut line = client.open(DEQUEUE, &request).await.unwrap();
        let first: DequeueJobsResponse = line.message().await;
        assert!(matches!(first.message, Some(Message::Waiting(_))), "{first:?}");
        Self { client, line }
    }

    /// How the line ended.
    pub(crate) async fn end(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.line.end()).await.expect("the line ends")
    }

    /// The line ends with this denial, and the connection serves nobody from then on: it says why for a moment, and
    /// then goes away.
    pub(crate) async fn is_denied(&mut self, label: &str) {
        let end = self.end().await;
        assert_eq!((end.code, end.label.as_str()), (Code::Unauthenticated, label));
        if let Ok(refused) = self.client.probe(WHO_AM_I).await {
            assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, label));
        }
    }
}

/// Asks until the answer is yes.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it never came to be: {what}"));
}

pub(crate) fn now() -> Monotonic {
    SystemClock.monotonic()
}
