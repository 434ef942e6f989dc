//! An environment in AWS through the real binary, against an emulator.

use std::{fs, process::Command};

use airunner_testkit::emulator::{CREDENTIALS, Emulator, REGION};
use serde_json::Value;

use crate::bed::{Bed, Run};

/// A bed with AWS beside it.
struct Cloud {
    bed: Bed,
    emulator: Emulator,
}

impl Cloud {
    fn new() -> Self {
        Self { bed: Bed::new(), emulator: Emulator::start() }
    }

    /// The binary with credentials, and with where AWS is.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bed.command(args);
        command.envs(CREDENTIALS);
        command.env("AIRUNNER_AWS_REGION", REGION).env("AIRUNNER_AWS_ENDPOINT", self.emulator.endpoint());
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// Each step with its outcome.
    fn steps(&self, args: &[&str]) -> Vec<(String, String)> {
        let run = self.run(&[&["--output", "json"], args].concat()).succeeded();
        let view: Value = serde_json::from_str(&run.stdout).unwrap();
        let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
        let steps = view["steps"].as_array().unwrap();
        steps.iter().map(|step| (text(step, "what"), text(step, "outcome"))).collect()
    }
}

const PROD: &[&str] = &["bootstrap", "--environment=prod", "--domain=airunner.example.com"];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

#[test]
fn an_environment_is_made_looked_at_and_found() {
    let cloud = Cloud::new();
    cloud.run(PROD).failed(1, "--create");
    let foreseen = cloud.steps(&with(PROD, &["--create", "--dry-run"]));
    assert!(foreseen.iter().any(|(what, outcome)| what == "root key" && outcome == "made"), "{foreseen:?}");
    cloud.run(PROD).failed(1, "alias/airunner-prod-sealing");

    let made = cloud.steps(&with(PROD, &["--create"]));
    for what in ["master key", "root key", "tables", "output bucket", "certificate authority"] {
        assert!(made.contains(&(what.to_owned(), "made".to_owned())), "{what}: {made:?}");
    }
    assert!(made.contains(&("upload".to_owned(), "uploaded".to_owned())), "{made:?}");
    let files = cloud.bed.files();
    let again = cloud.steps(PROD);
    assert!(again.iter().all(|(_, outcome)| outcome == "found" || outcome == "verified"), "{again:?}");
    assert_eq!(cloud.bed.files(), files, "a second run changed a file");

    let home = cloud.bed.folder.path().join("data/airunner/prod");
    let config = fs::read_to_string(home.join("server.toml")).unwrap();
    for line in [
        "environment = \"prod\"",
        "trust_domain = \"prod.airunner.internal\"",
        "names = [\"airunner.example.com\"]",
        "region = \"eu-central-1\"",
        "key = \"ssm:/airunner/prod/server-key\"",
        "backend = \"dynamodb\"",
        "kms_key = \"alias/airunner-prod-sealing\"",
        "kms_key = \"alias/airunner-prod-ca\"",
    ] {
        assert!(config.contains(line), "{config} lacks {line}");
    }
    assert!(!home.join("ca-key.pem").exists() && !home.join("server/key.pem").exists());
    assert!(home.join("admin/cert.pem").exists());
    let profile = fs::read_to_string(cloud.bed.config()).unwrap();
    assert!(
        profile.contains("[profiles.prod]") && profile.contains("https://airunner.example.com:443"),
        "{profile}"
    );

    // The issuing CA's successor, and the server's certificate, are made where the keys are.
    cloud.run(&["ca", "renew-issuer"]).succeeded();
    let rotated = cloud.run(&["certificate", "rotate", "--server"]).succeeded();
    assert!(rotated.stdout.contains("replaced"), "{}", rotated.stdout);
}

#[test]
fn the_root_s_key_may_be_in_secrets_manager() {
    let cloud = Cloud::new();
    let dev = ["bootstrap", "--environment=dev", "--signer=file"];
    cloud.run(&with(&dev, &["--create"])).succeeded();
    let again = cloud.steps(&dev);
    assert!(again.iter().all(|(_, outcome)| outcome == "found" || outcome == "verified"), "{again:?}");
    let home = cloud.bed.folder.path().join("data/airunner/dev");
    let config = fs::read_to_string(home.join("server.toml")).unwrap();
    assert!(config.contains("secret = \"/airunner/dev/ca-key\""), "{config}");
    assert!(!home.join("ca-key.pem").exists());
    cloud.run(&["ca", "renew-issuer"]).succeeded();
}

#[test]
fn no_credentials_a_wrong_region_and_a_place_without_aws_are_told() {
    let cloud = Cloud::new();
    let mut command = cloud.command(PROD);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    Run::of(&mut command).failed(1, "there are no AWS credentials").says("AWS_PROFILE");
    let elsewhere = with(PROD, &["--aws-region=eu-west-9", "--create"]);
    cloud.run(&with(PROD, &["--aws-region=Frankfurt"])).failed(1, "must be a region as eu-central-1");
    cloud.run(&elsewhere).succeeded();
    cloud.run(&with(PROD, &["--aws-region=eu-central-1"])).failed(1, "in eu-central-1");
    cloud.emulator.stop();
    cloud.run(PROD).failed(1, "can't be reached").says("[aws] endpoint");
}
