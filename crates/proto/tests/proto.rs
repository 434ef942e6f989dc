//! The committed descriptor set is that of the proto files, and each of them is in it.

use std::{collections::BTreeSet, fs, path::Path};

use airunner_proto::{DESCRIPTOR_SET, FILES};
use prost_reflect::DescriptorPool;

fn proto_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto"))
}

#[test]
fn the_committed_descriptor_set_is_current() {
    let committed = fs::read(proto_dir().join("descriptor.binpb")).unwrap();
    assert!(
        committed == DESCRIPTOR_SET,
        "proto/ has changed: run `make proto-generate` and commit the result"
    );
}

#[test]
fn every_proto_file_is_compiled() {
    fn walk(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.insert(path.strip_prefix(proto_dir()).unwrap().display().to_string());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(proto_dir(), &mut found);
    // What others define comes in by import.
    found.retain(|file| !file.starts_with("google/"));
    assert_eq!(found, FILES.iter().map(|file| (*file).to_owned()).collect());
}

/// Fields that hold a secret. Each is returned once by the call that makes it, or sent once by its holder.
const SECRETS: &[&str] =
    &["airunner.ca.v1.CreateEnrollmentTokenResponse.token", "airunner.ca.v1.EnrollRequest.token"];

#[test]
fn fields_that_hold_a_secret_are_on_the_list_and_marked() {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let marked: BTreeSet<String> = pool
        .all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter(|field| {
            field.options().get_field_by_name("debug_redact").is_some_and(|v| v.as_bool() == Some(true))
        })
        .map(|field| field.full_name().to_owned())
        .collect();
    assert_eq!(marked, SECRETS.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn what_holds_a_secret_does_not_print_it() {
    let request = airunner_proto::ca::v1::EnrollRequest { token: "aet1_secret".to_owned(), csr: Vec::new() };
    assert!(!format!("{request:?}").contains("aet1_secret"));
    let response = airunner_proto::ca::v1::CreateEnrollmentTokenResponse {
        enrollment: None,
        token: "aet1_secret".to_owned(),
    };
    assert!(!format!("{response:?}").contains("aet1_secret"));
}
