//! An environment in AWS, against an emulator: keys in KMS, parameters in SSM, output in S3. Its rows are in a file here;
//! in DynamoDB they are in the tests of the command line.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use airunner_aws::{
    Aws, AwsOptions,
    parameters::{PLACEHOLDER, ParameterKind, put_parameter},
};
use airunner_core::{IssuerState, Label, Result, Secret};
use airunner_host::{
    Cloud, Config, Home,
    bootstrap::{Outcome, Plan, StepReport},
    config::Environment,
    local::{self, CloudPlan, Local, LocalPlan, Means},
    open_stores,
};
use airunner_net::system::SystemClock;
use airunner_testkit::emulator::{Place, REGION};

use crate::bed::{self, outcome, random};

const STOP_AFTER: &str = "AIRUNNER_TEST_STOP_AFTER";
const CERT: &str = "/airunner/prod/server-cert";
const KEY: &str = "/airunner/prod/server-key";
const CA: &str = "/airunner/prod/ca-cert";

/// Runs `scenario` where there are credentials, with an emulator and a folder of its own.
fn in_aws<F: Future<Output = ()>>(test: &str, scenario: impl FnOnce(World) -> F) {
    Place::with_credentials(test, |place| scenario(World(place)));
}

#[derive(Clone)]
struct World(Place);

impl World {
    fn home(&self) -> Home {
        Home::at(self.0.folder.join("home"))
    }

    /// The configuration of an environment whose rows are in a file, so that everything else is in AWS.
    fn configure(&self, home: &Home, more: &str) {
        fs::create_dir_all(home.path()).unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let text = format!(
            "environment = \"prod\"\n[server]\nnames = [\"airunner.example.com\"]\n\
             [aws]\nregion = \"{REGION}\"\nendpoint = \"{}\"\n\
             [tls]\ncert = \"ssm:{CERT}\"\nkey = \"ssm:{KEY}\"\nca = \"ssm:{CA}\"\n\
             [store]\nbackend = \"sqlite\"\npath = \"{}\"\nbucket = \"airunner-prod-output\"\n\
             [master_key]\nkms_key = \"alias/airunner-prod-sealing\"\n{more}\n",
            self.0.endpoint,
            self.0.folder.join("airunner.db").display(),
        );
        fs::write(home.server_toml(), text).unwrap();
    }

    async fn cloud(&self) -> Cloud {
        Cloud::of(&self.config(&self.home())).await.unwrap().unwrap()
    }

    fn config(&self, home: &Home) -> Config {
        Config::load(Some(&home.server_toml()), &|_| None, &[]).unwrap()
    }

    async fn parameters(&self) -> Vec<Vec<u8>> {
        let read = self.cloud().await.read_parameters(&[CA, CERT, KEY]).await.unwrap();
        read.into_iter().map(|value| value.expose().to_vec()).collect()
    }

    /// How many issuers there are in each state, destroyed ones left out.
    async fn issuers(&self) -> Vec<IssuerState> {
        let config = self.config(&self.home());
        let cloud = self.cloud().await;
        let stores = open_stores(&config, Some(&cloud), random()).await.unwrap();
        let states = stores.stores().issuers.list_issuers().await.unwrap();
        stores.close();
        states.into_iter().map(|issuer| issuer.state).collect()
    }
}

const KMS_ROOT: &str = "[root]\nkms_key = \"alias/airunner-prod-ca\"";
const SECRET_ROOT: &str = "[root]\nsecret = \"/airunner/prod/ca-key\"";

fn plan(create: bool) -> LocalPlan {
    LocalPlan {
        environment: Environment::Prod,
        same_user: false,
        cloud: CloudPlan { create, ..CloudPlan::default() },
        ..bed::plan()
    }
}

fn means(watch: &(dyn Fn(&StepReport) -> Result<()> + Sync)) -> Means<'_> {
    Means { variable: &|_| None, flags: Vec::new(), watch, clock: Arc::new(SystemClock), random: random() }
}

async fn bootstrap(home: &Home, plan: &LocalPlan) -> Result<Local> {
    local::bootstrap(home, plan, &means(&|_| Ok(()))).await
}

fn all_found(local: &Local) -> bool {
    local.steps.iter().all(|step| matches!(step.outcome, Outcome::Found | Outcome::Verified))
}

