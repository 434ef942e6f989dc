//! What all commands have in common: help, usage, exit codes, documents, pipes.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
};

use crate::bed::{Bed, Run};

#[test]
fn help_succeeds_on_standard_output_and_a_wrong_line_fails_on_standard_error() {
    let bed = Bed::new();
    for args in [&["--help"][..], &["job", "submit", "--help"], &["--version"]] {
        let run = bed.run(args).succeeded();
        assert!(!run.stdout.is_empty() && run.stderr.is_empty(), "{args:?}");
    }
    for args in [
        &["frobnicate"][..],
        &["principal", "get"],
        &["principal", "get", "-x"],
        &["principal", "create", "not an id", "--type", "user"],
        &["principal", "create", "x", "--type", "king"],
        &["certificate", "revoke", "zz"],
        &["job", "submit"],
        &["job", "start"],
        &["job", "exec"],
        &["authz", "explain", "admin"],
        &["job", "stop", "x"],
        &["job", "attach", "01a20482-6efb-72e6-b4d4-3bbc671b2704", "--from", "yesterday"],
        &["audit", "tail", "--n", "0"],
        &["whoami", "--output", "xml"],
    ] {
        let run = bed.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_do() {
    let bed = Bed::bootstrapped();
    // Nothing listens on port 1 of loopback.
    let args = ["whoami", "--server", "https://127.0.0.1:1"];
    bed.run(&args).failed(1, "can't reach 127.0.0.1:1").failed(1, "check that the server runs");
}

#[test]
fn a_profile_is_chosen_by_name_and_a_wrong_one_is_told_with_those_that_there_are() {
    let bed = Bed::bootstrapped();
    bed.run(&["whoami", "--profile", "nope"]).failed(1, "it has local");
    let text = fs::read_to_string(bed.config()).unwrap();
    fs::write(bed.config(), text.replace("cacert", "ca_cert")).unwrap();
    bed.run(&["whoami"]).failed(1, "config.toml:5:");
}

#[test]
fn an_id_may_be_given_as_an_option_too() {
    let bed = Bed::bootstrapped();
    for args in [
        &["principal", "get", "--id", "admin"][..],
        &["job", "status", "--id", "01a20482-6efb-72e6-b4d4-3bbc671b2704"],
    ] {
        // It is understood: what fails is the connection.
        bed.run(&[args, &["--server", "127.0.0.1:1"]].concat()).failed(1, "can't reach");
    }
}

#[test]
fn aliases_lead_to_the_same_command() {
    let bed = Bed::new();
    for (alias, command) in [("output", "logs"), ("terminate", "stop"), ("monitor", "attach")] {
        let help = |name: &str| bed.run(&["job", name, "--help"]).succeeded().stdout;
        assert_eq!(help(alias), help(command));
    }
}

#[test]
fn a_destructive_act_without_a_terminal_needs_yes() {
    let bed = Bed::bootstrapped();
    for args in [
        &["principal", "delete", "admin"][..],
        &["principal", "revoke", "admin"],
        &["certificate", "revoke", "0198a2f4c0de7000a000000000000001"],
        &["certificate", "revoke", "--principal", "admin"],
        &["enrollment", "delete", "01a20482-6efb-72e6-b4d4-3bbc671b2704"],
    ] {
        let there = [args, &["--server", "127.0.0.1:1"]].concat();
        bed.run(&there).failed(2, "--yes");
        bed.run(&[&there[..], &["--yes"]].concat()).failed(1, "can't reach");
    }
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    let bed = Bed::new();
    let run = bed.run(&["bootstrap", "--environment=local"]).succeeded();
    assert!(!run.stdout.contains('\u{1b}'));
    assert!(!bed.run(&["whoami", "--server", "127.0.0.1:1"]).stderr.contains('\u{1b}'));
}

#[test]
fn a_reader_that_goes_away_is_no_failure_worth_a_word() {
    let bed = Bed::bootstrapped();
    let bundle = bed.home().join("admin/bundle.pem").display().to_string();
    for args in [&["--help"][..], &["completion", "bash"], &["man"], &["certificate", "show", &bundle]] {
        // The write end of a pipe whose read end is closed before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = bed.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let code = child.wait().unwrap().code();
        let mut said = String::new();
        child.stderr.unwrap().read_to_string(&mut said).unwrap();
        assert!(matches!(code, Some(0 | 141)), "{args:?} ended with {code:?}: {said}");
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn completion_scripts_are_those_of_the_shell() {
    let bed = Bed::new();
    let folder = bed.folder.path().display().to_string();
    for shell in ["bash", "zsh", "fish"] {
        let script = bed.run(&["completion", shell]).succeeded().stdout;
        assert!(script.contains("airunner-cli") && script.contains("AIRUNNER_COMPLETE"), "{shell}");
        if shell == "bash" {
            let path = format!("{folder}/completion");
            fs::write(&path, script).unwrap();
            Run::of(Command::new("bash").args(["-n", &path])).succeeded();
        }
    }
}

#[test]
fn no_option_of_any_command_takes_a_secret() {
    let bed = Bed::new();
    let mut paths = vec![Vec::new()];
    let mut seen = 0;
    while let Some(path) = paths.pop() {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = bed.run(&args).succeeded().stdout;
        seen += 1;
        for word in help.split_whitespace().filter(|word| word.starts_with("--")) {
            let name = word.trim_end_matches(|c: char| !c.is_alphanumeric());
            let is_secret =
                ["token", "password", "passphrase", "secret"].iter().any(|part| name.contains(part));
            // --secret-env takes a variable's name, and refuses a value.
            let is_harmless = name.ends_with("-file") || ["--page-token", "--secret-env"].contains(&name);
            assert!(!is_secret || is_harmless, "{path:?} takes {name}");
        }
        let commands = help.split("\nCommands:\n").nth(1).unwrap_or_default();
        let commands = commands.split("\n\n").next().unwrap_or_default();
        for line in commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let name = line.split_whitespace().next().unwrap();
            if name != "help" {
                paths.push([&path[..], &[name.to_owned()]].concat());
            }
        }
    }
    assert!(seen > 30, "only {seen} commands were looked at");
}
