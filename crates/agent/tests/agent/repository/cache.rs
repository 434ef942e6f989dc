//! What is kept of repositories between jobs: that it is used, that it is bounded, and that nobody gets by it what the
//! server would not give.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use airunner_proto::job::v1::{JobState, exit::How};

use super::{
    origin::{Origin, noise, of},
    server::Server,
};
use crate::bed::{Bed, Worker, is_root, open_directory, until};

/// A worker that may use http.
pub(super) fn worker(bed: &Bed) -> Worker {
    bed.worker_with(|options| options.git_protocols.push("http".to_owned()))
}

/// Where the worker keeps repositories.
fn kept(worker: &Worker) -> Vec<std::path::PathBuf> {
    let found = fs::read_dir(worker.state.path().join("git-cache")).into_iter().flatten();
    found.map(|found| found.unwrap().path()).collect()
}

const SHOW: &str = "cat sub/file; git rev-parse HEAD; git rev-list --count HEAD; git status --short";

#[tokio::test]
async fn what_was_fetched_is_not_sent_again_and_asked_for_all_the_same() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let worker = worker(&bed);
    let server = Server::start(origin.path());
    let url = server.url(".git");
    origin.commit_file("large", &noise(1, 2 << 20));
    let first = origin.commit("one\n");
    let report = bed.run(of(&url, "", SHOW)).await;
    assert_eq!(report.text(), format!("one\n{first}\n1\n"), "{}", report.reason());
    let cold = server.given();
    assert!(cold > 2 << 20, "{cold} bytes");

    for revision in ["", "main", &first] {
        let report = bed.run(of(&url, revision, SHOW)).await;
        assert_eq!(report.text(), format!("one\n{first}\n1\n"), "{}", report.reason());
        let asked = server.asked();
        assert!(asked.iter().any(|asked| asked.path.ends_with("/git-upload-pack")), "{revision}: {asked:?}");
        assert!(asked.iter().map(|asked| asked.given).sum::<usize>() < 2_000, "{revision}: {asked:?}");
    }
    // Of a new commit, what is new.
    let second = origin.commit("two\n");
    let report = bed.run(of(&url, "main", SHOW)).await;
    assert_eq!(report.text(), format!("two\n{second}\n1\n"));
    let warm = server.given();
    assert!(warm > 0 && warm < 4_000, "{warm} bytes");
    // The old one is there still, and is what it was.
    assert_eq!(bed.run(of(&url, &first, SHOW)).await.text(), format!("one\n{first}\n1\n"));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn many_jobs_of_one_repository_at_once_fetch_it_once() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let options = |options: &mut airunner_agent::WorkerOptions| {
        options.git_protocols.push("http".to_owned());
        options.concurrency = 8;
    };
    let worker = bed.worker_with(options);
    let server = Server::start(origin.path());
    origin.commit_file("large", &noise(2, 1 << 20));
    let commits: Vec<String> = (0..8).map(|n| origin.commit(&format!("{n}\n"))).collect();
    let mut jobs = Vec::new();
    for commit in &commits {
        jobs.push(bed.submit(of(&server.url(".git"), commit, SHOW)).await);
    }
    for (number, job_id) in jobs.iter().enumerate() {
        let report = bed.watch(job_id).end().await;
        assert_eq!(report.text(), format!("{number}\n{}\n1\n", commits[number]), "{}", report.reason());
    }
    let given = server.given();
    assert!(given < (1 << 20) + 100_000, "{given} bytes");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn two_workers_of_a_machine_share_one_directory() {
    let (bed, origin, place) = (Bed::new().await, Origin::new(), open_directory());
    // Which is its user's alone.
    let shared = place.path().join("kept");
    let server = Server::start(origin.path());
    origin.commit_file("large", &noise(3, 1 << 20));
    let commit = origin.commit("one\n");
    for round in 0..2 {
        let worker = bed.worker_with(|options| {
            options.git_protocols.push("http".to_owned());
            options.git.cache_dir = Some(shared.clone());
        });
        let report = bed.run(of(&server.url(".git"), &commit, SHOW)).await;
        assert_eq!(report.text(), format!("one\n{commit}\n1\n"), "{}", report.reason());
        assert_eq!(server.given() > 1 << 20, round == 0);
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_job_neither_reads_nor_changes_what_is_kept_and_shares_no_file_with_it() {
    if !is_root() {
        return;
    }
    let (bed, origin) = (Bed::new().await, Origin::new());
    let worker = worker(&bed);
    let server = Server::start(origin.path());
    origin.commit("one\n");
    let place = worker.state.path().join("git-cache");
    let line = format!(
        "cat .git/objects/info/alternates; stat -c %h .git/objects/pack/*; ls {0}; ls {1}; \
         chmod -R u+w .git/objects && for f in .git/objects/pack/*; do echo bad >$f; done",
        place.display(),
        worker.state.path().join("git").display(),
    );
    let report = bed.run(of(&server.url(".git"), "", &line)).await;
    assert_eq!(report.exit(), Some(How::Code(0)));
    assert!(report.text().lines().all(|line| line == "1"), "{}", report.text());
    assert_eq!(String::from_utf8_lossy(&report.stderr).matches("Permission denied").count(), 2);
    let current = kept(&worker)[0].join("current");
    let line =
        format!("cat sub/file && git fsck --strict; cat {0}/HEAD; echo x >{0}/HEAD", current.display());
    let next = bed.run(of(&server.url(".git"), "", &line)).await;
    assert_eq!(next.text(), "one\n", "{}", next.reason());
    assert_eq!(String::from_utf8_lossy(&next.stderr).matches("Permission denied").count(), 2);
    let owner = fs::metadata(current).unwrap();
    assert_eq!((owner.uid(), owner.mode() & 0o777), (61_000, 0o700));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_kept_and_does_not_work_is_thrown_away() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let worker = worker(&bed);
    let server = Server::start(origin.path());
    let url = server.url(".git");
    origin.commit_file("large", &noise(4, 1 << 20));
    let commit = origin.commit("one\n");
    bed.run(of(&url, "", SHOW)).await;
    let current = kept(&worker)[0].join("current");
    let of_pack = |change: &dyn Fn(&Path)| {
        let pack = fs::read_dir(current.join("objects/pack")).unwrap().map(|found| found.unwrap().path());
        pack.filter(|path| path.extension().is_some_and(|end| end == "pack")).for_each(|path| change(&path));
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
        std::os::unix::fs::chown(path, Some(61_000), Some(61_000)).unwrap();
    };
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let damages: [&dyn Fn(); 4] =
        [&|| of_pack(&flip), &|| of_pack(&cut), &|| fs::remove_file(current.join("HEAD")).unwrap(), &|| {
            fs::write(current.join("shallow"), "nonsense\n").unwrap();
        }];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        server.asked();
        let report = bed.run(of(&url, &commit, SHOW)).await;
        assert_eq!(report.text(), format!("one\n{commit}\n1\n"), "{number}: {}", report.reason());
        assert!(server.given() > 1 << 20, "{number}: all of it is fetched anew");
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_killed_fetch_left_is_not_looked_into_and_goes() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let worker = worker(&bed);
    let server = Server::start(origin.path());
    let url = server.url(".git");
    origin.commit("one\n");
    bed.run(of(&url, "", SHOW)).await;
    let entry = kept(&worker).remove(0);
    // A worker that is killed lets go of its locks, and leaves this.
    let draft = entry.join("g-left-1.t1");
    fs::create_dir_all(draft.join("objects/pack")).unwrap();
    fs::write(draft.join("objects/pack/tmp_pack_x"), "half").unwrap();
    fs::write(entry.join("g-left-1.t1.next"), "").unwrap();
    let commit = origin.commit("two\n");
    assert_eq!(bed.run(of(&url, "", SHOW)).await.text(), format!("two\n{commit}\n1\n"));
    until(async || !draft.exists()).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn it_is_bounded_by_size_and_age_and_can_be_turned_off() {
    let bed = Bed::new().await;
    let origins = [Origin::new(), Origin::new()];
    let servers = origins.each_ref().map(|origin| Server::start(origin.path()));
    for (number, origin) in origins.iter().enumerate() {
        origin.commit_file("large", &noise(10 + number as u64, 1 << 20));
    }
    for (size, age, left) in
        [(3 << 20, Duration::from_hours(1), 2), (3 << 19, Duration::from_hours(1), 1), (0, Duration::ZERO, 0)]
    {
        let worker = bed.worker_with(|options| {
            options.git_protocols.push("http".to_owned());
            (options.git.cache_size, options.git.cache_age) = (size, age);
        });
        for server in &servers {
            let report = bed.run(of(&server.url(".git"), "", "stat -c %s large")).await;
            assert_eq!(report.text(), format!("{}\n", 1 << 20), "{}", report.reason());
        }
        until(async || kept(&worker).len() == left).await;
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn more_than_the_worker_takes_is_a_failure_that_says_so() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let worker = bed.worker_with(|options| {
        options.git_protocols.extend(["http", "file"].map(str::to_owned));
        options.git.max_size = 1 << 20;
    });
    let server = Server::start(origin.path());
    origin.commit("small\n");
    assert_eq!(bed.run(of(&server.url(".git"), "", "cat sub/file")).await.text(), "small\n");
    origin.commit_file("large", &noise(5, 3 << 20));
    let report = bed.run(of(&server.url(".git"), "", "true")).await;
    assert_eq!(report.state(), JobState::Failed);
    assert!(report.reason().contains("worker.git_max_size"), "{}", report.reason());
    // What comes small and is large in the end gets no further.
    origin.git(&["rm", "--quiet", "large"]);
    origin.commit_file("zeros", &vec![0; 3 << 20]);
    let report = bed.run(of(&server.url(".git"), "", "true")).await;
    assert!(report.reason().contains("worker.git_max_size"), "{}", report.reason());
    // Nor do many that are small.
    origin.git(&["rm", "--quiet", "zeros"]);
    for n in 0..4 {
        origin.commit_file(&format!("zeros-{n}"), &vec![0; 300 << 10]);
    }
    for url in [server.url(".git"), format!("file://{}", origin.path().display())] {
        let report = bed.run(of(&url, "", "true")).await;
        assert!(report.reason().contains("worker.git_max_size"), "{url}: {}", report.reason());
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn of_a_server_that_gives_away_no_commit_by_its_id_branches_and_tags_are_kept() {
    let (bed, origin) = (Bed::new().await, Origin::new());
    let worker = worker(&bed);
    let server = Server::start(origin.path());
    server.is_old();
    let url = server.url(".git");
    let first = origin.commit("one\n");
    origin.commit_file("large", &noise(6, 1 << 20));
    origin.git(&["checkout", "--quiet", "-b", "side"]);
    let side = origin.commit("side\n");
    origin.git(&["checkout", "--quiet", "main"]);
    for revision in [&first, &first[..12]] {
        let report = bed.run(of(&url, revision, SHOW)).await;
        assert_eq!(report.text(), format!("one\n{first}\n1\n"), "{}", report.reason());
    }
    assert!(server.given() < 3 << 20, "the second time nothing comes");
    assert_eq!(bed.run(of(&url, &side, SHOW)).await.text(), format!("side\n{side}\n1\n"));
    // What the server no longer shows is not to be had, though it is kept.
    origin.git(&["branch", "--quiet", "-D", "side"]);
    for revision in [&side[..], &side[..12]] {
        let report = bed.run(of(&url, revision, SHOW)).await;
        assert_eq!((report.state(), report.text().as_str()), (JobState::Failed, ""), "{}", report.reason());
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn hostile_content_gets_no_further_by_being_kept() {
    let (bed, origin, place) = (Bed::new().await, Origin::new(), open_directory());
    let worker = worker(&bed);
    let server = Server::start(origin.path());
    let url = server.url(".git");
    let ran = place.path().join("ran");
    let touch = format!("touch {}", ran.display());
    std::os::unix::fs::symlink("/etc/passwd", origin.path().join("link")).unwrap();
    let attributes = b"* filter=evil diff=evil\n";
    origin.commit_file(".gitattributes", attributes);
    let modules = format!("[submodule \"a\"]\n\tpath = a\n\turl = {url}\n\tupdate = none\n");
    origin.commit_file(".gitmodules", modules.as_bytes());
    // Settings and hooks of the server's side are the server's.
    origin.git(&["config", "filter.evil.smudge", &touch]);
    origin.git(&["config", "uploadpack.packObjectsHook", &touch]);
    for name in ["post-checkout", "pre-upload", "reference-transaction", "post-index-change"] {
        let hook = origin.bare().join("hooks").join(name);
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\n{touch}\n")).unwrap();
        fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    for _warm in 0..2 {
        let report = bed.run(of(&url, "", "git config --list --show-origin; readlink link; ls -A")).await;
        assert_eq!(report.exit(), Some(How::Code(0)), "{}", report.reason());
        assert!(!report.text().contains("evil") && !ran.exists(), "{}", report.text());
        assert!(report.text().contains("/etc/passwd\n"), "a link is a link");
    }
    // A tree with a name that would be git's own is refused where it comes in.
    let blob = origin.git(&["hash-object", "-w", ".gitattributes"]);
    let tree = origin.bare().join("evil-tree");
    let mut bytes = b"100644 .git\0".to_vec();
    bytes.extend(data_encoding::HEXLOWER.decode(blob.as_bytes()).unwrap());
    fs::write(&tree, bytes).unwrap();
    let tree = origin.git(&["hash-object", "--literally", "-w", "-t", "tree", tree.to_str().unwrap()]);
    let commit = origin.git(&["commit-tree", "-m", "evil", &tree]);
    origin.git(&["update-ref", "refs/heads/evil", &commit]);
    let report = bed.run(of(&url, "evil", "true")).await;
    assert_eq!(report.state(), JobState::Failed);
    assert!(report.reason().contains("hasDotgit"), "{}", report.reason());
    worker.stop().await.unwrap();
}