#[test]
fn what_is_missing_is_refused_and_made_with_create_and_found_again() {
    in_aws("cloud::what_is_missing_is_refused_and_made_with_create_and_found_again", async |world| {
        let home = world.home();
        world.configure(&home, KMS_ROOT);
        let error = bootstrap(&home, &plan(false)).await.err().unwrap();
        assert_eq!(error.label(), Label::AwsMissing);
        for says in ["alias/airunner-prod-sealing", "Terraform", "--create"] {
            assert!(error.message().contains(says), "{error} does not say {says}");
        }
        // The keys alone are not all.
        let keys = CloudPlan { create_key: true, ..CloudPlan::default() };
        let error = bootstrap(&home, &LocalPlan { cloud: keys, ..plan(false) }).await.err().unwrap();
        assert!(error.message().contains("airunner-prod-output"), "{error}");

        let foreseen = local::foresee(&home, &plan(true), &means(&|_| Ok(()))).await.unwrap();
        assert_eq!(outcome(&foreseen, "root key"), Outcome::Found);
        assert_eq!(outcome(&foreseen, "output bucket"), Outcome::Made);
        assert!(!home.ca().exists(), "looking made something");

        let made = bootstrap(&home, &plan(true)).await.unwrap();
        for (what, came) in [
            ("root key", Outcome::Found),
            ("output bucket", Outcome::Made),
            ("certificate authority", Outcome::Made),
            ("server certificate", Outcome::Made),
            ("admin principal", Outcome::Made),
            ("admin certificate", Outcome::Made),
            ("upload", Outcome::Uploaded),
            ("verification", Outcome::Verified),
        ] {
            assert_eq!(outcome(&made, what), came, "{what}");
        }
        assert!(!home.ca_key().exists() && !home.server().key.exists(), "a key is on the disk");
        let uploaded = world.parameters().await;
        assert!(all_found(&bootstrap(&home, &plan(false)).await.unwrap()));
        assert_eq!(world.parameters().await, uploaded);
        assert_eq!(world.issuers().await.len(), 2);

        // Another machine finds the server's certificate where servers look for it, and makes an admin's.
        let other = Home::at(world.0.folder.join("other"));
        world.configure(&other, KMS_ROOT);
        let there = bootstrap(&other, &plan(false)).await.unwrap();
        assert_eq!(outcome(&there, "server certificate"), Outcome::Found);
        assert_eq!(outcome(&there, "admin certificate"), Outcome::Made);
        assert_eq!(world.parameters().await, uploaded);
    });
}

#[test]
fn what_is_killed_after_any_step_is_finished_by_the_next_run() {
    const TEST: &str = "cloud::what_is_killed_after_any_step_is_finished_by_the_next_run";
    in_aws(TEST, async |world| {
        let home = world.home();
        if let Ok(steps) = std::env::var(STOP_AFTER) {
            let left = AtomicUsize::new(steps.parse().unwrap());
            let watch = |_: &StepReport| {
                if left.fetch_sub(1, SeqCst) == 1 {
                    std::process::abort();
                }
                Ok(())
            };
            local::bootstrap(&home, &plan(true), &means(&watch)).await.unwrap();
            return;
        }
        world.configure(&home, KMS_ROOT);
        let steps = 10;
        for stop_after in 1..=steps {
            let mut killed = world.0.command(TEST);
            let status = killed.env(STOP_AFTER, stop_after.to_string()).output().unwrap().status;
            assert!(!status.success(), "it was to be killed after {stop_after}");
        }
        let finished = bootstrap(&home, &plan(true)).await.unwrap();
        assert_eq!(finished.steps.len(), steps, "{:?}", finished.steps);
        assert!(all_found(&finished), "{:?}", finished.steps);
        assert_eq!(world.issuers().await.len(), 2);
    });
}

#[test]
fn two_at_once_on_two_machines_make_one_ca() {
    in_aws("cloud::two_at_once_on_two_machines_make_one_ca", async |world| {
        for (round, root) in [KMS_ROOT, SECRET_ROOT].into_iter().enumerate() {
            let folder = world.0.folder.join(round.to_string());
            let world = World(Place { folder, ..world.0.clone() });
            fs::create_dir(&world.0.folder).unwrap();
            let runs = (0..3).map(|n| {
                let home =
                    if n == 0 { world.home() } else { Home::at(world.0.folder.join(format!("other-{n}"))) };
                world.configure(&home, root);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let local = runtime.block_on(bootstrap(&home, &plan(true))).unwrap();
                    outcome(&local, "certificate authority")
                })
            });
            let runs: Vec<_> = runs.collect::<Vec<_>>().into_iter().map(|run| run.join().unwrap()).collect();
            let made = runs.iter().filter(|outcome| **outcome == Outcome::Made).count();
            assert_eq!(made, 1, "{runs:?}");
            assert_eq!(world.issuers().await.len(), 2);
            let again = bootstrap(&world.home(), &plan(false)).await.unwrap();
            assert_eq!(outcome(&again, "certificate authority"), Outcome::Found);
            // The root's key is that of the CA that counts.
            local::renew_issuing_ca(&world.home(), None, false, &means(&|_| Ok(()))).await.unwrap();
        }
    });
}

