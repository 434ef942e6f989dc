//! Servers whose keys, parameters and output are in AWS, against an emulator: what they start from, what they take up
//! while they run, and what keeps them from starting.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, sync::Arc, time::Duration};

use airunner_aws::{
    Aws, AwsOptions,
    parameters::{PLACEHOLDER, ParameterKind, put_parameter},
};
use airunner_core::{PrincipalType, Secret};
use airunner_host::{
    Cloud,
    bootstrap::Plan,
    config::Environment,
    local::{self, CloudPlan, LocalPlan, Means},
};
use airunner_net::system::{SystemClock, SystemRandom};
use airunner_proto::ca::v1::{RenewIssuerRequest, RenewIssuerResponse};
use airunner_testkit::emulator::{CREDENTIALS, Place, REGION};
use tonic::Code;

use crate::bed::{Bed, Process, WHO_AM_I, until};

const RENEW_ISSUER: &str = "/airunner.ca.v1.IssuerService/RenewIssuer";
const CERT: &str = "/airunner/prod/server-cert";
const KEY: &str = "/airunner/prod/server-key";
const CA: &str = "/airunner/prod/ca-cert";
const ONLINE_ROOT: &str = "[root]\nkms_key = \"alias/airunner-prod-ca\"\nonline = true\n";
pub(crate) const OFFLINE_ROOT: &str = "[root]\nkms_key = \"alias/airunner-prod-ca\"\n";

pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) bed: Bed,
}

pub(crate) fn in_aws<F: Future<Output = ()>>(test: &str, scenario: impl FnOnce(World) -> F) {
    Place::with_credentials(test, |place| {
        let bed = Bed::at(&place.folder);
        scenario(World { place, bed })
    });
}

impl World {
    fn configure(&self, more: &str) {
        let home = self.bed.home.path();
        fs::create_dir_all(home).unwrap();
        fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
        let text = format!(
            "environment = \"prod\"\n[server]\napi_addr = \"127.0.0.1:0\"\npublic_addr = \"127.0.0.1:0\"\n\
             plain_addr = \"127.0.0.1:0\"\nmetrics_addr = \"127.0.0.1:0\"\nnames = [\"airunner.example.com\"]\n\
             [aws]\nregion = \"{REGION}\"\nendpoint = \"{}\"\n\
             [tls]\ncert = \"ssm:{CERT}\"\nkey = \"ssm:{KEY}\"\nca = \"ssm:{CA}\"\npoll = \"1s\"\n\
             [store]\nbucket = \"airunner-prod-output\"\n\
             [master_key]\nkms_key = \"alias/airunner-prod-sealing\"\n{more}",
            self.place.endpoint,
        );
        fs::write(self.bed.home.server_toml(), text).unwrap();
    }

    /// With the store in DynamoDB too.
    pub(crate) fn configure_with_tables(&self, more: &str) {
        self.configure(more);
        let text = fs::read_to_string(self.bed.home.server_toml()).unwrap();
        let text = text.replace("[store]", "[store]\nbackend = \"dynamodb\"");
        fs::write(self.bed.home.server_toml(), text).unwrap();
    }

    pub(crate) async fn bootstrap(&self) {
        let plan = LocalPlan {
            environment: Environment::Prod,
            domain: None,
            profile: None,
            api_addr: None,
            public_addr: None,
            plain_addr: None,
            metrics_addr: None,
            key_passphrase_file: None,
            same_user: false,
            cloud: CloudPlan { create: true, ..CloudPlan::default() },
            steps: Plan::first_admin().unwrap(),
        };
        local::bootstrap(&self.bed.home, &plan, &means()).await.unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bed.command(args);
        command.envs(CREDENTIALS);
        command
    }

    fn start(&self) -> Process {
        Process::start(self.command(&["--ready-fd", "1"]))
    }

