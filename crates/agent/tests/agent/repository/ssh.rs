//! Repositories behind ssh: OpenSSH's own server, on this machine.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use airunner_proto::job::v1::JobState;
use tempfile::TempDir;

use super::{
    access::{Credentials, assert_refused},
    origin::{Origin, of},
};
use crate::bed::{Bed, Worker, is_root, until};

/// The server, with keys of its own.
struct Sshd {
    child: Child,
    place: TempDir,
    port: u16,
}

impl Sshd {
    async fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        for name in ["host", "mine", "other"] {
            make_key(&place.path().join(name));
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| place.path().join(name).display().to_string();
        fs::copy(at("mine.pub"), at("authorized")).unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\n",
            at("host"),
            at("authorized"),
        );
        fs::write(at("sshd_config"), config).unwrap();
        if is_root() {
            // Where the service runs the distribution has made it.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd is there: tools/install-test-tools installs it");
        until(async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Self { child, place, port }
    }

    fn url(&self, origin: &Origin) -> String {
        let user = rustix::process::geteuid().as_raw();
        let name = Command::new("id").args(["-un", &user.to_string()]).output().unwrap().stdout;
        let name = String::from_utf8(name).unwrap();
        format!("ssh://{}@127.0.0.1:{}{}", name.trim(), self.port, origin.bare().display())
    }

    fn known_hosts(&self, key: &str) -> String {
        let key = fs::read_to_string(self.place.path().join(format!("{key}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// The worker's file, which names the key and the known hosts beside it.
    fn credentials(&self, key: &str, known_hosts: &str) -> Credentials {
        let text = format!("ssh://127.0.0.1:{}/ key=key known_hosts=known_hosts\n", self.port);
        let credentials = Credentials::new(&text);
        let beside = |name: &str| credentials.path().with_file_name(name);
        fs::copy(self.place.path().join(key), beside("key")).unwrap();
        fs::set_permissions(beside("key"), PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(beside("known_hosts"), known_hosts).unwrap();
        credentials
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make_key(path: &Path) {
    let done =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(done.success());
}

/// One that fetches as a user of /etc/passwd.
fn worker(bed: &Bed, credentials: Option<&Credentials>) -> Worker {
    bed.worker_with(|options| {
        options.git.credentials = credentials.map(Credentials::path);
        options.git.user = is_root().then(|| "games".to_owned());
    })
}

#[tokio::test]
async fn a_key_of_the_worker_opens_a_repository_behind_ssh_and_stays_with_the_worker() {
    let (bed, origin, sshd) = (Bed::new().await, Origin::new(), Sshd::start().await);
    let commit = origin.commit("closed\n");
    let credentials = sshd.credentials("mine", &sshd.known_hosts("host"));
    let worker = worker(&bed, Some(&credentials));
    let state = worker.state.path().display().to_string();
    for revision in ["", &commit] {
        let line = format!(
            "cat sub/file; grep -rl 'PRIVATE KEY' {state} $HOME {}",
            credentials.path().parent().unwrap().display()
        );
        let report = bed.run(of(&sshd.url(&origin), revision, &line)).await;
        assert_eq!(report.text(), "closed\n", "{}", report.reason());
    }
    // As root, too, nothing of it is found when the job is over.
    let left = Command::new("grep").args(["-rl", "PRIVATE KEY", &state]).output().unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_host_that_is_not_known_or_has_another_key_is_refused_with_what_to_do() {
    let (bed, origin, sshd) = (Bed::new().await, Origin::new(), Sshd::start().await);
    origin.commit("closed\n");
    for known_hosts in [String::new(), sshd.known_hosts("other")] {
        let credentials = sshd.credentials("mine", &known_hosts);
        let worker = worker(&bed, Some(&credentials));
        let report = bed.run(of(&sshd.url(&origin), "", "true")).await;
        assert_refused(&report, "its host has not shown a key that is known");
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_the_server_does_not_take_and_none_at_all_are_told_apart() {
    let (bed, origin, sshd) = (Bed::new().await, Origin::new(), Sshd::start().await);
    origin.commit("closed\n");
    let credentials = sshd.credentials("other", &sshd.known_hosts("host"));
    let wrong = worker(&bed, Some(&credentials));
    let report = bed.run(of(&sshd.url(&origin), "", "true")).await;
    assert_refused(&report, "the credential that this worker has for it is refused");
    wrong.stop().await.unwrap();

    let none = worker(&bed, None);
    let report = bed.run(of(&sshd.url(&origin), "", "true")).await;
    // Without one, no host is known either.
    assert_refused(&report, "its host has not shown a key that is known");
    none.stop().await.unwrap();
}

#[tokio::test]
async fn who_fetches_needs_a_name_for_ssh() {
    if !is_root() {
        return;
    }
    let (bed, origin, sshd) = (Bed::new().await, Origin::new(), Sshd::start().await);
    origin.commit("closed\n");
    let credentials = sshd.credentials("mine", &sshd.known_hosts("host"));
    let worker = bed.worker_with(|options| options.git.credentials = Some(credentials.path()));
    let report = bed.run(of(&sshd.url(&origin), "", "true")).await;
    assert_eq!(report.state(), JobState::Failed);
    assert!(report.reason().contains("worker.git_user"), "{}", report.reason());
    worker.stop().await.unwrap();
}
