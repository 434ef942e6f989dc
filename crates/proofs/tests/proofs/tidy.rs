//! Rules of the house that no compiler and no lint holds. The words that must stand nowhere are written in two halves
//! here, since this file is searched too.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a source file at most, its unit tests not counted.
const MAX_LINES: usize = 600;

/// Folders that hold what is made, not what is written.
const MADE: &[&str] = &[".git", ".venv", "bin", "node_modules", "__pycache__", ".terraform"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every file that is text, with its text.
fn texts() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !MADE.contains(&name.as_str()) && !name.starts_with("target") {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                found.push((entry.path().strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 100, "the tree was not found");
    found
}

#[test]
fn source_files_stay_within_their_length() {
    for (path, text) in texts() {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let for_tests = |part: &str| part == "tests" || part == "tests.rs" || part == "benches";
        if path.extension().is_none_or(|extension| extension != "rs")
            || parts.iter().any(|part| for_tests(part))
        {
            continue;
        }
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines: give a part of it a file", path.display());
    }
}

#[test]
fn some_words_stand_nowhere() {
    let forbidden = [
        (concat!("TO", "DO"), "do it, or leave it"),
        (concat!("FIX", "ME"), "fix it"),
        (
            concat!("airunner-cli", " token"),
            "enrolment tokens are `enrollment`, access tokens `account token`",
        ),
        (concat!("JWT_PUBLIC", "_KEY"), "there is no shared verification key"),
    ];
    for (path, text) in texts() {
        for (word, instead) in forbidden {
            let line = text.lines().position(|line| line.contains(word));
            assert!(line.is_none(), "{}:{}: {word}: {instead}", path.display(), line.unwrap_or(0) + 1);
        }
    }
}

#[test]
fn lints_are_expected_and_not_allowed() {
    let allow = concat!("#[", "allow(");
    let allow_all = concat!("#![", "allow(");
    for (path, text) in texts() {
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        // Generated code can't say what it would trip over.
        if !is_source || path == Path::new("crates/proto/src/lib.rs") {
            continue;
        }
        assert!(!text.contains(allow) && !text.contains(allow_all), "{}: use #[expect]", path.display());
    }
}

/// Every test of every crate, as crate, file and name; those that are ignored left out.
fn tests() -> Vec<[String; 3]> {
    let mut found = Vec::new();
    for (path, text) in texts() {
        let (Ok(inside), Some(module)) = (path.strip_prefix("crates"), path.file_stem()) else { continue };
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let named = [inside.iter().next().unwrap(), module].map(|part| part.to_string_lossy().into_owned());
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if line.starts_with("#[ignore") {
                is_test = false;
            } else if let Some((_, rest)) = line.split_once("fn ") {
                if is_test {
                    let [room, module] = named.clone();
                    found.push([room, module, rest.split('(').next().unwrap().to_owned()]);
                }
                is_test = false;
            }
        }
    }
    found
}

#[test]
fn the_page_of_hostile_inputs_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/security/hostile-inputs.md")).unwrap();
    let is_head = |line: &str| line.starts_with("| Tried |") || line.starts_with("| Read |");
    let (tests, mut named) = (tests(), Vec::new());
    for row in page.lines().filter(|line| line.starts_with("| ") && !is_head(line)) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [tried, answer, cell] = cells[..] else { panic!("three cells: {row}") };
        let in_cell: Vec<&str> = cell.split('`').filter(|name| name.contains("::")).collect();
        assert!(
            !tried.is_empty() && !answer.is_empty() && !in_cell.is_empty(),
            "something is missing: {row}"
        );
        for test in in_cell {
            let parts: Vec<&str> = test.split("::").collect();
            let place = [parts[0], parts[parts.len() - 2], parts[parts.len() - 1]];
            assert!(tests.iter().any(|test| *test == place), "there is no test {test}");
            named.push(place);
        }
    }
    assert!(named.len() > 50, "the page was not read");
    let here = root().join("crates/e2e/tests/e2e/hostile");
    let files: Vec<_> = fs::read_dir(here).unwrap().map(|entry| entry.unwrap().path()).collect();
    for [room, module, name] in &tests {
        let is_hostile =
            files.iter().any(|file| file.file_stem().is_some_and(|stem| stem == module.as_str()));
        // Modules of other tests may be called alike.
        let of_hostile = is_hostile && room == "e2e" && {
            let text = fs::read_to_string(root().join(format!("crates/e2e/tests/e2e/hostile/{module}.rs")));
            text.unwrap().contains(&format!("fn {name}("))
        };
        assert!(!of_hostile || named.contains(&[room, module, name]), "{module}::{name} is not on the page");
    }
}
