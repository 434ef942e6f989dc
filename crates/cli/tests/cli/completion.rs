//! Completion as a shell does it: bash, zsh and fish load the script, and ask.

use std::{collections::BTreeMap, fs, net::TcpListener, process::Command};

use airunner_core::PrincipalType;

use crate::{
    bed::{Bed, Run},
    live::Live,
    prompt::{at_terminal_of, cli},
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
    let run = of_shell(bed, "bash", &script);
    assert_eq!(run.stderr, "", "{line}");
    run.stdout.lines().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// What fish offers for the last word of a line, each with what it shows beside it, within 5 s.
fn offered_by_fish(bed: &Bed, line: &str) -> BTreeMap<String, String> {
    let script = format!("{} completion fish | source; complete --do-complete '{line}'", cli());
    let run = of_shell(bed, "fish", &script);
    assert_eq!(run.stderr, "", "{line}");
    let offer = |line: &str| {
        let (word, about) = line.split_once('\t').unwrap_or((line, ""));
        (word.to_owned(), about.to_owned())
    };
    run.stdout.lines().map(offer).collect()
}

fn of_shell(bed: &Bed, shell: &str, script: &str) -> Run {
    let mut command = Command::new("timeout");
    command.args(["5", shell, "-c", script]).env_clear().current_dir("/");
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", bed.folder.path());
    command.env("XDG_CONFIG_HOME", bed.folder.path().join("config"));
    command.env("XDG_CACHE_HOME", bed.folder.path().join("cache"));
    Run::of(&mut command).succeeded()
}

/// What becomes of a line at zsh's prompt when the tabulator is pressed at its end; and all that was shown, where it
/// must be `listed` (zsh lists nothing to who types on).
fn completed_by_zsh(bed: &Bed, line: &str, listed: Option<&str>) -> (String, String) {
    let home = bed.folder.path().display();
    // Ctrl-G shows the line as it stands, and ends.
    let start = format!(
        "PROMPT='ready> '\nautoload -Uz compinit\ncompinit -u -d {home}/zcompdump\nsource <({cli} completion zsh)\n\
         told() {{ print -r -- \"<<$BUFFER>>\"; exit }}\nzle -N told\nbindkey '^G' told\n",
        cli = cli()
    );
    fs::write(bed.folder.path().join(".zshrc"), start).unwrap();
    let shell =
        format!("ZDOTDIR={home} XDG_CACHE_HOME={home}/cache timeout --foreground --signal KILL 20 zsh -d -i");
    let (typed, end) = (format!("{line}\t"), "\x07");
    let at_once = format!("{typed}{end}");
    let shown = match listed {
        Some(listed) => {
            at_terminal_of("xterm", bed, &shell, &[("ready> ", typed.as_bytes()), (listed, end.as_bytes())])
        }
        None => at_terminal_of("xterm", bed, &shell, &[("ready> ", at_once.as_bytes())]),
    };
    let completed = shown.split_once("<<").and_then(|(_, rest)| rest.split_once(">>"));
    let (completed, _) = completed.unwrap_or_else(|| panic!("nothing is told: {shown:?}"));
    (completed.to_owned(), shown.clone())
}

#[test]
fn fish_completes_commands_and_what_the_server_has() {
    let live = Live::new();
    live.principal("worker-1", PrincipalType::Worker);
    live.principal("worker-2", PrincipalType::Worker);
    let bed = &live.bed;
    let commands = offered_by_fish(bed, "airunner-cli princ");
    assert!(commands.keys().eq(["principal"]) && !commands["principal"].is_empty(), "{commands:?}");
    let workers = offered_by_fish(bed, "airunner-cli principal get wor");
    assert!(workers.keys().eq(["worker-1", "worker-2"]), "{workers:?}");
    assert_eq!(workers["worker-1"], "worker, active");
    let serial = serial_of(&live, "worker-2");
    let serials = offered_by_fish(bed, &format!("airunner-cli certificate revoke {}", &serial[..28]));
    assert!(serials[&serial].starts_with("worker-2, expires in"), "{serials:?}");
    assert!(offered_by_fish(bed, "airunner-cli principal create x --type wor").contains_key("worker"));
}

#[test]
fn zsh_completes_commands_and_what_the_server_has() {
    let live = Live::new();
    live.principal("worker-1", PrincipalType::Worker);
    live.principal("worker-22", PrincipalType::Worker);
    let bed = &live.bed;
    assert_eq!(completed_by_zsh(bed, "airunner-cli princ", None).0, "airunner-cli principal ");
    let (line, _) = completed_by_zsh(bed, "airunner-cli principal get wor", None);
    assert_eq!(line, "airunner-cli principal get worker-");
    let (line, shown) = completed_by_zsh(bed, "airunner-cli principal get worker-", Some("worker, active"));
    assert_eq!(line, "airunner-cli principal get worker-");
    assert!(shown.contains("worker-1") && shown.contains("worker-22"), "{shown:?}");
    let (line, _) = completed_by_zsh(bed, "airunner-cli principal get worker-2", None);
    assert_eq!(line, "airunner-cli principal get worker-22 ");
    let serial = serial_of(&live, "worker-1");
    let (line, _) =
        completed_by_zsh(bed, &format!("airunner-cli certificate revoke {}", &serial[..28]), None);
    assert_eq!(line, format!("airunner-cli certificate revoke {serial} "));
}

fn serial_of(live: &Live, id: &str) -> String {
    let listed = live.json(&["certificate", "list", "--principal", id]);
    listed["certificates"][0]["serial_number"].as_str().unwrap().to_owned()
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
    let serial = serial_of(&live, "worker-1");
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
