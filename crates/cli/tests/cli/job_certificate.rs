//! Jobs that have a certificate of their own, on a worker that really runs them: what they can do with it, and when it is over.

use std::{fs, process::Command, time::Duration};

use airunner_core::{PrincipalType, PrincipalUpdate};
use serde_json::Value;

use crate::{bed::Run, live::Live};

const CLI: &str = env!("CARGO_BIN_EXE_airunner-cli");

#[test]
fn in_a_job_the_command_line_is_the_job_and_may_what_it_was_granted() {
    let live = Live::new();
    let _worker = live.worker();
    let ann = live.principal("ann", PrincipalType::User);
    let exec = |command: &[&str]| {
        ann.run(&[&["job", "exec", "--grant", "jobs:list", "--", CLI, "--output", "json"], command].concat())
    };
    let me: Value = serde_json::from_str(&exec(&["whoami"]).succeeded().stdout).unwrap();
    let job = me["job_id"].as_str().unwrap();
    assert_eq!(me["principal"]["principal_id"], "ann");
    assert_eq!(me["spiffe_id"], format!("spiffe://test.airunner/job/{job}"));
    assert_eq!(me["permissions"], serde_json::json!(["jobs:list", "self", "anonymous"]));
    let listed: Value = serde_json::from_str(&exec(&["job", "list"]).succeeded().stdout).unwrap();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 2, "its owner's jobs are its own");
    let refused = exec(&["job", "submit", "--", "true"]);
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("lacks the permission jobs:submit"), "{}", refused.stderr);

    let shown = ann.run(&["job", "show", job]).succeeded().stdout;
    assert!(shown.contains("of its own, for jobs:list"), "{shown}");
    let certificates = live.run(&["certificate", "list", "--principal", "ann"]).succeeded().stdout;
    assert!(certificates.contains(&format!("job {job}")), "{certificates}");
    // Nothing is granted that one may not do oneself, or that is no permission.
    ann.run(&["job", "submit", "--grant", "ca:manage", "--", "true"]).failed(4, "escalation");
    ann.run(&["job", "submit", "--grant", "fly", "--", "true"]).failed(2, "jobs:submit");
}

#[test]
fn others_verify_it_and_its_key_is_nowhere_but_in_memory() {
    let live = Live::new();
    let worker = live.worker();
    let script = "openssl verify -CAfile $AIRUNNER_CACERT -untrusted $AIRUNNER_CLIENT_CERT -purpose sslclient \
                  $AIRUNNER_CLIENT_CERT >&2 || exit 1; \
                  openssl x509 -in $AIRUNNER_CLIENT_CERT -noout -subject -ext subjectAltName,extendedKeyUsage; \
                  openssl x509 -in $AIRUNNER_CLIENT_CERT -noout -pubkey >own; \
                  openssl pkey -in $AIRUNNER_CLIENT_KEY -pubout | cmp - own && echo same key; \
                  env | grep AIRUNNER_CLIENT_KEY; grep -c 'PRIVATE KEY' /proc/self/environ; \
                  echo $AIRUNNER_JOB_ID; echo ready >&2; read line";
    let mut follower =
        live.bed.command(&["job", "exec", "--stdin", "--certificate", "--", "sh", "-c", script]);
    let child =
        follower.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let running = || live.json(&["job", "list", "--state", "running"])["jobs"].as_array().unwrap().len();
    live.until("the job runs", async || running() == 1);
    let state = worker.home.folder.path().join("state");
    let grep = Command::new("grep").args(["-rl", "PRIVATE KEY"]).arg(&state).output().unwrap();
    assert_eq!(String::from_utf8(grep.stdout).unwrap(), "", "the key is on the disk");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let job = text.lines().last().unwrap();
    assert!(text.contains(&format!("CN = {job}")) || text.contains(&format!("CN={job}")), "{text}");
    assert!(text.contains(&format!("URI:spiffe://test.airunner/job/{job}")), "{text}");
    assert!(text.contains("TLS Web Client Authentication") && !text.contains("Server"), "{text}");
    assert!(text.contains("same key\n") && text.contains("AIRUNNER_CLIENT_KEY=/proc/"), "{text}");
    assert!(text.contains("\n0\n"), "{text}");
    live.until("its files are gone", async || fs::read_dir(state.join("identities")).unwrap().count() == 0);
}

