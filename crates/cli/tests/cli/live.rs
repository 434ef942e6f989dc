//! A server in this process with a home for each of its principals, whose commands run the real binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use airunner_core::{Labels, PrincipalType, QueueName, Role};
use airunner_e2e::{Credentials, TestServer};
use airunner_pki::certificate_to_pem;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::bed::{Bed, Run};

/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and the admin's home.
pub(crate) struct Live {
    pub(crate) bed: Bed,
    pub(crate) server: TestServer,
    pub(crate) runtime: Runtime,
}

/// A worker's process. It is told to stop when this is dropped, and kills the jobs that it runs.
pub(crate) struct Worker {
    child: Child,
    pub(crate) home: Bed,
}

impl Worker {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Live {
    pub(crate) fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(TestServer::start());
        let live = Self { bed: Bed::new(), server, runtime };
        live.save(&live.bed, &live.server.admin);
        live
    }

    /// A new principal of this type, in a home of its own.
    pub(crate) fn principal(&self, id: &str, kind: PrincipalType) -> Bed {
        self.settle(&self.runtime.block_on(self.server.principal(id, kind)))
    }

    /// A new principal with this role, in a home of its own.
    pub(crate) fn principal_of_role(&self, id: &str, role: Role) -> Bed {
        self.settle(&self.runtime.block_on(self.server.principal_of_role(id, role)))
    }

    /// Runs a command as the admin.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.bed.run(args)
    }

    /// Runs a command as the admin, for its document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.bed.json(args)
    }

    /// Starts a worker, and returns once it waits for jobs.
    pub(crate) fn worker(&self) -> Worker {
        self.worker_with(&["--same-user"])
    }

    /// As [`Live::worker`], with these options.
    pub(crate) fn worker_with(&self, options: &[&str]) -> Worker {
        let bed = self.principal("w1", PrincipalType::Worker);
        // Whoever jobs run as passes through.
        fs::set_permissions(bed.folder.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let state = bed.folder.path().join("state").display().to_string();
        let usual = ["worker", "--state-dir", &state, "--concurrency", "4", "--drain", "0"];
        let mut command = bed.command(&[&usual, options].concat());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let worker = Worker { child, home: bed };
        let queue = QueueName::default_queue();
        self.until("a worker waits", async || {
            self.server.app.fleet.has_worker(&queue, &Labels::new()).await.unwrap()
        });
        worker
    }

    /// Asks until the answer is yes.
    pub(crate) fn until(&self, what: &str, mut ask: impl AsyncFnMut() -> bool) {
        let waited = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                while !ask().await {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
        });
        waited.unwrap_or_else(|_| panic!("it never came to be: {what}"));
    }

    fn settle(&self, credentials: &Credentials) -> Bed {
        let bed = Bed::new();
        self.save(&bed, credentials);
        bed
    }

    /// Writes an identity, and the profile that uses it.
    fn save(&self, bed: &Bed, credentials: &Credentials) {
        let folder = bed.folder.path().join("identity");
        fs::create_dir_all(&folder).unwrap();
        let chain: String = credentials.chain.iter().map(|der| certificate_to_pem(der)).collect();
        let key = credentials.key.to_pem(None).unwrap();
        let (certificate, key_file, roots) =
            (folder.join("chain.pem"), folder.join("key.pem"), folder.join("roots.pem"));
        fs::write(&certificate, chain).unwrap();
        fs::write(&key_file, key.expose()).unwrap();
        fs::write(&roots, self.server.roots_pem()).unwrap();
        assert!(Command::new("chmod").arg("600").arg(&key_file).status().unwrap().success());
        fs::create_dir_all(bed.config().parent().unwrap()).unwrap();
        let lines = [
            "default = \"test\"\n\n[profiles.test]".to_owned(),
            format!("server = \"localhost:{}\"", self.server.addresses.api.port()),
            format!("cacert = '{}'", roots.display()),
            format!("client_cert = '{}'", certificate.display()),
            format!("client_key = '{}'\n", key_file.display()),
        ];
        fs::write(bed.config(), lines.join("\n")).unwrap();
    }
}
