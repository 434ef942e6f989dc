//! Every command of docs/runbook.md, as it stands there, against an environment in AWS: an emulator, the real binary, the
//! AWS CLI, and a server in a process of its own. What ECS does is asked of the emulator too; what Terraform does is held
//! by tools/check-terraform.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use airunner_server::start::{Flags, run};
use airunner_testkit::emulator::{CREDENTIALS, Emulator, REGION, program};
use clap::Parser as _;
use serde_json::Value;

use crate::bed::{Bed, Run};

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");
/// Set where this test is run once more, as the server.
const SERVE: &str = "AIRUNNER_TEST_SERVE";
const TEST: &str = "runbook::every_command_of_the_runbook_does_what_it_says";

/// The blocks of commands under a heading, in order.
fn blocks(heading: &str) -> Vec<&'static str> {
    let section = RUNBOOK.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the runbook has no section {heading}"));
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.collect()
}

/// An environment, its server and who looks after them.
struct World {
    bed: Bed,
    emulator: Emulator,
    address: String,
    server: Option<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ended = server.kill().and_then(|()| server.wait());
        }
    }
}

impl World {
    fn new() -> Self {
        let world =
            Self { bed: Bed::new(), emulator: Emulator::start(), address: String::new(), server: None };
        // What Terraform makes.
        world.script("airunner-cli bootstrap --environment=prod --domain airunner.example.com --create \
                      --api-addr=127.0.0.1:0 --public-addr=127.0.0.1:0 --plain-addr=127.0.0.1:0 --metrics-addr=127.0.0.1:0");
        world.script(
            "aws ecs create-cluster --cluster-name airunner-prod
             aws ecs register-task-definition --family airunner-prod \
               --container-definitions '[{\"name\": \"server\", \"image\": \"airunner\", \"memory\": 128}]'
             aws ecs create-service --cluster airunner-prod --service-name airunner-prod --desired-count 0 \
               --task-definition airunner-prod",
        );
        world
    }

    fn command(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(name);
        // The binaries are found as they are where they are installed.
        let tools = [
            Path::new(env!("CARGO_BIN_EXE_airunner-cli")).parent().unwrap(),
            program("aws").parent().unwrap(),
        ]
        .map(Path::to_owned);
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(tools.into_iter().chain(env::split_paths(&path))).unwrap();
        command.env_clear().env("PATH", path).envs(CREDENTIALS).current_dir(self.bed.folder.path());
        for (name, folder) in [("HOME", ""), ("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config")] {
            command.env(name, self.bed.folder.path().join(folder));
        }
        command.env("AWS_ENDPOINT_URL", self.emulator.endpoint()).env("AWS_DEFAULT_REGION", REGION);
        command.env("AIRUNNER_AWS_REGION", REGION).env("AIRUNNER_AWS_ENDPOINT", self.emulator.endpoint());
        command.env("AIRUNNER_PROFILE", "prod").stdin(Stdio::null());
        if !self.address.is_empty() {
            command.env("AIRUNNER_SERVER", format!("https://{}", self.address));
        }
        command
    }

    /// Starts the server as this test in another process.
    fn serve(&mut self) {
        let config = self.bed.folder.path().join("data/airunner/prod/server.toml");
        let mut command = self.command(env::current_exe().unwrap());
        command.args(["--exact", TEST, "--nocapture"]).env(SERVE, config);
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        self.server = Some(server);
        let ready = lines.map_while(Result::ok).find(|line| line.contains("{\"api\""));
        let ready = ready.unwrap_or_else(|| panic!("the server does not say where it listens"));
        let addresses: Value = serde_json::from_str(&ready[ready.find('{').unwrap()..]).unwrap();
        addresses["api"].as_str().unwrap().clone_into(&mut self.address);
    }

    /// Runs a block of the runbook, on this principal and this certificate.
    fn block(&self, block: &str, serial: &str) -> Run {
        let settings = blocks("# Runbook").remove(0);
        let commands: Vec<_> = block.lines().filter(|line| !line.starts_with("terraform ")).collect();
        self.script(&format!("{settings}\nSERIAL={serial}\n{}", commands.join("\n")))
    }