#[test]
fn placeholders_are_replaced_and_servers_refuse_them_by_name() {
    in_aws("cloud::placeholders_are_replaced_and_servers_refuse_them_by_name", async |world| {
        let home = world.home();
        world.configure(&home, SECRET_ROOT);
        bootstrap(&home, &plan(true)).await.unwrap();
        // As Terraform makes them.
        let options =
            AwsOptions { region: Some(REGION.to_owned()), endpoint: Some(world.0.endpoint.clone()) };
        let aws = Aws::connect(&options).await.unwrap();
        let placeholder = Secret::new(PLACEHOLDER.as_bytes().to_vec());
        for (name, kind) in
            [(CA, ParameterKind::Plain), (CERT, ParameterKind::Plain), (KEY, ParameterKind::Secure)]
        {
            put_parameter(&aws, name, kind, &placeholder, false).await.unwrap();
        }
        let error = world.cloud().await.read_parameters(&[CERT]).await.unwrap_err();
        assert_eq!(error.label(), Label::Placeholder);
        let again = bootstrap(&home, &plan(false)).await.unwrap();
        assert_eq!(outcome(&again, "upload"), Outcome::Uploaded);
        let detail = &again.steps.iter().find(|step| step.what == "upload").unwrap().detail;
        assert_eq!(detail.matches("replaced").count(), 3, "{detail}");
        world.parameters().await;
    });
}

#[test]
fn thresholds_and_force_replace_the_server_s_certificate_where_servers_look() {
    in_aws(
        "cloud::thresholds_and_force_replace_the_server_s_certificate_where_servers_look",
        async |world| {
            let home = world.home();
            world.configure(&home, KMS_ROOT);
            bootstrap(&home, &plan(true)).await.unwrap();
            let before = world.parameters().await;
            let rotated = local::rotate_server(&home, &means(&|_| Ok(()))).await.unwrap();
            assert_eq!((rotated.step.outcome, rotated.cert.as_str()), (Outcome::Replaced, CERT));
            let after = world.parameters().await;
            assert_eq!(before[0], after[0]);
            assert!(before[1] != after[1] && before[2] != after[2]);
            assert!(all_found(&bootstrap(&home, &plan(false)).await.unwrap()));

            let forced = LocalPlan { steps: Plan { force: true, ..plan(false).steps }, ..plan(false) };
            let forced = bootstrap(&home, &forced).await.unwrap();
            for what in ["server certificate", "admin certificate"] {
                assert_eq!(outcome(&forced, what), Outcome::Replaced, "{what}");
            }
            assert_eq!(outcome(&forced, "certificate authority"), Outcome::Found);

            let new_ca = LocalPlan { steps: Plan { force_new_ca: true, ..plan(false).steps }, ..plan(false) };
            let new_ca = bootstrap(&home, &new_ca).await.unwrap();
            assert_eq!(outcome(&new_ca, "certificate authority"), Outcome::Replaced);
            assert_ne!(world.parameters().await[0], after[0]);
            assert!(all_found(&bootstrap(&home, &plan(false)).await.unwrap()));
        },
    );
}

#[test]
fn kms_signs_the_successor_and_where_asked_every_leaf() {
    in_aws("cloud::kms_signs_the_successor_and_where_asked_every_leaf", async |world| {
        let home = world.home();
        world.configure(&home, &format!("{KMS_ROOT}\n[ca]\nissuer = \"kms\""));
        let made = bootstrap(&home, &plan(true)).await.unwrap();
        assert_eq!(outcome(&made, "issuing key"), Outcome::Made);
        let watch = |_: &StepReport| Ok(());
        let error = local::renew_issuing_ca(&home, None, false, &means(&watch)).await.unwrap_err();
        assert!(error.message().contains("--create-key"), "{error}");
        local::renew_issuing_ca(&home, None, true, &means(&watch)).await.unwrap();
        assert_eq!(world.issuers().await.len(), 3);
        // The successor's key signs; leaves of the old one go on counting.
        assert!(all_found(&bootstrap(&home, &plan(false)).await.unwrap()));
        local::rotate_server(&home, &means(&watch)).await.unwrap();
        let pem = world.parameters().await;
        let folder = world.0.folder.clone();
        for (name, content) in [("ca.pem", &pem[0]), ("cert.pem", &pem[1])] {
            fs::write(folder.join(name), content).unwrap();
        }
        let verified = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .args([
                folder.join("ca.pem"),
                "-untrusted".into(),
                folder.join("cert.pem"),
                folder.join("cert.pem"),
            ])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    });
}
