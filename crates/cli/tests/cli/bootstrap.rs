//! `bootstrap`: once, again, interrupted, twice at once, and told wrong things.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use crate::bed::{Bed, Run};

const LOCAL: &[&str] = &["bootstrap", "--environment=local"];

#[test]
fn the_first_run_makes_everything_and_the_second_changes_no_file() {
    let bed = Bed::new();
    let first = bed.run(LOCAL).succeeded();
    for step in [
        "1/6  certificate authority  made",
        "4/6  admin certificate      made",
        "6/6  verification           verified",
    ] {
        assert!(first.stdout.contains(step), "{step} is not in {}", first.stdout);
    }
    assert!(first.stdout.contains("Next:\n  airunner-server\n  airunner-cli whoami\n"), "{}", first.stdout);
    assert_eq!(first.stderr, "");
    let files = bed.files();
    let second = bed.run(LOCAL).succeeded();
    assert!(!second.stdout.contains("made") && !second.stdout.contains("replaced"), "{}", second.stdout);
    assert!(bed.files() == files, "the second run changed a file");
}

#[test]
fn the_report_is_one_document_on_request() {
    let bed = Bed::new();
    let report = bed.json(LOCAL);
    let steps = report["steps"].as_array().unwrap();
    let numbered: Vec<_> = steps.iter().filter_map(|step| step["step"].as_u64()).collect();
    assert_eq!(numbered, [1, 2, 3, 4, 5, 6]);
    assert_eq!(report["home"], bed.home().display().to_string());
    let yaml = bed.run(&[LOCAL, &["--output", "yaml"]].concat()).succeeded();
    assert!(yaml.stdout.starts_with("environment: local\n"), "{}", yaml.stdout);
}

