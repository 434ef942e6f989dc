//! A folder for one environment, with a clock that tests move.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use airunner_core::{Result, SecureRandom};
use airunner_host::{
    Home,
    bootstrap::{Outcome, Plan},
    config::Environment,
    local::{self, CloudPlan, Local, LocalPlan, Means},
};
use airunner_net::system::SystemRandom;
use airunner_testkit::clock::FakeClock;
use tempfile::TempDir;

pub(crate) struct Bed {
    pub(crate) folder: TempDir,
    pub(crate) home: Home,
    pub(crate) clock: Arc<FakeClock>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        Self { folder, home, clock: Arc::new(FakeClock::new()) }
    }

    pub(crate) fn means(&self) -> Means<'_> {
        Means {
            variable: &|_| None,
            flags: Vec::new(),
            watch: &|_| Ok(()),
            clock: self.clock.clone(),
            random: random(),
        }
    }

    pub(crate) async fn bootstrap(&self) -> Local {
        self.try_bootstrap(&plan()).await.unwrap()
    }

    pub(crate) async fn try_bootstrap(&self, plan: &LocalPlan) -> Result<Local> {
        local::bootstrap(&self.home, plan, &self.means()).await
    }

    pub(crate) fn pass_days(&self, days: u64) {
        self.clock.advance(Duration::from_hours(24 * days));
    }

    pub(crate) fn passphrase_file(&self, passphrase: &str) -> PathBuf {
        let path = self.folder.path().join("passphrase");
        fs::write(&path, passphrase).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Every file but the database, with its content.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.home.path(), self.home.path(), &mut files);
        files.retain(|name, _| !name.starts_with("airunner.db"));
        files
    }
}

pub(crate) fn random() -> Arc<dyn SecureRandom> {
    Arc::new(SystemRandom::new())
}

pub(crate) fn plan() -> LocalPlan {
    LocalPlan {
        environment: Environment::Local,
        domain: None,
        profile: None,
        api_addr: None,
        public_addr: None,
        plain_addr: None,
        metrics_addr: None,
        key_passphrase_file: None,
        same_user: true,
        cloud: CloudPlan::default(),
        steps: Plan::first_admin().unwrap(),
    }
}

pub(crate) fn outcome(local: &Local, what: &str) -> Outcome {
    local.steps.iter().find(|step| step.what == what).unwrap_or_else(|| panic!("no step {what}")).outcome
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}