    fn script(&self, script: &str) -> Run {
        let mut command = self.command("bash");
        let run = Run::of(command.args(["-euo", "pipefail", "-c", script]));
        assert_eq!(run.code, 0, "{script}\n{}{}", run.stdout, run.stderr);
        run
    }

    fn json(&self, args: &str) -> Value {
        let run = self.script(&format!("airunner-cli {args} --output json"));
        serde_json::from_str(&run.stdout).unwrap()
    }

    fn status(&self) -> String {
        self.json("principal get w1")["status"].as_str().unwrap().to_owned()
    }

    /// A new certificate of the principal, which is active; its serial number.
    fn certificate(&self) -> String {
        self.script("rm -rf w1; airunner-cli certificate generate w1 --output-dir w1");
        let listed = self.json("certificate list --principal w1 --active");
        listed["certificates"][0]["serial_number"].as_str().unwrap().to_owned()
    }

    fn is_revoked(&self, serial: &str) -> bool {
        !self.json(&format!("certificate get {serial}"))["revoked_at"].is_null()
    }

    /// Does by the first block of a section what its second then does by hand.
    fn both_ways(
        &self,
        heading: &str,
        arrange: impl Fn(&Self) -> String,
        holds: impl Fn(&Self, &str) -> bool,
    ) {
        let all = blocks(heading);
        assert!(all.len() >= 2, "{heading} has a fall-back");
        for block in all {
            let serial = arrange(self);
            assert!(!holds(self, &serial), "{heading}: it holds before");
            self.block(block, &serial);
            assert!(holds(self, &serial), "{heading}:\n{block}");
        }
    }
}

#[test]
fn every_command_of_the_runbook_does_what_it_says() {
    if let Some(config) = env::var_os(SERVE) {
        let flags = ["airunner-server".into(), "--config".into(), config, "--ready-fd".into(), "1".into()];
        let _ended = run(Flags::parse_from::<_, std::ffi::OsString>(flags));
        return;
    }
    let mut world = World::new();
    for block in blocks("Bootstrap") {
        world.block(block, "");
    }
    world.serve();
    world.script("airunner-cli principal create w1 --type worker");
    let activate =
        |world: &World| drop(world.script("airunner-cli principal activate w1 2>/dev/null || true"));
    let suspend = |world: &World| drop(world.script("airunner-cli principal suspend w1 --yes"));
    let active = |world: &World| {
        activate(world);
        String::new()
    };
    let suspended = |world: &World| {
        suspend(world);
        String::new()
    };
    world.both_ways("Suspend", active, |world, _| world.status() == "suspended");
    world.both_ways("Activate", suspended, |world, _| world.status() == "active");
    let issued = |world: &World| {
        activate(world);
        world.certificate()
    };
    world.both_ways("Revoke a certificate", issued, World::is_revoked);
    world.both_ways("Revoke all of a principal", issued, World::is_revoked);
    activate(&world);
    let serial = world.certificate();
    for block in blocks("List what expires") {
        // The principal's certificate ends in 90 days, the month's list has none of those.
        world.block(block, "");
        let listed = world.block(&block.replace("30d", "120d").replace("30 days", "120 days"), "");
        assert!(listed.stdout.contains(&serial), "{block}\n{}", listed.stdout);
    }
    for block in blocks("Deploy") {
        world.block(block, "");
    }
    let shown =
        "aws ssm get-parameter --name /airunner/prod/server-cert --query Parameter.Value --output text";
    let before = world.script(shown).stdout;
    let server = world.bed.folder.path().join("server");
    fs::create_dir(&server).unwrap();
    fs::write(server.join("cert.pem"), &before).unwrap();
    world.script(
        "aws ssm get-parameter --with-decryption --name /airunner/prod/server-key --query Parameter.Value \
         --output text > server/key.pem",
    );
    let [rotate, deploy, by_hand] = blocks("Rotate the server's certificate")[..] else {
        panic!("three ways to rotate");
    };
    world.block(rotate, "");
    assert_ne!(world.script(shown).stdout, before);
    world.block(deploy, "");
    world.block(by_hand, "");
    assert_eq!(world.script(shown).stdout.trim(), before.trim());
}
