//! Repositories that are not everybody's: who gets them, and what those are told who don't.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use airunner_core::Label;
use airunner_proto::job::v1::{EnqueueJobsRequest, JobState};
use tempfile::TempDir;

use super::{
    origin::{Origin, noise, of},
    server::Server,
};
use crate::bed::{Bed, Report, Worker, is_root, open_directory, soon};

const SECRET: &str = "correct horse/battery:staple%40";

/// A file of credentials, of nobody else.
pub(super) struct Credentials {
    place: TempDir,
}

impl Credentials {
    pub(super) fn new(text: &str) -> Self {
        let credentials = Self { place: open_directory() };
        credentials.write(text);
        credentials
    }

    pub(super) fn path(&self) -> PathBuf {
        self.place.path().join("credentials")
    }

    pub(super) fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), PermissionsExt::from_mode(0o600)).unwrap();
    }
}

/// A worker with these credentials, which fetches by this protocol too.
pub(super) fn worker(bed: &Bed, credentials: &Credentials) -> Worker {
    bed.worker_with(|options| {
        options.git_protocols.push("http".to_owned());
        options.git.credentials = Some(credentials.path());
    })
}

fn line(url: &str, user: &str, secret: &str) -> String {
    format!("# for the tests\n\n{url} user={user} secret={secret}\n")
}

pub(super) fn assert_refused(report: &Report, why: &str) {
    assert_eq!(report.state(), JobState::Failed, "{}", report.text());
    assert!(report.reason().contains(why), "{}", report.reason());
    assert!(report.started.is_empty() && report.stdout.is_empty());
}

