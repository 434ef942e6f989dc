//! The local environment: made once, found again, repaired after an interruption, renewed in time.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use airunner_core::{CertificateFilter, Kind, Label, PageRequest, PrincipalStatus};
use airunner_host::{
    Config,
    bootstrap::{Outcome, Plan},
    config::Environment,
    key_file,
    local::{self, LocalPlan},
    open_app,
};

use crate::bed::{Bed, outcome, plan, random};

const STEPS: [&str; 4] =
    ["certificate authority", "server certificate", "admin principal", "admin certificate"];

#[tokio::test]
async fn the_first_run_makes_everything_and_the_second_changes_no_file() {
    let bed = Bed::new();
    let first = bed.bootstrap().await;
    for what in STEPS.iter().chain(&["configuration", "master key"]) {
        assert_eq!(outcome(&first, what), Outcome::Made, "{what}");
    }
    assert_eq!(outcome(&first, "verification"), Outcome::Verified);
    let files = bed.files();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "admin/bundle.pem",
            "admin/ca.pem",
            "admin/cert.pem",
            "admin/key.pem",
            "ca-key.pem",
            "ca.pem",
            "issuing.pem",
            "master.key",
            "server.toml",
            "server/cert.pem",
            "server/key.pem"
        ]
    );
    let database = fs::read(bed.home.path().join("airunner.db")).unwrap();
    let second = bed.bootstrap().await;
    for what in STEPS.iter().chain(&["configuration", "master key"]) {
        assert_eq!(outcome(&second, what), Outcome::Found, "{what}");
    }
    assert!(bed.files() == files, "the second run changed a file");
    assert!(
        fs::read(bed.home.path().join("airunner.db")).unwrap() == database,
        "the second run changed the store"
    );
}

#[tokio::test]
async fn secrets_are_the_owner_s_alone() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let mode = |name: &str| fs::metadata(bed.home.path().join(name)).unwrap().permissions().mode() & 0o777;
    for secret in ["master.key", "ca-key.pem", "server/key.pem", "admin/key.pem", "airunner.db"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    for folder in ["", "server", "admin"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
}

#[tokio::test]
async fn openssl_verifies_what_was_made() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let file = |name: &str| bed.home.path().join(name).display().to_string();
    let at = bed.clock_seconds();
    for (leaf, purpose) in [("server/cert.pem", "sslserver"), ("admin/cert.pem", "sslclient")] {
        let mut command = Command::new("openssl");
        command.args([
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-attime",
            &at,
            "-CAfile",
            &file("ca.pem"),
        ]);
        command.args(["-untrusted", &file("issuing.pem"), &file(leaf)]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{leaf}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output =
        Command::new("openssl").args(["pkey", "-check", "-noout", "-in", &file("ca-key.pem")]).output();
    assert!(output.unwrap().status.success());
}

#[tokio::test]
async fn server_and_admin_are_replaced_in_their_last_week_and_the_ca_never() {
    let bed = Bed::new();
    bed.bootstrap().await;
    bed.pass_days(82);
    let early = bed.bootstrap().await;
    assert_eq!(outcome(&early, "server certificate"), Outcome::Found);
    assert_eq!(outcome(&early, "admin certificate"), Outcome::Found);
    bed.pass_days(2);
    let late = bed.bootstrap().await;
    assert_eq!(outcome(&late, "server certificate"), Outcome::Replaced);
    assert_eq!(outcome(&late, "admin certificate"), Outcome::Replaced);
    assert_eq!(outcome(&late, "certificate authority"), Outcome::Found);
    assert!(late.warnings.is_empty(), "{:?}", late.warnings);
    bed.pass_days(100);
    let older = bed.bootstrap().await;
    assert!(older.warnings[0].contains("renew-issuer"), "{:?}", older.warnings);
}

#[tokio::test]
async fn the_root_is_warned_about_in_its_last_year() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let root = fs::read(bed.home.ca()).unwrap();
    for _ in 0..10 {
        bed.pass_days(330);
        local::renew_issuing_ca(&bed.home, None, false, &bed.means()).await.unwrap();
    }
    let aged = bed.bootstrap().await;
    assert!(aged.warnings[0].contains("the root CA ends on"), "{:?}", aged.warnings);
    assert_eq!(outcome(&aged, "certificate authority"), Outcome::Found);
    assert!(fs::read(bed.home.ca()).unwrap() == root);
}

#[tokio::test]
async fn force_replaces_both_certificates_and_leaves_the_ca() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let before = bed.files();
    let forced = bed.try_bootstrap(&with(|steps| steps.force = true)).await.unwrap();
    assert_eq!(outcome(&forced, "certificate authority"), Outcome::Found);
    assert_eq!(outcome(&forced, "server certificate"), Outcome::Replaced);
    assert_eq!(outcome(&forced, "admin certificate"), Outcome::Replaced);
    let after = bed.files();
    for name in ["ca.pem", "ca-key.pem", "issuing.pem", "master.key", "server.toml"] {
        assert!(before[name] == after[name], "{name} changed");
    }
    for name in ["server/cert.pem", "server/key.pem", "admin/cert.pem", "admin/key.pem", "admin/bundle.pem"] {
        assert!(before[name] != after[name], "{name} is the old one");
    }
    // Again and again: it never runs out of the admin's slots.
    for _ in 0..4 {
        bed.try_bootstrap(&with(|steps| steps.force = true)).await.unwrap();
    }
}

