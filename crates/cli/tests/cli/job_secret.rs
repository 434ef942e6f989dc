//! Secret variables of jobs: the job has them, and nobody else sees them.

use std::fs;

use airunner_core::PrincipalType;

use crate::{bed::Run, live::Live};

const SECRET: &str = "correct horse battery staple";

#[test]
fn a_job_has_its_secrets_and_nobody_else_sees_them() {
    let live = Live::new();
    let worker = live.worker();
    let ann = live.principal("ann", PrincipalType::User);
    let file = ann.folder.path().join("deploy-key");
    fs::write(&file, format!("{SECRET} 2\n")).unwrap();
    let from_file = format!("DEPLOY_KEY=@{}", file.display());
    let script =
        "for value in \"$TOKEN\" \"$DEPLOY_KEY\"; do printf %s \"$value\" | sha256sum | cut -c -16; done";
    let args = ["job", "exec", "--secret-env", "TOKEN", "--secret-env", &from_file, "--", "sh", "-c"];
    let mut command = ann.command(&args);
    let printed = Run::of(command.arg(script).env("TOKEN", SECRET)).succeeded().stdout;
    let hash = |value: &str| data_encoding::HEXLOWER.encode(&airunner_pki::sha256(value.as_bytes())[..8]);
    assert_eq!(printed, format!("{}\n{}\n", hash(SECRET), hash(&format!("{SECRET} 2"))));
    let listed = ann.json(&["job", "list", "--state", "completed"]);
    let id = listed["jobs"][0]["job_id"].as_str().unwrap();
    let shown = ann.json(&["job", "show", id]);
    assert_eq!(shown["secret_environment_names"], serde_json::json!(["DEPLOY_KEY", "TOKEN"]));
    assert!(ann.run(&["job", "show", id]).succeeded().stdout.contains("DEPLOY_KEY, TOKEN"));
    for seen in [listed.to_string(), shown.to_string(), live.run(&["audit", "tail"]).succeeded().stdout] {
        assert!(!seen.contains("battery"), "{seen}");
    }
    let stored =
        live.runtime.block_on(live.server.stores.jobs.get_job(&id.parse().unwrap())).unwrap().unwrap();
    let sealed = stored.spec.secrets.unwrap().sealed;
    assert!(!String::from_utf8_lossy(&sealed.ciphertext).contains("battery"));
    drop(worker);
}

#[test]
fn a_secret_is_no_argument_and_must_be_there() {
    let live = Live::new();
    let refused = |variable: &str| live.run(&["job", "submit", "--secret-env", variable, "--", "true"]);
    let run = refused("TOKEN=hunter2").failed(2, "a secret is no argument");
    assert!(!run.stderr.replace("'TOKEN=hunter2'", "").contains("hunter2"), "{}", run.stderr);
    refused("TOKEN").failed(2, "TOKEN is not set here");
    refused("TOKEN=@/no/such/file").failed(2, "can't be read");
    let mut both = live.bed.command(&["job", "submit", "--env", "A=1", "--secret-env", "A", "--", "true"]);
    Run::of(both.env("A", "2")).failed(1, "is in environment too");
}
