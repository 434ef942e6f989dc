//! Which crate may know which: arrows point down only, heavy things stay in their rooms, and what exists for tests is
//! known to tests alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use cargo_metadata::{CargoOpt, Dependency, DependencyKind, Metadata, MetadataCommand, Package};

/// The floor of each room; those of tests stand on none.
const FLOORS: &[(&str, u8)] = &[
    ("proto", 0),
    ("core", 0),
    ("net", 1),
    ("pki", 1),
    ("store", 1),
    ("exec", 1),
    ("app", 2),
    // It gives the rows that the intents of `store` run over, and so stands on it.
    ("aws", 2),
    ("client", 2),
    ("host", 3),
    ("agent", 3),
    ("server", 4),
    ("cli", 4),
];

/// Rooms that exist for tests.
const FOR_TESTS: &[&str] = &["testkit", "e2e", "proofs", "bench", "harness"];

/// Who may turn on the features that make callers out of nothing: in tests only, but for the testkit, whose whole
/// `callers` feature is for tests.
const CALLERS_OUT_OF_NOTHING: &[&str] = &["testkit", "app", "server", "e2e"];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned))
        .exec()
        .unwrap()
}

fn room(name: &str) -> Option<&str> {
    name.strip_prefix("airunner-")
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn rooms(metadata: &Metadata) -> BTreeMap<&str, &Package> {
    metadata
        .workspace_packages()
        .into_iter()
        .filter_map(|package| Some((room(&package.name)?, package)))
        .collect()
}

fn own_dependencies(package: &Package) -> impl Iterator<Item = (&Dependency, &str)> {
    package.dependencies.iter().filter_map(|dependency| Some((dependency, room(&dependency.name)?)))
}

#[test]
fn every_room_has_a_floor_or_is_for_tests() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let room = room(&package.name).unwrap_or_else(|| panic!("{} is called airunner-…", package.name));
        assert!(floor(room).is_some() != FOR_TESTS.contains(&room), "{room} needs a place in this file");
    }
}

#[test]
fn arrows_point_down() {
    let metadata = metadata();
    for (from, package) in rooms(&metadata) {
        let Some(own) = floor(from) else { continue };
        for (dependency, to) in own_dependencies(package) {
            let below = floor(to);
            match dependency.kind {
                // A test may use its neighbours and what exists for tests.
                DependencyKind::Development => {
                    assert!(below.is_none_or(|below| below <= own), "tests of {from} look up to {to}");
                }
                _ => assert!(below.is_some_and(|below| below < own), "{from} must not depend on {to}"),
            }
        }
    }
}

/// Everything that is compiled into `room`, its own name left out: without tests, with every feature.
fn compiled_into(metadata: &Metadata, room: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
    let root = names.iter().find(|(_, name)| **name == format!("airunner-{room}")).unwrap().0;
    let mut seen = BTreeSet::new();
    let mut next = vec![*root];
    while let Some(id) = next.pop() {
        let node = resolve.nodes.iter().find(|node| node.id == *id).unwrap();
        let normal = node
            .deps
            .iter()
            .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
        for dep in normal {
            if seen.insert(names[&dep.pkg].clone()) {
                next.push(&dep.pkg);
            }
        }
    }
    seen
}

#[test]
fn heavy_things_stay_in_their_rooms() {
    let metadata = metadata();
    let cloud =
        |name: &str| name.starts_with("aws-sdk-") || name.starts_with("aws-smithy") || name == "aws-config";
    for (room, forbidden) in [
        ("core", &["tokio", "tonic", "axum", "hyper", "rusqlite", "rustls"][..]),
        ("pki", &["tokio", "tonic", "axum", "hyper", "rusqlite"]),
        ("app", &["tonic", "axum", "hyper", "rusqlite", "rustls"]),
        ("store", &["tonic", "axum", "hyper", "rustls"]),
        ("exec", &["tonic", "axum", "hyper", "rusqlite", "rustls"]),
        ("client", &["rusqlite"]),
    ] {
        let compiled = compiled_into(&metadata, room);
        let found: Vec<_> =
            compiled.iter().filter(|name| forbidden.contains(&name.as_str()) || cloud(name)).collect();
        assert!(found.is_empty(), "{room} is compiled with {found:?}");
    }
    let exec = compiled_into(&metadata, "exec");
    let own: Vec<_> = exec.iter().filter(|name| room(name).is_some()).collect();
    assert!(own.is_empty(), "exec stands alone, and not on {own:?}");
}

#[test]
fn what_is_built_without_aws_has_nothing_of_its_sdk() {
    let of_sdk = |name: &String| {
        name.starts_with("aws-sdk-") || name.starts_with("aws-smithy") || *name == "aws-config"
    };
    for room in ["host", "server", "cli"] {
        // A workspace's metadata is of all of its rooms together; a tree is of one alone.
        let with = |features: &[&str]| {
            let mut tree = Command::new(env!("CARGO"));
            tree.args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{lib}"]);
            tree.args(["--package", &format!("airunner-{room}")]).args(features);
            let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let names = String::from_utf8(output.stdout).unwrap();
            names.lines().map(|name| name.replace('_', "-")).filter(of_sdk).collect::<BTreeSet<_>>()
        };
        let without = with(&["--no-default-features"]);
        assert!(without.is_empty(), "{room} without features is compiled with {without:?}");
        // And what is looked for is found where it is.
        assert!(with(&[]).contains("aws-sdk-kms"));
    }
}

#[test]
fn app_uses_no_runtime_but_its_channels() {
    let metadata = metadata();
    let rooms = rooms(&metadata);
    let normal = |room: &str, name: &str| {
        rooms[room].dependencies.iter().any(|dep| dep.name == name && dep.kind == DependencyKind::Normal)
    };
    for name in ["tokio-util", "tokio-stream", "reqwest", "serde_norway", "toml"] {
        assert!(!normal("app", name), "app depends on {name}");
    }
    assert!(!normal("core", "tokio"));
}

#[test]
fn what_exists_for_tests_is_known_to_tests_alone() {
    let metadata = metadata();
    for (from, package) in rooms(&metadata) {
        for (dependency, to) in own_dependencies(package) {
            let test_only = dependency.kind == DependencyKind::Development || FOR_TESTS.contains(&from);
            assert!(!FOR_TESTS.contains(&to) || test_only, "{from} ships {to}");
            let out_of_nothing =
                dependency.features.iter().any(|feature| feature == "callers" || feature == "test-callers");
            if out_of_nothing {
                assert!(
                    CALLERS_OUT_OF_NOTHING.contains(&from),
                    "{from} makes callers that nobody authenticated"
                );
                assert!(
                    dependency.kind == DependencyKind::Development
                        || (from == "testkit" && dependency.optional),
                    "{from} ships callers that nobody authenticated"
                );
            }
        }
        let default = package.features.get("default").into_iter().flatten();
        assert!(!default.clone().any(|feature| feature.contains("callers")), "{from} has them by default");
    }
}
