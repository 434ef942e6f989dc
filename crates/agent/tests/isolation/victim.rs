//! A worker in a process of its own, which can be killed and has something to hide.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use airunner_agent::{WorkerOptions, run_worker};
use airunner_client::{Client, ClientOptions, IdentityFiles, IdentitySource};
use airunner_core::Isolation;
use airunner_net::system::{SystemClock, SystemRandom};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, Worker, open_directory, user};

const IDENTITY: &str = "TEST_IDENTITY";
const SERVER: &str = "TEST_SERVER";
const STATE: &str = "TEST_STATE";
const LEVEL: &str = "TEST_LEVEL";
/// A file of credentials, where it is to have one.
pub(crate) const CREDENTIALS: &str = "TEST_CREDENTIALS";
/// Where it logs all that can be logged, where it is to log.
pub(crate) const LOG: &str = "TEST_LOG";
/// What the environment of the process holds.
pub(crate) const CANARY: &str = "in-the-workers-environment";

/// Becomes the worker, in a process that was started to be one.
pub(crate) fn play_role() {
    let Ok(folder) = std::env::var(IDENTITY) else { return };
    let files = IdentityFiles::open(folder.as_ref(), None).unwrap();
    let server = std::env::var(SERVER).unwrap().parse().unwrap();
    let mut options = WorkerOptions {
        user: user(),
        isolation: std::env::var(LEVEL).unwrap().parse().unwrap(),
        ..WorkerOptions::new(std::env::var(STATE).unwrap())
    };
    options.git_protocols.push("http".to_owned());
    options.git.credentials = std::env::var_os(CREDENTIALS).map(Into::into);
    if let Some(path) = std::env::var_os(LOG) {
        let file = std::sync::Mutex::new(fs::File::create(path).unwrap());
        let all = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
        all.with_writer(file).with_ansi(false).init();
    }
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let client =
            Client::new(ClientOptions::new(server, "", Some(IdentitySource::Folder(files)))).unwrap();
        run_worker(client, options, clock, random, CancellationToken::new()).await.unwrap();
    });
    std::process::exit(0);
}

/// A worker of the bed's principal. It is killed when this is dropped.
pub(crate) struct WorkerProcess {
    child: Child,
    /// Its certificate and key, in a folder that everyone can pass through.
    pub(crate) identity: TempDir,
    pub(crate) state: TempDir,
}

impl WorkerProcess {
    pub(crate) fn start(bed: &Bed, level: Isolation) -> Self {
        Self::start_by(bed, level, Command::new(std::env::current_exe().unwrap()), None)
    }

    /// By a command that becomes it, as another user where one is named.
    pub(crate) fn start_by(bed: &Bed, level: Isolation, mut command: Command, user: Option<u32>) -> Self {
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
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            chown(&path, user, user).unwrap();
        }
        for place in [&identity, &state] {
            chown(place.path(), user, user).unwrap();
        }
        let child = command
            .env(IDENTITY, identity.path())
            .env(SERVER, bed.server.addresses.api.to_string())
            .env(STATE, state.path())
            .env(LEVEL, level.as_str())
            .env("CANARY", CANARY)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, identity, state }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its own end.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Another worker over the same state, in this process.
    pub(crate) fn succeeded(mut self, bed: &Bed) -> Worker {
        let state = std::mem::replace(&mut self.state, open_directory());
        Worker::start(bed.client(), state, |options| options.git_protocols.push("http".to_owned()))
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
