//! That a worker's credential is seen by git alone, and that a worker that is killed while it fetches leaves nothing that
//! harms.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc},
};

use airunner_core::Isolation as Level;
use airunner_proto::job::v1::JobState;
use data_encoding::BASE64;
use tempfile::TempDir;

use crate::{
    bed::{Bed, Report, open_directory, until},
    origin::{Origin, of},
    server::Server,
    trials,
    victim::{CREDENTIALS, LOG, WorkerProcess},
};

trials![
    a_credential_is_in_no_log_no_event_no_argument_no_environment_and_no_file_that_is_left,
    of_a_worker_that_is_killed_while_it_fetches_the_next_gets_what_the_server_has,
];

const USER: &str = "ci-bot";
const SECRET: &str = "s3cret/of:the worker";

/// All that would give it away.
fn spellings() -> [Vec<u8>; 3] {
    let basic = BASE64.encode(format!("{USER}:{SECRET}").as_bytes());
    [SECRET.into(), "s3cret%2Fof%3Athe%20worker".into(), basic.trim_end_matches('=').into()]
}

fn is_told(bytes: &[u8]) -> bool {
    spellings().iter().any(|secret| bytes.windows(secret.len()).any(|window| window == secret))
}

/// A file of credentials for this server, of this user.
pub(crate) fn credentials(server: &Server, user: u32) -> (TempDir, PathBuf) {
    let place = open_directory();
    let path = place.path().join("credentials");
    fs::write(&path, format!("{} user={USER} secret={SECRET}\n", server.url(""))).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    chown(&path, Some(user), Some(user)).unwrap();
    server.admit(&[(USER, SECRET)]);
    (place, path)
}

/// What every process of the machine shows of itself.
fn processes() -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            all.extend(fs::read(entry.path().join(file)).unwrap_or_default());
        }
    }
    all
}

/// All files below, by name and content.
fn files(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        all.extend_from_slice(entry.path().as_os_str().as_encoded_bytes());
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()));
        } else {
            all.extend(fs::read(entry.path()).unwrap_or_default());
        }
    }
    all
}

fn events(report: &Report) -> Vec<u8> {
    let told = format!("{:?} {:?} {:?}", report.notes, report.ended, report.printed).into_bytes();
    [&report.stdout[..], &report.stderr, &told].concat()
}

async fn a_credential_is_in_no_log_no_event_no_argument_no_environment_and_no_file_that_is_left() {
    for level in [Level::None, Level::Sandbox] {
        let (bed, origin) = (Bed::new().await, Origin::new());
        origin.commit("closed\n");
        let server = Server::start(origin.path());
        let (_place, path) = credentials(&server, 0);
        // While git waits for the answer, with all that it was given.
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        server.gate(move |_| sees.lock().unwrap().push(processes()));
        let logs = open_directory();
        let log = logs.path().join("log");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(CREDENTIALS, &path).env(LOG, &log);
        let worker = WorkerProcess::start_by(&bed, level, command, None);
        let (state, file) = (worker.state.path().display(), path.display());
        let line = format!(
            "cat sub/file .git/config; env; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ {file} 2>/dev/null; \
             find {state} $HOME -type f -exec cat {{}} + 2>/dev/null; true"
        );
        for _warm in 0..2 {
            let report = bed.run(of(&server.url(".git"), "", &line)).await;
            assert!(report.stdout.starts_with(b"closed\n"), "{}", report.reason());
            assert!(!is_told(&events(&report)), "{level}");
        }
        // A server that does not take it.
        server.admit(&[(USER, "another")]);
        let report = bed.run(of(&server.url(".git"), "", "true")).await;
        assert_eq!(report.state(), JobState::Failed);
        assert!(!is_told(&events(&report)), "{}", report.reason());

        for all in &*seen.lock().unwrap() {
            assert!(all.windows(15).any(|window| window == b"git-remote-http"), "git was there to be seen");
            assert!(!is_told(all), "{level}: a process shows it");
        }
        assert!(seen.lock().unwrap().len() >= 4);
        let log = fs::read(log).unwrap();
        assert!(log.windows(5).any(|window| window == b"TRACE") && !is_told(&log), "{level}");
        until(async || {
            fs::read_dir(worker.state.path().join("git")).is_ok_and(|mut homes| homes.next().is_none())
        })
        .await;
        assert!(!is_told(&files(worker.state.path())), "{level}: a file has it");
    }
}

async fn of_a_worker_that_is_killed_while_it_fetches_the_next_gets_what_the_server_has() {
    // While nothing is kept yet, and while something is.
    for is_warm in [false, true] {
        let (bed, origin) = (Bed::new().await, Origin::new());
        let server = Server::start(origin.path());
        let url = server.url(".git");
        let mut victim = WorkerProcess::start(&bed, Level::None);
        origin.commit("one\n");
        if is_warm {
            assert_eq!(bed.run(of(&url, "", "cat sub/file")).await.text(), "one\n");
        }
        let commit = origin.commit("two\n");
        let (reached, is_reached) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        server.gate(move |path| {
            if path.ends_with("/git-upload-pack") && reached.send(()).is_ok() {
                // Until the other end is dropped.
                let _over = released.lock().unwrap().recv();
            }
        });
        let job_id = bed.submit(of(&url, "", "cat sub/file")).await;
        tokio::task::spawn_blocking(move || is_reached.recv().unwrap()).await.unwrap();
        let cache = victim.state.path().join("git-cache");
        victim.kill();
        drop(release);
        let next = victim.succeeded(&bed);
        let line = "cat sub/file; git rev-parse HEAD; git fsck --strict 2>&1; git status --short";
        for revision in ["", &commit] {
            let report = bed.run(of(&url, revision, line)).await;
            assert_eq!(report.text(), format!("two\n{commit}\n"), "{is_warm}: {}", report.reason());
        }
        let entry = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        let generations = || {
            let found = fs::read_dir(&entry).unwrap().flatten();
            found.filter(|found| found.file_name().to_string_lossy().starts_with("g-")).count()
        };
        until(async || generations() == 1).await;
        assert_eq!(bed.job(&job_id).await.attempt, 1, "that one waits for its lease to be over");
        next.stop().await.unwrap();
    }
}
