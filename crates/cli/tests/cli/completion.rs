//! Completion as a shell does it: bash loads the script, and asks.

use std::{fs, net::TcpListener, process::Command};

use airunner_core::PrincipalType;

use crate::{
    bed::{Bed, Run},
    live::Live,
    prompt::cli,
};

/// What bash offers for the last word of a line, within 5 s.
fn offered(bed: &Bed, line: &str) -> Vec<String> {
    let script = format!(
        "source <({cli} completion bash)\nCOMP_WORDS=({line})\n[[ '{line}' == *' ' ]] && COMP_WORDS+=('')\n\
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\nCOMP_TYPE=9\n\
         _clap_complete_airunner_cli airunner-cli \"${{COMP_WORDS[COMP_CWORD]}}\" ''\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        cli = cli()
    );
    let mut command = Command::new("timeout");
    command.args(["5", "bash", "-c", &script]).env_clear().current_dir("/");
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", bed.folder.path());
    command.env("XDG_CONFIG_HOME", bed.folder.path().join("config"));
    command.env("XDG_CACHE_HOME", bed.folder.path().join("cache"));
    let run = Run::of(&mut command).succeeded();
    assert_eq!(run.stderr, "", "{line}");
    run.stdout.lines().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

#[test]
fn commands_options_and_words_of_a_list_are_completed_without_a_server() {
    let bed = Bed::new();
    assert_eq!(offered(&bed, "airunner-cli princ"), ["principal"]);
    assert_eq!(offered(&bed, "airunner-cli principal create x --type wor"), ["worker"]);
    assert_eq!(offered(&bed, "airunner-cli authz explain ann CancelJ"), ["CancelJob"]);
    assert!(offered(&bed, "airunner-cli job exec --que").contains(&"--queue".to_owned()));
    let bare = offered(&bed, "airunner-cli principal get ");
    assert!(!bare.is_empty() && bare.iter().all(|word| word.starts_with("--")), "{bare:?}");
}

#[test]
fn what_there_is_comes_from_the_server_and_for_a_while_from_the_cache() {
    let live = Live::new();
    live.principal("worker-1", PrincipalType::Worker);
    live.principal("worker-2", PrincipalType::Worker);
    assert_eq!(offered(&live.bed, "airunner-cli principal get wor"), ["worker-1", "worker-2"]);
    assert_eq!(offered(&live.bed, "airunner-cli certificate list --principal adm"), ["admin"]);
    let serial =
        live.json(&["certificate", "list", "--principal", "worker-1"])["certificates"][0]["serial_number"]
            .as_str()
            .unwrap()
            .to_owned();
    assert!(offered(&live.bed, "airunner-cli certificate revoke ").contains(&serial));
    let job = live.run(&["job", "submit", "--", "true"]).succeeded().stdout.trim().to_owned();
    assert_eq!(offered(&live.bed, "airunner-cli job attach 0"), [job]);
    assert_eq!(offered(&live.bed, "airunner-cli profile use t"), ["test"]);

    // What was kept is its owner's alone, and is offered without the server too.
    let Live { bed, server, runtime } = live;
    runtime.block_on(server.stop());
    assert_eq!(offered(&bed, "airunner-cli principal suspend worker-2"), ["worker-2"]);
    let cache = bed.folder.path().join("cache/airunner/completion");
    for entry in fs::read_dir(&cache).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_server_that_says_nothing_holds_no_shell_up() {
    let live = Live::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("airunner-cli --server {} principal get a", silent.local_addr().unwrap());
    assert_eq!(offered(&live.bed, &line), [""; 0]);
    assert_eq!(offered(&live.bed, "airunner-cli --server 127.0.0.1:1 principal get a"), [""; 0]);
    // A key that can't be read is no reason to ask for its passphrase.
    let key = live.bed.folder.path().join("identity/key.pem");
    fs::write(&key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    assert_eq!(offered(&live.bed, "airunner-cli principal get a"), [""; 0]);
}