#[tokio::test]
async fn a_new_ca_takes_the_old_one_s_place_with_all_that_stands_on_it() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let before = bed.files();
    let replaced = bed.try_bootstrap(&with(|steps| steps.force_new_ca = true)).await.unwrap();
    for what in ["certificate authority", "server certificate", "admin certificate"] {
        assert_eq!(outcome(&replaced, what), Outcome::Replaced, "{what}");
    }
    assert!(replaced.warnings[0].contains("enrol every principal"), "{:?}", replaced.warnings);
    let after = bed.files();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for name in ["ca.pem", "ca-key.pem", "issuing.pem", "server/cert.pem", "admin/ca.pem"] {
        assert!(before[name] != after[name], "{name} is the old one");
    }
    let again = bed.bootstrap().await;
    assert_eq!(outcome(&again, "certificate authority"), Outcome::Found);
}

#[tokio::test]
async fn any_file_that_went_missing_is_made_again() {
    for lost in [
        "admin/bundle.pem",
        "admin/ca.pem",
        "admin/cert.pem",
        "admin/key.pem",
        "ca.pem",
        "issuing.pem",
        "server.toml",
        "server/cert.pem",
        "server/key.pem",
    ] {
        let bed = Bed::new();
        bed.bootstrap().await;
        fs::remove_file(bed.home.path().join(lost)).unwrap();
        bed.bootstrap().await;
        assert!(bed.home.path().join(lost).exists(), "{lost}");
        let again = bed.bootstrap().await;
        for what in STEPS {
            assert_eq!(outcome(&again, what), Outcome::Found, "{lost}: {what}");
        }
    }
}

#[tokio::test]
async fn the_root_s_key_may_be_kept_elsewhere() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let elsewhere = bed.folder.path().join("safe.pem");
    fs::rename(bed.home.ca_key(), &elsewhere).unwrap();
    let found = bed.bootstrap().await;
    assert_eq!(outcome(&found, "certificate authority"), Outcome::Found);
    assert!(!bed.home.ca_key().exists());
    let error = local::renew_issuing_ca(&bed.home, None, false, &bed.means()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}

#[tokio::test]
async fn a_key_without_its_certificate_gets_the_one_it_was_issued() {
    let bed = Bed::new();
    bed.bootstrap().await;
    // As it is left by an end between the store's commit and the files.
    let admin = bed.home.admin();
    fs::rename(&admin.key, admin.key.with_extension("pem.new")).unwrap();
    let certificate = fs::read(&admin.cert).unwrap();
    fs::remove_file(&admin.cert).unwrap();
    bed.bootstrap().await;
    assert!(fs::read(&admin.cert).unwrap() == certificate, "another certificate took a second slot");
    assert!(!admin.key.with_extension("pem.new").exists());
    assert_eq!(active_admin_certificates(&bed).await, 1);
}

