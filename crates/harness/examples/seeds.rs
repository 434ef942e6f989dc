//! Writes the inputs to begin with as files, in a folder for each target: `seeds FOLDER`.

#![expect(clippy::unwrap_used, reason = "a tool of developers")]

use std::{fs, path::Path};

use airunner_harness::TARGETS;

fn main() {
    let root = std::env::args_os().nth(1).unwrap();
    for target in &TARGETS {
        let folder = Path::new(&root).join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), seed).unwrap();
        }
    }
}
