//! What a job in a sandbox sees of the machine, and what a job at any level can't read.

use std::fs;

use airunner_core::Isolation as Level;
use airunner_proto::job::v1::{Isolation, JobCertificate, JobSpec, JobState};

use crate::{
    bed::{Bed, shell},
    machine::at,
    trials,
    victim::{CANARY, WorkerProcess},
};

trials![
    a_sandbox_has_processes_of_its_own,
    a_sandbox_has_a_loopback_and_nothing_else_unless_the_machines_network_is_asked_for,
    a_sandbox_has_its_workspace_and_nothing_of_the_worker,
    a_job_finds_its_certificate_at_every_level_and_cannot_write_it,
    a_job_at_no_level_reads_the_key_or_the_process_of_its_worker,
];

async fn a_sandbox_has_processes_of_its_own() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let report = bed
        .run(at(Isolation::Sandbox, "echo $$; ls /proc | grep -x '[0-9]*' | tr '\\n' ' '; echo; id -u"))
        .await;
    let text = report.text();
    let mut lines = text.lines();
    let own: u32 = lines.next().unwrap().parse().unwrap();
    let seen: Vec<u32> = lines.next().unwrap().split(' ').filter_map(|pid| pid.parse().ok()).collect();
    assert!(own < 10 && seen.contains(&1) && seen.iter().all(|pid| *pid < 20), "{text}");
    assert!(text.trim_end().ends_with("65534"), "{text}");
    worker.stop().await.unwrap();
}

async fn a_sandbox_has_a_loopback_and_nothing_else_unless_the_machines_network_is_asked_for() {
    let line = "tail -n +3 /proc/net/dev | cut -d : -f 1 | tr -d ' ' | sort; readlink /proc/self/ns/net >&2";
    let bed = Bed::new().await;
    let worker = bed.worker();
    let machine = bed.run(at(Isolation::None, line)).await;
    let alone = bed.run(at(Isolation::Sandbox, line)).await;
    assert_eq!(alone.text(), "lo\n");
    assert_ne!(alone.stderr, machine.stderr);
    let networked = JobSpec { host_network: true, ..at(Isolation::Sandbox, line) };
    let networked = bed.run(networked).await;
    assert_eq!((networked.text(), networked.stderr), (machine.text(), machine.stderr));
    worker.stop().await.unwrap();
}

async fn a_job_finds_its_certificate_at_every_level_and_cannot_write_it() {
    let line = "set -e; openssl x509 -in $AIRUNNER_CLIENT_CERT -noout -pubkey >own; \
                openssl pkey -in $AIRUNNER_CLIENT_KEY -pubout | cmp - own; \
                openssl verify -CAfile $AIRUNNER_CACERT -untrusted $AIRUNNER_CLIENT_CERT $AIRUNNER_CLIENT_CERT >verified; \
                for file in $AIRUNNER_CLIENT_KEY $AIRUNNER_CLIENT_CERT $AIRUNNER_CACERT; do \
                    (echo x >>$file) 2>/dev/null && echo written; done; \
                rm -f $AIRUNNER_CLIENT_CERT 2>/dev/null && echo removed; echo good";
    let bed = Bed::new().await;
    let worker = bed.worker();
    for level in [Isolation::None, Isolation::Limits, Isolation::Sandbox] {
        let job = JobSpec { certificate: Some(JobCertificate::default()), ..at(level, line) };
        let report = bed.run(job).await;
        assert_eq!(
            (report.state(), report.text().as_str()),
            (JobState::Completed, "good\n"),
            "{level:?}: {report:?}"
        );
    }
    let identities = worker.state.path().join("identities");
    assert_eq!(fs::read_dir(identities).unwrap().count(), 0);
    worker.stop().await.unwrap();
}

async fn a_sandbox_has_its_workspace_and_nothing_of_the_worker() {
    let bed = Bed::new().await;
    let worker = bed.worker_with(|options| options.concurrency = 2);
    // Another job of the same user, with a workspace of its own.
    let other = bed.submit(shell("echo ready; exec sleep 1000")).await;
    bed.watch(&other).until(|seen| !seen.stdout.is_empty()).await;
    let (state, workspaces) = (worker.state.path(), worker.state.path().join("work"));
    assert!(fs::exists(workspaces.join(format!("{other}-1"))).unwrap());
    let (state, workspaces) = (state.display(), workspaces.display());
    let line = format!(
        "echo written >$HOME/file && cat $HOME/file; ls {state} {workspaces}; touch {state}/x {workspaces}/x /x /usr/x; \
         ls -A /root /home /var/lib 2>/dev/null | grep -v :; echo end"
    );
    let report = bed.run(at(Isolation::Sandbox, &line)).await;
    let (text, errors) = (report.text(), String::from_utf8_lossy(&report.stderr).into_owned());
    assert!(text.starts_with("written\n") && text.ends_with("end\n"), "{text}{errors}");
    assert!(!text.contains(&other) && !text.contains("marks") && !text.contains(".lock"), "{text}");
    assert_eq!(errors.matches("touch:").count(), 4, "{errors}");
    worker.shutdown.cancel();
    bed.watch(&other).until(|_| true).await;
    worker.stop_now().await;
}

async fn a_job_at_no_level_reads_the_key_or_the_process_of_its_worker() {
    for level in Level::ALL {
        let bed = Bed::new().await;
        let worker = WorkerProcess::start(&bed, *level);
        let process = format!("/proc/{}", worker.id());
        let secrets = ["environ", "mem", "maps"].map(|file| format!("{process}/{file}"));
        let line = format!(
            "for file in {} {} {}; do cat $file && echo \"read $file\"; done; ls {process}/fd && echo read; env",
            worker.identity.path().join("key.pem").display(),
            worker.state.path().join(".lock").display(),
            secrets.join(" ")
        );
        let report = bed.run(shell(&line)).await;
        assert_eq!(report.state(), JobState::Completed, "{}", report.reason());
        assert!(fs::read_to_string(&secrets[0]).unwrap().contains(CANARY), "there was something to be found");
        let (stdout, stderr) = (report.text(), String::from_utf8_lossy(&report.stderr).into_owned());
        assert!(stdout.contains("AIRUNNER_JOB_ID="), "{level}: {stdout}");
        assert!(!stdout.contains("read") && !stdout.contains(CANARY), "{level}: {stdout}");
        assert_eq!(stderr.lines().count(), 6, "{level}: {stderr}");
    }
}