#[test]
fn secrets_are_the_owner_s_alone_and_stand_in_no_output() {
    let bed = Bed::new();
    let run = bed.run(LOCAL).succeeded();
    for secret in ["master.key", "ca-key.pem", "server/key.pem", "admin/key.pem", "airunner.db"] {
        let mode = fs::metadata(bed.home().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    assert_eq!(fs::metadata(bed.home()).unwrap().permissions().mode() & 0o777, 0o700);
    let master_key = fs::read_to_string(bed.home().join("master.key")).unwrap();
    assert!(!run.stdout.contains(master_key.trim()) && !run.stdout.contains("PRIVATE KEY"));
}

#[test]
fn openssl_verifies_what_was_made() {
    let bed = Bed::new();
    bed.run(&[LOCAL, &["--domain", "ca.example.com"]].concat()).succeeded();
    assert_verifies(&bed);
    let text = openssl(&bed, &["x509", "-noout", "-text", "-in", "server/cert.pem"]).succeeded().stdout;
    for name in ["DNS:ca.example.com", "DNS:localhost", "IP Address:127.0.0.1"] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
}

#[test]
fn the_p384_profile_and_one_ca_verify_too() {
    let bed = Bed::new();
    bed.run(&[LOCAL, &["--profile", "p384", "--single-ca"]].concat()).succeeded();
    for leaf in ["server/cert.pem", "admin/cert.pem"] {
        openssl(&bed, &["verify", "-x509_strict", "-CAfile", "ca.pem", leaf]).succeeded();
    }
    let text = openssl(&bed, &["x509", "-noout", "-text", "-in", "ca.pem"]).succeeded().stdout;
    assert!(text.contains("secp384r1") && text.contains("ecdsa-with-SHA384"), "{text}");
}

/// Kills the run as soon as a file is there: after each step, and between those of its parts. The next run finishes.
#[test]
fn a_run_that_was_killed_anywhere_is_finished_by_the_next() {
    for moment in [
        "server.toml",
        "airunner.db",
        "master.key",
        "ca-key.pem",
        "ca.pem",
        "issuing.pem",
        "server/key.pem.new",
        "server/cert.pem",
        "server/key.pem",
        "admin/key.pem.new",
        "admin/cert.pem",
        "admin/key.pem",
        "admin/ca.pem",
        "admin/bundle.pem",
    ] {
        let bed = Bed::new();
        let awaited = bed.home().join(moment);
        let mut child = bed.command(LOCAL).stdout(Stdio::null()).spawn().unwrap();
        while !awaited.exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        // It may have ended by itself meanwhile.
        let _ = child.kill();
        child.wait().unwrap();
        assert_finishes(&bed, moment);
    }
}

#[test]
fn a_forced_renewal_and_a_new_ca_that_were_killed_are_finished_too() {
    for (flag, moment) in [
        ("--force", "server/key.pem.new"),
        ("--force", "admin/key.pem.new"),
        ("--force-new-ca", "ca-key.pem.new"),
        ("--force-new-ca", "server/key.pem.new"),
        ("--force-new-ca", "admin/key.pem.new"),
    ] {
        let bed = Bed::bootstrapped();
        let awaited = bed.home().join(moment);
        let mut child = bed.command(&[LOCAL, &[flag]].concat()).stdout(Stdio::null()).spawn().unwrap();
        while !awaited.exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().unwrap();
        assert_finishes(&bed, moment);
    }
}

#[test]
fn two_at_once_make_one_ca() {
    let bed = Bed::new();
    let runs: Vec<_> = (0..4).map(|_| bed.command(LOCAL).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let outputs: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
    let made = outputs.iter().filter(|output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).contains("certificate authority  made")
    });
    assert_eq!(made.count(), 1);
    assert_verifies(&bed);
}

#[test]
fn what_it_would_do_is_told_and_nothing_is_done() {
    let bed = Bed::new();
    let run = bed.run(&[LOCAL, &["--dry-run"]].concat()).succeeded();
    assert!(run.stdout.starts_with("Nothing was done."), "{}", run.stdout);
    assert!(bed.files().is_empty());
    bed.run(LOCAL).succeeded();
    let files = bed.files();
    let run = bed.run(&[LOCAL, &["--dry-run", "--force"]].concat()).succeeded();
    assert!(run.stdout.contains("server certificate     replaced"), "{}", run.stdout);
    assert!(bed.files() == files);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let bed = Bed::bootstrapped();
    for name in ["master.key", "ca-key.pem", "server/key.pem", "admin/key.pem"] {
        let path = bed.home().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        bed.run(LOCAL).failed(1, &format!("chmod 600 {}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_typo_in_the_configuration_names_file_line_and_what_was_meant() {
    let bed = Bed::bootstrapped();
    let path = bed.home().join("server.toml");
    let text = fs::read_to_string(&path).unwrap();
    for (wrong, says) in [
        (
            text.replace("plain_addr", "plain_adr"),
            "server.toml line 9: unknown key server.plain_adr, did you mean server.plain_addr?",
        ),
        (
            text.replace("127.0.0.1:9464", "9464"),
            "server.toml line 10: server.metrics_addr is \"9464\", and must be an IP address",
        ),
        (text.replace("[store]", "[strore]"), "unknown section [strore], did you mean [store]?"),
        (text.replace("\"sqlite\"", "\"sqlite"), "server.toml line 20"),
    ] {
        fs::write(&path, wrong).unwrap();
        bed.run(LOCAL).failed(1, says);
    }
}

#[test]
fn a_lost_master_key_is_not_replaced_by_another() {
    let bed = Bed::bootstrapped();
    fs::remove_file(bed.home().join("master.key")).unwrap();
    bed.run(LOCAL).failed(1, "restore it from a backup");
    assert!(!bed.home().join("master.key").exists());
}

#[test]
fn what_is_in_aws_needs_a_region_and_what_is_not_is_not_asked_about_it() {
    let bed = Bed::bootstrapped();
    for environment in ["dev", "prod"] {
        let run = bed.run(&["bootstrap", &format!("--environment={environment}")]);
        run.failed(1, "no AWS region is set: set [aws] region, AIRUNNER_AWS_REGION or --aws-region");
        assert!(!bed.folder.path().join(format!("data/airunner/{environment}/server.toml")).exists());
    }
    for flag in ["--create", "--create-key", "--root-online", "--signer=kms", "--aws-region=eu-central-1"] {
        bed.run(&["bootstrap", "--environment=local", flag]).failed(2, "leave out what is about AWS");
    }
    bed.run(&["bootstrap", "--environment=moon"]).failed(2, "local, dev and prod");
}

#[test]
fn another_folder_is_named_by_the_profile() {
    let bed = Bed::new();
    let elsewhere = bed.folder.path().join("elsewhere");
    let flag = format!("--output-dir={}", elsewhere.display());
    let run = bed.run(&[LOCAL, &[&flag]].concat()).succeeded();
    assert!(run.stdout.contains(&format!("airunner-server --config {}/server.toml", elsewhere.display())));
    let profile = fs::read_to_string(bed.config()).unwrap();
    assert!(profile.contains(&format!("home = \"{}\"", elsewhere.display())), "{profile}");
    // So that what works on the environment's files finds them without a flag.
    bed.run(&["ca", "renew-issuer"]).succeeded();
    let issuing = fs::read_to_string(elsewhere.join("issuing.pem")).unwrap();
    assert_eq!(issuing.matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn a_passphrase_encrypts_the_keys_and_the_next_run_needs_no_flag() {
    let bed = Bed::new();
    let passphrase = bed.folder.path().join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let flag = format!("--key-passphrase-file={}", passphrase.display());
    bed.run(&[LOCAL, &[&flag]].concat()).failed(1, "chmod 600");
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    bed.run(&[LOCAL, &[&flag]].concat()).succeeded();
    for key in ["ca-key.pem", "server/key.pem", "admin/key.pem"] {
        let text = fs::read_to_string(bed.home().join(key)).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{key}");
    }
    let files = bed.files();
    bed.run(LOCAL).succeeded();
    assert!(bed.files() == files);
    openssl(&bed, &["pkey", "-noout", "-in", "ca-key.pem", "-passin", "pass:correct horse"]).succeeded();
}

fn assert_finishes(bed: &Bed, moment: &str) {
    let run = bed.run(LOCAL);
    assert_eq!(run.code, 0, "after a kill at {moment}: {}{}", run.stdout, run.stderr);
    assert_verifies(bed);
    let roots = fs::read_to_string(bed.home().join("ca.pem")).unwrap();
    assert_eq!(roots.matches("BEGIN CERTIFICATE").count(), 1, "after a kill at {moment}");
    let files = bed.files();
    let leftover = files.keys().find(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".new") || name.starts_with('.')
    });
    assert_eq!(leftover, None, "after a kill at {moment}");
    bed.run(LOCAL).succeeded();
    assert!(bed.files() == files, "after a kill at {moment} the third run changed a file");
}

fn assert_verifies(bed: &Bed) {
    for (leaf, purpose) in [("server/cert.pem", "sslserver"), ("admin/cert.pem", "sslclient")] {
        let args = [
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            "ca.pem",
            "-untrusted",
            "issuing.pem",
            leaf,
        ];
        openssl(bed, &args).succeeded();
    }
    for folder in ["server", "admin"] {
        let of = |args: &[&str]| openssl(bed, args).succeeded().stdout;
        let key = of(&["pkey", "-pubout", "-in", &format!("{folder}/key.pem")]);
        let certificate = of(&["x509", "-noout", "-pubkey", "-in", &format!("{folder}/cert.pem")]);
        assert_eq!(key, certificate, "{folder}: the key is another's");
    }
}

fn openssl(bed: &Bed, args: &[&str]) -> Run {
    Run::of(Command::new("openssl").args(args).current_dir(bed.home()))
}
