//! Terminals that are made for a test, by `script` of util-linux; and the prompts that are shown there.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use crate::bed::Bed;

/// Runs a shell line at a terminal of type `dumb`, which has no colours; whenever a text of `answers` is shown, types what belongs to it. Returns all that
/// was shown.
pub(crate) fn at_terminal(bed: &Bed, line: &str, answers: &[(&str, &[u8])]) -> String {
    at_terminal_of("dumb", bed, line, answers)
}

/// As [`at_terminal`], at one of this type.
pub(crate) fn at_terminal_of(terminal: &str, bed: &Bed, line: &str, answers: &[(&str, &[u8])]) -> String {
    let mut command = Command::new("script");
    command.args(["--quiet", "--echo", "always", "--command", line, "/dev/null"]);
    command.env_clear().current_dir("/").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("TERM", terminal).env("SHELL", "/bin/sh").env("HOME", bed.folder.path());
    command.env("XDG_CONFIG_HOME", bed.folder.path().join("config"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut answers = answers.iter();
    let mut next = answers.next();
    let mut shown = String::new();
    let mut piece = [0; 4096];
    loop {
        let length = output.read(&mut piece).unwrap();
        if length == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&piece[..length]));
        if let Some((awaited, keys)) = next
            && shown.contains(awaited)
        {
            input.write_all(keys).unwrap();
            next = answers.next();
        }
    }
    child.wait().unwrap();
    assert!(next.is_none(), "{:?} was never shown in {shown:?}", next.map(|(awaited, _)| awaited));
    shown
}

pub(crate) fn cli() -> &'static str {
    env!("CARGO_BIN_EXE_airunner-cli")
}

#[test]
fn ctrl_c_at_a_secret_s_prompt_gives_the_terminal_back() {
    let bed = Bed::new();
    let line = format!("{} enroll; echo code=\\$?; stty -a | grep -ow -- '-*echo'", cli());
    let shown =
        at_terminal(&bed, &format!("sh -c \"trap : INT; {line}\""), &[("token: ", b"secret-typed\x03")]);
    assert!(shown.contains("code=130"), "{shown:?}");
    assert!(!shown.contains("secret-typed"), "{shown:?}");
    let last = shown.lines().rev().find(|line| line.ends_with("echo")).unwrap();
    assert_eq!(last.trim(), "echo", "the terminal shows no more what is typed: {shown:?}");
}

#[test]
fn a_secret_is_read_without_being_shown_and_a_wrong_one_refused() {
    let bed = Bed::new();
    let shown =
        at_terminal(&bed, &format!("{} enroll; echo code=$?", cli()), &[("token: ", b"aet1_nonsense\n")]);
    assert!(!shown.contains("aet1_nonsense"), "{shown:?}");
    assert!(shown.contains("token-invalid") && shown.contains("code=3"), "{shown:?}");
}

#[test]
fn a_destructive_act_asks_and_no_is_the_default() {
    let bed = Bed::bootstrapped();
    let line = format!(
        "{} enrollment delete 01a20482-6efb-72e6-b4d4-3bbc671b2704 --server 127.0.0.1:1; echo code=$?",
        cli()
    );
    for answer in ["\n", "n\n"] {
        let shown = at_terminal(&bed, &line, &[("[y/N] ", answer.as_bytes())]);
        assert!(shown.contains("nothing was changed") && shown.contains("code=1"), "{shown:?}");
    }
    let shown = at_terminal(&bed, &line, &[("[y/N] ", b"y\n")]);
    assert!(shown.contains("can't reach 127.0.0.1:1"), "{shown:?}");
    let shown = at_terminal(
        &bed,
        &format!("sh -c \"trap : INT; {line}\"").replace("$?", "\\$?"),
        &[("[y/N] ", b"\x03")],
    );
    assert!(shown.contains("code=130"), "{shown:?}");
}
