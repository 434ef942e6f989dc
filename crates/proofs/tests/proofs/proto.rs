//! What `make lint` says of a definition that breaks its clients, or the style: the real script over a checkout of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const DEFINITION: &str = "proto/airunner/principal/v1/principal.proto";

/// A checkout with one commit: `proto/` and the script, as they are here.
struct Checkout(TempDir);

impl Checkout {
    fn new() -> Self {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let checkout = Self(TempDir::new().unwrap());
        let copied =
            Command::new("cp").arg("-r").arg(root.join("proto")).arg(checkout.path("")).status().unwrap();
        assert!(copied.success());
        fs::create_dir(checkout.path("tools")).unwrap();
        fs::copy(root.join("tools/check-proto"), checkout.path("tools/check-proto")).unwrap();
        checkout.git(&["init", "--quiet"]);
        checkout.git(&["add", "."]);
        checkout.commit();
        checkout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
        let done =
            Command::new("git").current_dir(self.0.path()).args(identity).args(arguments).status().unwrap();
        assert!(done.success(), "git {arguments:?}");
    }

    fn commit(&self) {
        self.git(&["commit", "--quiet", "--all", "--message", "a change"]);
    }

    fn replace(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(DEFINITION)).unwrap();
        assert!(text.contains(old), "{DEFINITION} holds no {old:?}");
        fs::write(self.path(DEFINITION), text.replace(old, new)).unwrap();
    }

    fn check(&self) -> Output {
        let named = std::env::var_os("AIRUNNER_TEST_TOOLS").map(PathBuf::from);
        let tools = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin"));
        assert!(tools.join("buf").exists(), "this test needs buf: run `make test-tools`");
        Command::new(self.path("tools/check-proto")).env("AIRUNNER_TEST_TOOLS", tools).output().unwrap()
    }

    fn refused(&self, why: &str) {
        let answer = self.check();
        let said = String::from_utf8_lossy(&answer.stdout) + String::from_utf8_lossy(&answer.stderr);
        assert!(!answer.status.success() && said.contains(why), "{said}");
    }

    fn accepted(&self) {
        let answer = self.check();
        assert!(
            answer.status.success(),
            "{}{}",
            String::from_utf8_lossy(&answer.stdout),
            String::from_utf8_lossy(&answer.stderr)
        );
    }
}

#[test]
fn a_definition_that_breaks_the_previous_commit_or_the_newest_tag_is_refused() {
    let checkout = Checkout::new();
    checkout.accepted();
    checkout.replace("rpc SuspendPrincipal", "rpc HaltPrincipal");
    checkout.replace("SuspendPrincipalRe", "HaltPrincipalRe");
    checkout.refused("\"SuspendPrincipal\"");

    checkout.commit();
    checkout.refused("breaks clients of HEAD^");
    checkout.git(&["tag", "v0.1.0", "HEAD^"]);
    checkout.git(&["commit", "--quiet", "--allow-empty", "--message", "another change"]);
    checkout.refused("breaks clients of v0.1.0");
}

#[test]
fn a_definition_against_the_style_is_refused() {
    let checkout = Checkout::new();
    checkout.replace("service PrincipalService", "service Principals");
    checkout.refused("should be suffixed with \"Service\"");
}