    /// A start that fails; what is said of it.
    fn refused(&self, arrange: impl FnOnce(&mut Command)) -> String {
        let mut command = self.command(&[]);
        arrange(&mut command);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    async fn aws(&self) -> Aws {
        let region = Some(REGION.to_owned());
        Aws::connect(&AwsOptions { region, endpoint: Some(self.place.endpoint.clone()) }).await.unwrap()
    }

    async fn put(&self, name: &str, value: &str) {
        let kind = if name == KEY { ParameterKind::Secure } else { ParameterKind::Plain };
        let value = Secret::new(value.as_bytes().to_vec());
        put_parameter(&self.aws().await, name, kind, &value, false).await.unwrap();
    }

    async fn read(&self, name: &str) -> String {
        let config = airunner_host::Config::load(Some(&self.bed.home.server_toml()), &|_| None, &[]).unwrap();
        let cloud = Cloud::of(&config).await.unwrap().unwrap();
        let value = cloud.read_parameters(&[name]).await.unwrap().pop().unwrap();
        String::from_utf8(value.expose().to_vec()).unwrap()
    }

    /// The serial number of the certificate that the server shows, by openssl.
    fn shown(&self, server: &Process) -> String {
        let line = format!(
            "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            server.api
        );
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn means() -> Means<'static> {
    Means {
        variable: &|_| None,
        flags: Vec::new(),
        watch: &|_| Ok(()),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::new()),
    }
}

#[test]
fn a_server_starts_from_ssm_and_takes_up_what_is_rotated_there() {
    in_aws("aws::a_server_starts_from_ssm_and_takes_up_what_is_rotated_there", async |world| {
        world.configure(OFFLINE_ROOT);
        world.bootstrap().await;
        let server = world.start();
        let first = world.shown(&server);
        assert!(first.starts_with("serial="), "{first}");
        world.bed.connect(&server, &world.bed.admin()).await;

        let rotated = local::rotate_server(&world.bed.home, &means()).await.unwrap();
        assert_eq!(rotated.key, KEY);
        until("the server shows what was rotated", async || world.shown(&server) != first).await;
        let log = server.stop();
        assert!(log.contains("the server certificate was reloaded"), "{log}");
    });
}

#[test]
fn a_hang_up_has_ssm_looked_at_at_once_and_nonsense_there_changes_nothing() {
    in_aws("aws::a_hang_up_has_ssm_looked_at_at_once_and_nonsense_there_changes_nothing", async |world| {
        world.configure(OFFLINE_ROOT);
        world.bootstrap().await;
        let mut command = world.command(&["--ready-fd", "1"]);
        command.env("AIRUNNER_TLS_POLL", "1h");
        let server = Process::start(command);
        let first = world.shown(&server);
        let hang_up = || {
            let pid = server.id().to_string();
            assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        };
        // Half of an upload: key and certificate don't belong together.
        let cert = world.read(CERT).await;
        local::rotate_server(&world.bed.home, &means()).await.unwrap();
        let rotated = world.read(CERT).await;
        world.put(CERT, &cert).await;
        hang_up();
        tokio::task::yield_now().await;
        assert_eq!(world.shown(&server), first);
        world.put(CERT, &rotated).await;
        until("the server shows what is there now", async || {
            hang_up();
            world.shown(&server) != first
        })
        .await;
        server.stop();
    });
}

#[test]
fn what_ecs_puts_into_variables_is_served() {
    in_aws("aws::what_ecs_puts_into_variables_is_served", async |world| {
        world.configure(OFFLINE_ROOT);
        world.bootstrap().await;
        let (ca, cert, key) = (world.read(CA).await, world.read(CERT).await, world.read(KEY).await);
        let text = fs::read_to_string(world.bed.home.server_toml()).unwrap();
        let without: Vec<_> = text.lines().filter(|line| !line.contains("ssm:")).collect();
        fs::write(world.bed.home.server_toml(), without.join("\n")).unwrap();
        let with_pem = |cert: &str| {
            let mut command = world.command(&["--ready-fd", "1"]);
            command.env("AIRUNNER_CA_CERT", &ca).env("AIRUNNER_SERVER_CERT", cert);
            command.env("AIRUNNER_SERVER_KEY", &key);
            command
        };
        let server = Process::start(with_pem(&cert));
        world.bed.connect(&server, &world.bed.admin()).await;
        server.stop();
        let refused = with_pem(PLACEHOLDER).output().unwrap();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains("AIRUNNER_SERVER_CERT holds the placeholder"), "{told}");
    });
}

