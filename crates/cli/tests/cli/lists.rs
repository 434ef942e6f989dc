//! How lists look to people and to programs, once and watched; and what is said of names that are not there.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use airunner_core::{PrincipalType, Role};

use crate::{
    live::Live,
    prompt::{at_terminal_of, cli},
};

#[test]
fn times_are_beside_now_for_people_and_exact_for_programs() {
    let live = Live::new();
    let table = live.run(&["certificate", "list"]).succeeded().stdout;
    assert!(table.lines().nth(1).unwrap().contains("  in 89 d"), "{table}");
    let exact = live.json(&["certificate", "list"])["certificates"][0]["expires_at"].clone();
    assert!(exact.as_str().unwrap().ends_with('Z'), "{exact}");
    let one = live.run(&["principal", "get", "admin"]).succeeded().stdout;
    assert!(one.contains(" s ago)") || one.contains("(now)"), "{one}");
}

#[test]
fn a_table_fits_the_terminal_whatever_its_width() {
    let live = Live::new();
    for n in 0..3 {
        live.run(&[
            "principal",
            "create",
            &format!("a-rather-long-name-{n}"),
            "--type=worker",
            "--description",
            "what it is for is told in more words than fit",
        ])
        .succeeded();
    }
    for width in [30, 50, 70, 100, 200] {
        let line = format!("stty cols {width} rows 40; {} principal list; stty size", cli());
        let shown = at_terminal_of("xterm", &live.bed, &line, &[]);
        assert!(shown.contains(&format!("40 {width}")), "{shown}");
        for line in shown.lines() {
            assert!(plain(line).chars().count() <= width, "{width}: {line:?}");
        }
        assert_eq!(shown.matches("a-rather-long-name-").count(), 3, "{width}: {shown}");
    }
}

#[test]
fn colour_is_for_terminals_without_no_color() {
    let live = Live::new();
    let line = format!("stty cols 120; {} principal list", cli());
    let shown = at_terminal_of("xterm", &live.bed, &line, &[]);
    assert!(shown.contains('\u{1b}') && plain(&shown).contains("active"), "{shown:?}");
    for line in [
        format!("NO_COLOR=1 {} principal list; NO_COLOR=1 {} principal get nobody", cli(), cli()),
        format!("{} principal list | cat", cli()),
    ] {
        let shown = at_terminal_of("xterm", &live.bed, &line, &[]);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}

/// Watches a list, and sees what `change` makes and names in it.
fn shown_again(live: &Live, list: &[&str], change: impl FnOnce() -> String) {
    let args = [list, &["--watch=200ms", "--output", "json"]].concat();
    let mut child = live.bed.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let before = next();
    let new = change();
    assert!(!before.contains(&new), "{before}");
    let after = next();
    assert!(after.contains(&new), "{after}");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_watched_list_is_shown_again_where_it_has_changed() {
    let live = Live::new();
    shown_again(&live, &["principal", "list"], || {
        live.principal("newcomer", PrincipalType::User);
        "newcomer".to_owned()
    });
    let submit = || live.run(&["job", "submit", "--", "true"]).succeeded().stdout.trim().to_owned();
    submit();
    shown_again(&live, &["job", "list"], submit);
}

#[test]
fn on_a_terminal_a_watched_list_takes_the_place_of_the_one_before() {
    let live = Live::new();
    let line = format!("stty cols 90 rows 20; {} principal list --watch=200ms; echo code=\\$?", cli());
    let line = format!("sh -c \"trap : INT; {line}\"");
    let shown = at_terminal_of("xterm", &live.bed, &line, &[("admin", b"\x03")]);
    assert!(shown.contains("\u{1b}[2J\u{1b}[H") && shown.contains("Ctrl-C ends"), "{shown:?}");
    assert!(shown.contains("code=130"), "{shown:?}");
}

#[test]
fn a_mistyped_name_is_told_with_those_that_are_there() {
    let live = Live::new();
    live.principal("worker-1", PrincipalType::Worker);
    for args in [
        &["principal", "get", "wroker-1"][..],
        &["principal", "suspend", "wroker-1", "--yes"],
        &["enrollment", "create", "wroker-1"],
        &["authz", "explain", "worker", "CancelJob"],
    ] {
        live.run(args).failed(5, "did you mean worker-1?");
    }
    let job = live.run(&["job", "submit", "--", "true"]).succeeded().stdout;
    let wrong = format!("{}{}", &job.trim()[..35], if job.trim().ends_with('0') { "1" } else { "0" });
    for args in [["job", "status", &wrong], ["job", "logs", &wrong], ["job", "stop", &wrong]] {
        live.run(&args).failed(5, &format!("did you mean {}?", job.trim()));
    }
    live.run(&["job", "status", &job[..30]]).failed(2, &format!("did you mean {}?", job.trim()));
    let serial =
        live.json(&["certificate", "list", "--principal", "worker-1"])["certificates"][0]["serial_number"]
            .as_str()
            .unwrap()
            .to_owned();
    live.run(&["certificate", "get", &format!("{serial}x")]).failed(2, &format!("did you mean {serial}?"));
    // Whoever may not list is told nothing; and a wrong command is told the right one.
    let viewer = live.principal_of_role("eve", Role::Enroller);
    let refused = viewer.run(&["enrollment", "create", "wroker-1"]);
    assert!(!refused.stderr.contains("did you mean"), "{}", refused.stderr);
    live.run(&["principal", "lst"]).failed(2, "'list'");
}

/// The text without what colours it.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => drop(characters.by_ref().find(char::is_ascii_alphabetic)),
            '\r' => {}
            character => plain.push(character),
        }
    }
    plain
}