#[tokio::test]
async fn a_new_ca_that_was_interrupted_is_finished_or_forgotten() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let waiting = bed.home.path().join("ca-key.pem.new");
    // After the store's commit: the key that waits is the root's.
    fs::rename(bed.home.ca_key(), &waiting).unwrap();
    fs::copy(bed.home.server().key, bed.home.ca_key()).unwrap();
    bed.bootstrap().await;
    assert!(!waiting.exists());
    // Before it: the key that waits is nobody's.
    fs::copy(bed.home.server().key, &waiting).unwrap();
    let root_key = fs::read(bed.home.ca_key()).unwrap();
    bed.bootstrap().await;
    assert!(!waiting.exists());
    assert!(fs::read(bed.home.ca_key()).unwrap() == root_key);
}

#[tokio::test]
async fn a_lost_or_foreign_master_key_stops_it_before_anything_is_made() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let key = fs::read(bed.home.master_key()).unwrap();
    fs::remove_file(bed.home.master_key()).unwrap();
    let before = bed.files();
    let error = bed.try_bootstrap(&plan()).await.err().unwrap();
    assert!(error.message().contains("restore it from a backup"), "{error}");
    assert!(bed.files() == before);

    let other = Bed::new();
    other.bootstrap().await;
    fs::copy(other.home.master_key(), bed.home.master_key()).unwrap();
    assert_eq!(bed.try_bootstrap(&plan()).await.err().unwrap().label(), Label::WrongMasterKey);
    fs::write(bed.home.master_key(), key).unwrap();
    bed.bootstrap().await;
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused_with_the_command() {
    for name in ["master.key", "ca-key.pem", "server/key.pem", "admin/key.pem"] {
        let bed = Bed::new();
        bed.bootstrap().await;
        let path = bed.home.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = bed.try_bootstrap(&plan()).await.err().unwrap();
        assert_eq!(error.label(), Label::File);
        assert!(error.message().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
}

#[tokio::test]
async fn another_ca_s_root_key_is_refused() {
    let (bed, other) = (Bed::new(), Bed::new());
    bed.bootstrap().await;
    other.bootstrap().await;
    fs::copy(other.home.ca_key(), bed.home.ca_key()).unwrap();
    let error = bed.try_bootstrap(&plan()).await.err().unwrap();
    assert!(error.message().contains("the root key is not that of the CA in the store"), "{error}");
}

#[tokio::test]
async fn a_plan_that_contradicts_the_file_is_refused_and_a_config_with_a_typo_names_its_line() {
    let bed = Bed::new();
    bed.bootstrap().await;
    for (plan, flag) in [
        (LocalPlan { domain: Some("ca.example.com".parse().unwrap()), ..plan() }, "--domain"),
        (LocalPlan { environment: Environment::Dev, ..plan() }, "--environment"),
        (LocalPlan { api_addr: Some("127.0.0.1:1".parse().unwrap()), ..plan() }, "--api-addr"),
        (LocalPlan { profile: Some(airunner_net::TlsProfile::P384), ..plan() }, "--profile"),
        (LocalPlan { key_passphrase_file: Some("/x".into()), ..plan() }, "--key-passphrase-file"),
    ] {
        let error = bed.try_bootstrap(&plan).await.err().unwrap();
        assert!(error.message().contains(flag), "{error}");
    }
    assert!(bed.try_bootstrap(&with(|steps| steps.single_ca = true)).await.is_err());
    let text = fs::read_to_string(bed.home.server_toml()).unwrap();
    fs::write(bed.home.server_toml(), text.replace("plain_addr", "plane_addr")).unwrap();
    let error = bed.try_bootstrap(&plan()).await.err().unwrap();
    assert!(
        error
            .message()
            .contains("server.toml line 9: unknown key server.plane_addr, did you mean server.plain_addr?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_passphrase_encrypts_every_key_and_is_found_again() {
    let bed = Bed::new();
    let plan = LocalPlan { key_passphrase_file: Some(bed.passphrase_file("correct horse\n")), ..plan() };
    bed.try_bootstrap(&plan).await.unwrap();
    for key in [bed.home.ca_key(), bed.home.server().key, bed.home.admin().key] {
        assert_eq!(key_file::is_encrypted(&key).unwrap(), Some(true), "{}", key.display());
    }
    let files = bed.files();
    let again = bed.bootstrap().await;
    assert_eq!(outcome(&again, "admin certificate"), Outcome::Found);
    assert!(bed.files() == files);
    bed.passphrase_file("battery staple\n");
    assert!(bed.try_bootstrap(&plan).await.err().unwrap().message().contains("passphrase is wrong"));
}

#[tokio::test]
async fn one_ca_and_the_p384_profile_verify_too() {
    let bed = Bed::new();
    let mut plan = LocalPlan {
        profile: Some(airunner_net::TlsProfile::P384),
        domain: Some("ca.example.com".parse().unwrap()),
        ..with(|steps| steps.single_ca = true)
    };
    bed.try_bootstrap(&plan).await.unwrap();
    assert!(!bed.home.issuing().exists());
    plan.steps.force = true;
    bed.try_bootstrap(&plan).await.unwrap();
    let text = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in", &bed.home.server().cert.display().to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for says in
        ["secp384r1", "ecdsa-with-SHA384", "DNS:ca.example.com", "DNS:localhost", "IP Address:127.0.0.1"]
    {
        assert!(text.contains(says), "no {says} in {text}");
    }
}

#[tokio::test]
async fn a_suspended_admin_stays_suspended() {
    let bed = Bed::new();
    let made = bed.bootstrap().await;
    let host = open(&bed, &made.config).await;
    let change = airunner_core::StatusChange {
        status: PrincipalStatus::Suspended,
        reason: "test".into(),
        revoke: None,
        keep_an_admin: false,
    };
    let audit = airunner_core::AuditEntry {
        at: made_at(&bed),
        actor: airunner_core::Actor {
            principal: "test".into(),
            certificate: String::new(),
            address: String::new(),
        },
        action: "principal.suspend".into(),
        target: "admin".into(),
        outcome: airunner_core::AuditOutcome::Done,
        request_id: String::new(),
        detail: std::collections::BTreeMap::new(),
    };
    let stores = host.stores.stores();
    stores.principals.set_status(&"admin".parse().unwrap(), change, audit).await.unwrap();
    host.stores.close();
    assert_eq!(bed.try_bootstrap(&plan()).await.err().unwrap().label(), Label::PrincipalNotActive);
}

#[tokio::test]
async fn what_it_would_do_is_told_and_nothing_is_done() {
    let bed = Bed::new();
    let foreseen = local::foresee(&bed.home, &plan(), &bed.means()).await.unwrap();
    assert_eq!(outcome(&foreseen, "certificate authority"), Outcome::Made);
    assert!(!bed.home.path().exists());
    bed.bootstrap().await;
    let files = bed.files();
    let foreseen = local::foresee(&bed.home, &plan(), &bed.means()).await.unwrap();
    for what in STEPS {
        assert_eq!(outcome(&foreseen, what), Outcome::Found, "{what}");
    }
    let forced = local::foresee(&bed.home, &with(|steps| steps.force = true), &bed.means()).await.unwrap();
    assert_eq!(outcome(&forced, "admin certificate"), Outcome::Replaced);
    let new_ca =
        local::foresee(&bed.home, &with(|steps| steps.force_new_ca = true), &bed.means()).await.unwrap();
    assert_eq!(outcome(&new_ca, "certificate authority"), Outcome::Replaced);
    assert!(bed.files() == files);
}

#[tokio::test]
async fn two_at_once_make_one_ca() {
    let bed = Bed::new();
    let runs = (0..4).map(|_| {
        let home = bed.home.clone();
        let clock = bed.clock.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let means = local::Means {
                variable: &|_| None,
                flags: Vec::new(),
                watch: &|_| Ok(()),
                clock,
                random: random(),
            };
            let local = runtime.block_on(local::bootstrap(&home, &plan(), &means)).unwrap();
            outcome(&local, "certificate authority")
        })
    });
    let runs: Vec<_> = runs.collect::<Vec<_>>().into_iter().map(|run| run.join().unwrap()).collect();
    assert_eq!(runs.iter().filter(|outcome| **outcome == Outcome::Made).count(), 1, "{runs:?}");
    assert_eq!(runs.iter().filter(|outcome| **outcome == Outcome::Found).count(), 3, "{runs:?}");
}

#[tokio::test]
async fn the_server_s_certificate_is_rotated_alone_and_the_issuing_ca_succeeded() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let before = bed.files();
    let report = local::rotate_server(&bed.home, &bed.means()).await.unwrap().step;
    assert_eq!(report.outcome, Outcome::Replaced);
    let rotated = bed.files();
    assert!(before["server/cert.pem"] != rotated["server/cert.pem"]);
    assert!(before["admin/cert.pem"] == rotated["admin/cert.pem"]);
    local::renew_issuing_ca(&bed.home, None, false, &bed.means()).await.unwrap();
    let issuing = String::from_utf8(bed.files()["issuing.pem"].clone()).unwrap();
    assert_eq!(issuing.matches("BEGIN CERTIFICATE").count(), 2);
    let again = bed.bootstrap().await;
    assert_eq!(outcome(&again, "admin certificate"), Outcome::Found);
    assert_eq!(outcome(&again, "server certificate"), Outcome::Found);
}

#[tokio::test]
async fn what_was_made_opens_and_before_it_the_error_names_the_command() {
    let bed = Bed::new();
    let error = local::load(&bed.home, &bed.means()).unwrap_err();
    assert!(error.message().contains("bootstrap --environment=local"), "{error}");
    let made = bed.bootstrap().await;
    let host = open(&bed, &made.config).await;
    assert!(host.made.is_none());
    assert_eq!(host.app.settings().public_address, "127.0.0.1:8444");
    host.stores.close();

    let empty = made_empty(&bed);
    let refused = open_app(&empty, None, &|_| None, bed.clock.clone(), random()).await;
    let error = refused.err().unwrap();
    assert_eq!(error.label(), Label::NoIssuer);
    assert!(error.message().contains("bootstrap --environment=local"), "{error}");
}

fn with(change: impl FnOnce(&mut Plan)) -> LocalPlan {
    let mut plan = plan();
    change(&mut plan.steps);
    plan
}

async fn open(bed: &Bed, config: &Config) -> airunner_host::OpenHost {
    open_app(config, None, &|_| None, bed.clock.clone(), random()).await.unwrap()
}

fn made_empty(bed: &Bed) -> Config {
    let text = "environment = \"local\"\nmaster_key.keyfile = \"master.key\"\n[store]\npath = \"empty.db\"\n";
    Config::parse(&bed.home.server_toml(), text).unwrap()
}

fn made_at(bed: &Bed) -> airunner_core::Timestamp {
    airunner_core::Clock::now(&*bed.clock)
}

async fn active_admin_certificates(bed: &Bed) -> usize {
    let config = local::load(&bed.home, &bed.means()).unwrap();
    let host = open(bed, &config).await;
    let filter = CertificateFilter {
        principal_id: Some("admin".parse().unwrap()),
        active: true,
        now: made_at(bed),
        ..CertificateFilter::default()
    };
    let page =
        host.stores.stores().certificates.list_certificates(&filter, &PageRequest::first(100)).await.unwrap();
    host.stores.close();
    page.items.len()
}

impl Bed {
    fn clock_seconds(&self) -> String {
        made_at(self).as_secs().to_string()
    }
}