#[test]
fn the_root_in_kms_signs_the_successor_where_servers_may_use_it() {
    in_aws("aws::the_root_in_kms_signs_the_successor_where_servers_may_use_it", async |world| {
        world.configure(ONLINE_ROOT);
        world.bootstrap().await;
        let server = world.start();
        let admin = world.bed.connect(&server, &world.bed.admin()).await;
        let renewed: RenewIssuerResponse = admin.ask(RENEW_ISSUER, &RenewIssuerRequest {}).await;
        let issuer = renewed.issuer.unwrap();
        assert!(issuer.subject_dn.starts_with("CN=airunner prod issuing CA "), "{}", issuer.subject_dn);
        let folder = &world.place.folder;
        fs::write(folder.join("successor.pem"), issuer.pem).unwrap();
        let verified = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .args([world.bed.home.ca(), folder.join("successor.pem")])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        // What the old one signed goes on counting.
        world.bed.connect(&server, &world.bed.admin()).await;
        server.stop();

        world.configure(OFFLINE_ROOT);
        let server = world.start();
        let admin = world.bed.connect(&server, &world.bed.admin()).await;
        let refused = admin.call(RENEW_ISSUER, &RenewIssuerRequest {}).await.unwrap();
        assert_eq!((refused.code, refused.label.as_str()), (Code::FailedPrecondition, "root-offline"));
        assert!(refused.message.contains("airunner-cli ca renew-issuer"), "{refused:?}");
        server.stop();
    });
}

#[test]
fn servers_on_the_same_tables_are_one_environment() {
    in_aws("aws::servers_on_the_same_tables_are_one_environment", async |world| {
        world.configure_with_tables(OFFLINE_ROOT);
        let told = world.refused(|_| {});
        assert!(told.contains("airunner_prod_") && told.contains("--create"), "{told}");
        world.bootstrap().await;
        let (one, other) = (world.start(), world.start());
        let worker = world.bed.principal(&one, "builder-7", PrincipalType::Worker).await;
        let connected = world.bed.connect(&other, &worker).await;
        let answer = connected.call(WHO_AM_I, &()).await.unwrap();
        assert_eq!(answer.code, Code::Ok, "{answer:?}");
        one.stop();
        other.stop();
    });
}

#[test]
fn what_keeps_a_server_from_starting_is_told_by_name() {
    in_aws("aws::what_keeps_a_server_from_starting_is_told_by_name", async |world| {
        world.configure(OFFLINE_ROOT);
        world.bootstrap().await;
        let says = |told: &str, all: &[&str]| {
            for what in all {
                assert!(told.contains(what), "{told} does not say {what}");
            }
        };
        let told = world.refused(|command| {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        });
        says(&told, &["no AWS credentials", "AWS_PROFILE", "(aws-credentials)"]);
        let told = world.refused(|command| {
            command.args(["--aws-region", "eu-north-1"]);
        });
        says(&told, &["eu-north-1", "[aws] region", "(aws-missing)"]);
        let told = world.refused(|command| {
            command.env("AIRUNNER_MASTER_KEY_KMS_KEY", "alias/nobody");
        });
        says(&told, &["alias/nobody", "Terraform", "--create-key"]);
        let told = world.refused(|command| {
            command.env("AIRUNNER_STORE_BUCKET", "nobodys-bucket");
        });
        says(&told, &["nobodys-bucket", "Terraform", "--create"]);
        let told = world.refused(|command| {
            command.env("AIRUNNER_TLS_KEY", "ssm:/airunner/prod/nothing");
        });
        says(&told, &["/airunner/prod/nothing", "bootstrap --environment=prod --create"]);
        let told = world.refused(|command| {
            command.env("AIRUNNER_AWS_ENDPOINT", "http://127.0.0.1:9");
        });
        says(&told, &["can't be reached", "(unreachable)"]);
        for name in [CA, KEY] {
            let before = world.read(name).await;
            world.put(name, PLACEHOLDER).await;
            says(&world.refused(|_| {}), &[name, "placeholder", "airunner-cli bootstrap --environment=prod"]);
            world.put(name, &before).await;
        }
        let server = world.start();
        tokio::time::timeout(Duration::from_secs(20), world.bed.connect(&server, &world.bed.admin()))
            .await
            .unwrap();
        server.stop();
    });
}