#[tokio::test]
async fn a_workers_credential_opens_what_begins_as_it_says() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let server = Server::start(origin.path());
    server.admit(&[("ci@example.org", SECRET)]);
    origin.commit("closed\n");
    let credentials = Credentials::new(&line(&server.url(".git"), "ci@example.org", SECRET));
    let worker = worker(&bed, &credentials);
    let report = bed.run(of(&server.url(".git"), "", "cat sub/file; git config --local --list; env")).await;
    assert!(report.text().starts_with("closed\n"), "{}", report.reason());
    assert!(!report.text().contains("staple") && !report.text().contains("credential"), "{}", report.text());
    // Nothing is sent to where the server may see something else than what the operator wrote.
    for path in ["other", ".git/../.git", ".gitt", ".git%2F..", ".git?a=b"] {
        let report = bed.run(of(&server.url(path), "", "true")).await;
        assert_refused(&report, "this worker has no credential for it");
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn who_has_no_credential_or_a_wrong_one_is_told_so_and_never_asked() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let server = Server::start(origin.path());
    server.admit(&[("ci", SECRET)]);
    let commit = origin.commit("closed\n");
    let credentials = Credentials::new("");
    let worker = worker(&bed, &credentials);
    for revision in ["", &commit] {
        let report = bed.run(of(&server.url(".git"), revision, "cat sub/file")).await;
        assert_refused(&report, "this worker has no credential for it");
        assert!(report.reason().contains("worker.git_credentials"));
    }
    credentials.write(&line(&server.url(""), "ci", "wrong-secret"));
    let report = bed.run(of(&server.url(".git"), "", "cat sub/file")).await;
    assert_refused(&report, "is refused: have its operator give another");
    assert!(!report.reason().contains("wrong-secret"), "{}", report.reason());
    // What is wrong with the file is said without what is in it.
    credentials.write("https://example.org/ sekret=wrong-secret\n");
    let report = bed.run(of(&server.url(".git"), "", "cat sub/file")).await;
    assert_refused(&report, "line 1 of");
    assert!(!report.reason().contains("wrong-secret"), "{}", report.reason());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_kept_is_for_those_to_whom_the_server_gives_it() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let server = Server::start(origin.path());
    let url = server.url(".git");
    server.admit(&[("ci", SECRET)]);
    origin.commit_file("large", &noise(7, 1 << 20));
    let commit = origin.commit("closed\n");
    let open = line(&url, "ci", SECRET);
    let credentials = Credentials::new(&open);
    let worker = worker(&bed, &credentials);
    assert_eq!(bed.run(of(&url, &commit, "cat sub/file")).await.text(), "closed\n");
    assert!(server.given() > 1 << 20);
    // It is kept, and whoever can't show the server who they are gets nothing of it.
    credentials.write("");
    for revision in ["", "main", &commit, &commit[..10]] {
        let report = bed.run(of(&url, revision, "cat sub/file")).await;
        assert_refused(&report, "this worker has no credential for it");
    }
    // Nor where the server is not there to be asked.
    let gone = Server::start(origin.path());
    let gone_url = gone.url(".git");
    bed.run(of(&gone_url, &commit, "true")).await;
    gone.close();
    assert_refused(&bed.run(of(&gone_url, &commit, "cat sub/file")).await, "could not be fetched");
    // Whoever can again gets it without a byte of it being sent.
    server.asked();
    credentials.write(&open);
    assert_eq!(bed.run(of(&url, &commit, "cat sub/file")).await.text(), "closed\n");
    assert!(server.given() < 2_000);
    // A commit that is kept and that the server does not have any more is nobody's.
    origin.git(&["update-ref", "refs/heads/main", &format!("{commit}^")]);
    origin.git(&["reset", "--quiet", "--hard"]);
    origin.git(&["reflog", "expire", "--expire=now", "--all"]);
    origin.git(&["gc", "--quiet", "--prune=now"]);
    let report = bed.run(of(&url, &commit, "cat sub/file")).await;
    assert_eq!((report.state(), report.text().as_str()), (JobState::Failed, ""), "{}", report.reason());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_file_that_others_read_and_jobs_that_could_read_it_are_refused_at_the_start() {
    let bed = Bed::new().await;
    let credentials = Credentials::new("https://example.org/ user=ci secret=s3cret\n");
    let refused = async |change: &dyn Fn(&mut airunner_agent::WorkerOptions)| {
        let worker = bed.worker_with(|options| {
            options.git.credentials = Some(credentials.path());
            change(options);
        });
        let error = worker.ended().await.unwrap_err();
        assert!(!error.message().contains("s3cret"), "{error}");
        error
    };
    fs::set_permissions(credentials.path(), PermissionsExt::from_mode(0o640)).unwrap();
    let error = refused(&|_| {}).await;
    assert!(error.is(Label::Config) && error.message().contains("chmod 0600"), "{error}");
    fs::set_permissions(credentials.path(), PermissionsExt::from_mode(0o600)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(credentials.path(), Some(65_534), None).unwrap();
        assert!(refused(&|_| {}).await.message().contains("chown"));
        std::os::unix::fs::chown(credentials.path(), Some(0), None).unwrap();
        let error = refused(&|options| options.git.user = Some("nobody".to_owned())).await;
        assert!(error.message().contains("worker.git_user"), "{error}");
    }
    let error = refused(&|options| options.user = airunner_agent::JobUser::Same).await;
    assert!(error.message().contains("could read every credential"), "{error}");
}

#[tokio::test]
async fn a_password_in_a_url_is_refused_where_the_job_is_submitted() {
    let bed = Bed::new().await;
    for url in
        ["https://me:secret@example.org/a", "https://token@example.org/a", "ssh://git:secret@example.org/a"]
    {
        let request = EnqueueJobsRequest { jobs: vec![of(url, "", "true")], ..Default::default() };
        let error = soon(bed.admin.jobs().enqueue_jobs(request)).await.unwrap_err();
        let message = error.message();
        assert!(
            message.contains("worker.git_credentials") && !message.contains("me:secret"),
            "{url}: {message}"
        );
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.git", silent.local_addr().unwrap());
    let bed = Bed::new().await;
    let worker = bed.worker_with(|options| {
        options.git_protocols.push("http".to_owned());
        options.git.silence = Duration::from_secs(1);
    });
    let report = bed.run(of(&url, "", "true")).await;
    assert_eq!(report.state(), JobState::Failed);
    assert!(report.reason().contains("could not be fetched"), "{}", report.reason());
    assert!(
        report.reason().contains("too slow") || report.reason().contains("timed out"),
        "{}",
        report.reason()
    );
    worker.stop().await.unwrap();
}
