//! An emulator of the AWS services that airunner uses, as a process on loopback: the tests speak to it over the wire
//! through the real SDK. What it gets wrong is never coded around in the product.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that can't arrange its world fails"
)]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
};

/// The account that every resource of the emulator belongs to.
pub const ACCOUNT: &str = "123456789012";

/// The region that tests name.
pub const REGION: &str = "eu-central-1";

/// A running emulator of DynamoDB, S3, KMS, SSM and Secrets Manager. It ends with this process at the latest.
pub struct Emulator {
    endpoint: String,
    child: std::sync::Mutex<Child>,
}

impl Emulator {
    /// The one that all tests of this process share. What they make in it has names of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Emulator> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one of the caller's own, on a free port, and returns once it answers.
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let (started, child) = mpsc::channel();
        // The kernel ends the emulator with the thread that started it: one that lives as long as the process does.
        thread::spawn(move || serve(port, &started));
        let child = child.recv().expect("the emulator said why it did not start");
        Self { endpoint: format!("http://127.0.0.1:{port}"), child: child.into() }
    }

    /// Where it answers.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Stops it, as a service that goes away does.
    pub fn stop(&self) {
        let mut child = self.child.lock().expect("nobody panics while holding it");
        child.kill().and_then(|()| child.wait()).expect("the emulator can be stopped");
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a process has that speaks to an emulator of its own.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the emulator answers.
    pub endpoint: String,
    /// A folder, at first empty.
    pub folder: PathBuf,
}

const ENDPOINT: &str = "AIRUNNER_TEST_ENDPOINT";
const FOLDER: &str = "AIRUNNER_TEST_FOLDER";

impl Place {
    /// Runs `scenario` of the test called `test` where the SDK finds credentials. It looks for them in the environment
    /// of its process, which is never written: so the test runs once more, in a process of its own.
    pub fn with_credentials<F: Future<Output = ()>>(test: &str, scenario: impl FnOnce(Self) -> F) {
        let variable = |name| std::env::var_os(name).and_then(|value| value.into_string().ok());
        if let (Some(endpoint), Some(folder)) = (variable(ENDPOINT), variable(FOLDER)) {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.expect("a runtime").block_on(scenario(Self { endpoint, folder: folder.into() }));
            return;
        }
        let emulator = Emulator::start();
        let folder = tempfile::tempdir().expect("a folder");
        let place = Self { endpoint: emulator.endpoint().to_owned(), folder: folder.path().to_owned() };
        let ended = place.command(test).output().expect("this test can be run");
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ended.status.success(), "{}{}", told(&ended.stdout), told(&ended.stderr));
    }

    /// The test called `test`, to be run in a process of its own, in this place.
    pub fn command(&self, test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this test is a program"));
        command.args(["--exact", test, "--nocapture"]);
        command.env(ENDPOINT, &self.endpoint).env(FOLDER, &self.folder);
        command.envs(CREDENTIALS).env_remove("AWS_PROFILE");
        command
    }
}

/// Credentials that the emulator takes, as variables.
pub const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    // No machine's own are looked for.
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// Where programs that `make test` installs are.
pub fn program(name: &str) -> PathBuf {
    let named = std::env::var_os("AIRUNNER_TEST_TOOLS").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin")).join(name)
}

fn serve(port: u16, started: &mpsc::Sender<Child>) {
    let program = program("ministack");
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&program)
        .env("GATEWAY_PORT", port.to_string())
        .env("BIND_HOST", "127.0.0.1")
        .env("SERVICES", "dynamodb,s3,kms,ssm,secretsmanager,sts,ecs")
        .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
        .env("MINISTACK_REGION", REGION)
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        .env("LOG_LEVEL", "INFO")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{} can't be run ({error}): run `make test-tools`", program.display())
        });
    let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut child = Some(child);
    let mut said = Vec::new();
    for line in lines.map_while(Result::ok) {
        if child.is_some() && line.contains("Running on") {
            let _gone = child.take().map(|child| started.send(child));
        } else if child.is_some() {
            said.push(line);
        }
    }
    assert!(child.is_none(), "{} ended before it answered:\n{}", program.display(), said.join("\n"));
    // Whoever holds the child reaps it; this thread has to stay, or the kernel would end the emulator.
    thread::park();
}
