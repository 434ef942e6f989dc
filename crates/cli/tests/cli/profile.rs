//! Named connections: listed, chosen, shown.

use std::fs;

use crate::bed::Bed;

#[test]
fn profiles_are_listed_chosen_and_shown() {
    let bed = Bed::bootstrapped();
    let before = fs::read_to_string(bed.config()).unwrap();
    fs::write(bed.config(), format!("{before}\n[profiles.prod]\nserver = \"ca.example:8443\"\n")).unwrap();
    let listed = bed.json(&["profile", "list"]);
    assert_eq!(listed["used"], "local");
    assert_eq!(listed["profiles"].as_array().unwrap().len(), 2);
    let table = bed.run(&["profile", "list"]).succeeded().stdout;
    assert!(table.lines().any(|line| line.starts_with("*  local")), "{table}");

    // A named one counts before the default, and is seen to be used.
    assert_eq!(bed.json(&["profile", "list", "--profile", "prod"])["used"], "prod");
    let shown = bed.run(&["profile", "show", "--profile", "prod"]).succeeded().stdout;
    assert!(shown.contains("by --profile") && shown.contains("ca.example:8443"), "{shown}");

    bed.run(&["profile", "use", "prod"]).succeeded();
    assert_eq!(bed.json(&["profile", "show"])["name"], "prod");
    bed.run(&["profile", "use", "nope"]).failed(1, "it has local, prod");
    assert_eq!(bed.json(&["profile", "show", "local"])["used"], false);
}