#[test]
fn what_a_job_took_with_it_is_of_no_use_once_it_has_ended() {
    let live = Live::new();
    let _worker = live.worker();
    let stolen = tempfile::tempdir().unwrap();
    let script = format!(
        "cat $AIRUNNER_CLIENT_KEY >{0}/key && cat $AIRUNNER_CLIENT_CERT >{0}/cert && cat $AIRUNNER_CACERT >{0}/ca; \
         chmod 600 {0}/key; echo $AIRUNNER_SERVER",
        stolen.path().display(),
    );
    let run = live.run(&["job", "exec", "--certificate", "--", "sh", "-c", &script]).succeeded();
    let file = |name: &str| stolen.path().join(name).display().to_string();
    let (server, ca, cert, key) = (run.stdout.trim(), file("ca"), file("cert"), file("key"));
    let shown = ["--server", server, "--cacert", &ca, "--client-cert", &cert, "--client-key", &key];
    live.run(&[&["whoami"], &shown[..]].concat()).failed(3, "certificate-revoked");
}

#[test]
fn a_long_job_finds_a_new_certificate_in_the_place_of_the_old() {
    let live = Live::new();
    let _worker = live.worker();
    let ann = live.principal("ann", PrincipalType::User);
    live.runtime.block_on(async {
        let principals = &live.server.stores.principals;
        let id = "ann".parse().unwrap();
        let version = principals.get_principal(&id).await.unwrap().unwrap().version;
        let update =
            PrincipalUpdate { validity: Some(Some(Duration::from_secs(6))), ..PrincipalUpdate::default() };
        let audit = live.server.audit("principal.update");
        principals.update_principal(&id, version, update, audit).await.unwrap();
    });
    let script = format!(
        "serial() {{ openssl x509 -in $AIRUNNER_CLIENT_CERT -noout -serial; }}; \
         first=$(serial); until [ \"$(serial)\" != \"$first\" ]; do sleep 0.05; done; \
         openssl x509 -in $AIRUNNER_CLIENT_CERT -noout -pubkey >own; \
         openssl pkey -in $AIRUNNER_CLIENT_KEY -pubout | cmp - own && exec {CLI} --output json whoami"
    );
    let run = ann.run(&["job", "exec", "--certificate", "--", "sh", "-c", &script]).succeeded();
    let me: Value = serde_json::from_str(&run.stdout).unwrap();
    let filter = ["certificate", "list", "--principal", "ann"];
    let all = live.json(&filter);
    let of_job = |certificate: &&Value| certificate["job_id"] == me["job_id"];
    let found: Vec<_> = all["certificates"].as_array().unwrap().iter().filter(of_job).collect();
    assert!(found.len() >= 2, "{all}");
    let current = found.iter().find(|one| one["serial_number"] == me["serial_number"]).unwrap();
    assert_eq!(
        (&current["revoked"], &current["revocation_reason"]),
        (&true.into(), &"cessation_of_operation".into())
    );
}

#[test]
fn a_job_whose_owner_is_suspended_speaks_for_nobody() {
    let live = Live::new();
    let _worker = live.worker();
    let ann = live.principal("ann", PrincipalType::User);
    let script = format!("echo ready; until [ -e go ]; do sleep 0.02; done; exec {CLI} whoami");
    let started = ann.json(&["job", "start", "--certificate", "--", "sh", "-c", &script]);
    let (id, pid) = (started["job_id"].as_str().unwrap(), started["process_id"].as_u64().unwrap());
    live.run(&["principal", "suspend", "ann", "--reason", "gone"]).succeeded();
    fs::write(format!("/proc/{pid}/cwd/go"), "").unwrap();
    let run: Run = live.run(&["job", "attach", id]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("principal-suspended"), "{}", run.stderr);
}
