use std::{num::NonZeroU32, path::Path, time::Duration};

use airunner_app::RetentionPolicy;
use airunner_core::{KeyAlgorithm, Label, PrincipalType};

use super::*;

const LEAST: &str = "environment = \"local\"\n[master_key]\nkeyfile = \"master.key\"\n";

fn parse(text: &str) -> Result<Config> {
    Config::parse(Path::new("/etc/airunner/server.toml"), text)
}

fn refusal(text: &str) -> String {
    let error = parse(text).expect_err(text);
    assert_eq!(error.label(), Label::Config, "{error}");
    error.message().to_owned()
}

fn with_variables(text: &str, variables: &[(&str, &str)], flags: &[FlagSetting]) -> Result<Config> {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let source = Source::new(Some((Path::new("server.toml"), text)), &variable, flags)?;
    Config::validate(&source, &variable)
}

#[test]
fn what_is_not_said_has_the_documented_default() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.trust_domain().as_str(), "local.airunner.internal");
    assert_eq!(config.server().api_addr().to_string(), "127.0.0.1:8443");
    assert_eq!(config.server().public_addr().to_string(), "127.0.0.1:8444");
    assert_eq!(config.server().plain_addr().to_string(), "127.0.0.1:8080");
    assert_eq!(config.server().metrics_addr().to_string(), "127.0.0.1:9464");
    assert_eq!(config.server().grpc_addr(), None);
    assert_eq!(config.server().drain(), Duration::from_secs(30));
    assert_eq!(config.server().public_address(), "127.0.0.1:8444");
    assert_eq!(config.store().backend(), Backend::Sqlite);
    assert_eq!(config.store().path(), Path::new("/etc/airunner/airunner.db"));
    assert_eq!(config.store().output_dir(), Path::new("/etc/airunner/output"));
    assert_eq!(config.master_key(), Some(&MasterKeyConfig::Keyfile("/etc/airunner/master.key".into())));
    assert_eq!(config.jobs().output_limit(), 1 << 30);
    assert_eq!(config.jobs().retention(), RetentionPolicy::default());
    assert_eq!(config.ca().overlap(), Duration::from_hours(1));
    assert!(!config.ca().accepted_keys().contains(KeyAlgorithm::Ed25519));
    assert_eq!(config.worker().git_protocols(), ["https", "ssh"]);
    assert!(!config.worker().embedded());
    assert_eq!(config.limits().api_per_address(), None);
    let public = config.limits().public_per_address().unwrap();
    assert_eq!((public.per_second.get(), public.burst.get()), (20, 40));
    assert!(config.limits().spares_loopback());
    assert_eq!(config.limits().connections(), 20_000);
    assert_eq!(config.limits().api_connections_per_address(), None);
    assert_eq!(config.limits().public_connections_per_address(), Some(1_024));
    assert_eq!(config.limits().streams_per_principal(), 16_384);
}

#[test]
fn output_is_kept_as_long_as_its_job_unless_something_else_is_said() {
    let policy = |jobs: &str| parse(&format!("{LEAST}[jobs]\n{jobs}")).unwrap().jobs().retention();
    let days = |days: u64| Duration::from_hours(24 * days);
    let jobs = policy("retention = \"7d\"\n");
    assert_eq!((jobs.jobs, jobs.output, jobs.output_total), (days(7), days(7), None));
    let all = policy("retention = \"90d\"\noutput_retention = \"2d\"\noutput_total = 5000000\n");
    assert_eq!((all.jobs, all.output, all.output_total), (days(90), days(2), Some(5_000_000)));
    let none = policy("output_total = 0\n");
    assert_eq!(none.output_total, None);
}

#[test]
fn certificates_of_jobs_live_for_an_hour_or_less() {
    let validity =
        |jobs: &str| parse(&format!("{LEAST}[jobs]\n{jobs}")).unwrap().jobs().certificate_validity();
    assert_eq!(validity(""), Duration::from_hours(1));
    assert_eq!(validity("certificate_validity = \"10m\"\n"), Duration::from_mins(10));
}

#[test]
fn a_typo_is_named_with_its_line_and_what_was_meant() {
    let says = refusal("environment = \"local\"\n\n[server]\n# a comment\napi_adr = \"127.0.0.1:1\"\n");
    assert_eq!(
        says,
        "/etc/airunner/server.toml line 5: unknown key server.api_adr, did you mean server.api_addr?"
    );
    assert!(
        refusal("environment = \"local\"\n[servre]\napi_addr = \"x\"\n").contains("did you mean [server]?")
    );
    assert!(
        refusal("[worker]\nembeded = true\n")
            .contains("line 2: unknown key worker.embeded, did you mean worker.embedded?")
    );
    assert!(refusal("[cloud]\nregion = \"eu\"\n").contains("line 1: unknown section [cloud]"));
    assert!(refusal("server = 3\n").contains("server is a section: write [server]"));
    assert!(refusal("environment = \"local\"\nx =\n").contains("line 2"));
}

#[test]
fn keys_of_features_that_are_not_here_are_unknown() {
    for text in ["journal = \"x\"", "[store]\nregion = \"x\"", "[audit]\nwitness = \"x\""] {
        assert!(refusal(text).contains("unknown"), "{text}");
    }
}

#[test]
fn values_of_another_type_are_refused_by_line() {
    for (text, says) in [
        ("[server]\napi_addr = 8443", "line 4: server.api_addr is a text in quotes, and here it is a number"),
        ("[server]\nnames = \"a\"", "line 4: server.names is a list of texts"),
        ("[server.names]\na = 1", "line 3: server.names is a list of texts"),
        ("[worker]\nembedded = \"yes\"", "line 4: worker.embedded is true or false, and here it is a text"),
        (
            "[server]\ndrain_seconds = 1.5",
            "line 4: server.drain_seconds is a whole number, and here it is a number with a point",
        ),
    ] {
        let text = format!("environment = \"local\"\nmaster_key.keyfile = \"k\"\n{text}\n");
        assert!(refusal(&text).contains(says), "{} lacks {says}", refusal(&text));
    }
}

#[test]
fn weak_and_senseless_values_are_refused_by_name() {
    for (text, says) in [
        (
            "[server]\napi_addr = \"localhost\"",
            "server.api_addr is \"localhost\", and must be an IP address with a port",
        ),
        (
            "[server]\napi_addr = \"127.0.0.1:8444\"",
            "server.public_addr is 127.0.0.1:8444, which server.api_addr has already",
        ),
        ("[server]\ndrain_seconds = 100000", "server.drain_seconds is a whole number from 0 to 3600"),
        (
            "[server]\npublic_address = \"example.com\"",
            "server.public_address is \"example.com\", and must be host:port",
        ),
        ("[server]\nnames = [\"a_b\"]", "server.names is refused"),
        (
            "[server]\nproxy_protocol_from = [\"10.0.0.0/40\"]",
            "server.proxy_protocol_from is refused: \"10.0.0.0/40\" is no network",
        ),
        ("[tls]\nprofile = \"tls12\"", "tls.profile is refused: there is no TLS profile \"tls12\""),
        ("[tls]\ncert = \"c.pem\"", "tls.cert is set without tls.key"),
        ("[store]\nbackend = \"mysql\"", "store.backend is refused: there is no backend \"mysql\""),
        (
            "[store]\nbackend = \"memory\"\npath = \"x\"",
            "store.path is set, but the memory backend has no file",
        ),
        ("[ca]\noverlap = \"30d\"", "ca.overlap is \"30d\", and must be between 0s and 7d"),
        ("[ca]\noverlap = \"soon\"", "ca.overlap is refused: \"soon\" is no duration"),
        ("[ca.validity]\nadmin = \"1m\"", "ca.validity.admin is \"1m\", and must be between 5m and 90d"),
        ("[ca.validity]\nadmin = \"91d\"", "ca.validity.admin"),
        ("[ca]\non_fork = \"panic\"", "ca.on_fork is \"panic\", and must be refuse or suspend"),
        ("[ca]\naccepted_keys = [\"RSA\"]", "there is no key type \"RSA\""),
        ("[ca]\naccepted_keys = []", "ca.accepted_keys is empty"),
        ("[ca]\noid_arc = \"1\"", "ca.oid_arc is refused"),
        ("[limits]\nburst = 0", "limits.burst is a whole number from 1"),
        ("[limits]\nconnections = 0", "limits.connections is a whole number from 1"),
        ("[limits]\nper_principal_streams = 0", "limits.per_principal_streams is a whole number from 1"),
        ("[jobs]\noutput_limit = 1", "jobs.output_limit is a whole number from 1048576"),
        ("[jobs]\nretention = \"10s\"", "jobs.retention is \"10s\", and must be between 1m and"),
        ("[jobs]\nretention = 30", "jobs.retention"),
        ("[jobs]\nretention = \"7d\"\noutput_retention = \"8d\"", "is longer than jobs.retention, 7d"),
        ("[jobs]\ncertificate_validity = \"2h\"", "is \"2h\", and must be between 5m and 1h"),
        ("[jobs]\noutput_total = -1", "jobs.output_total is a whole number from 0"),
        ("[worker]\nconcurrency = 65", "worker.concurrency is a whole number from 1 to 64"),
        ("[worker]\ngit_protocols = [\"ext\"]", "worker.git_protocols holds \"ext\""),
        ("[worker]\ngit_max_size = 1", "worker.git_max_size is a whole number from 65536"),
        ("[worker]\ngit_cache_size = -1", "worker.git_cache_size is a whole number from 0"),
        ("[worker]\ngit_cache_age = \"1s\"", "worker.git_cache_age"),
        ("[worker]\ngit_user = \"\"", "worker.git_user is empty"),
        ("[worker]\nqueues = [\"-\"]", "worker.queues is refused"),
        (
            "[worker]\nisolation = \"jail\"",
            "worker.isolation is refused: \"jail\" is no level: say none, limits or sandbox",
        ),
        ("[worker]\nlabels = [\"arch\"]", "worker.labels holds \"arch\", which is not name=value"),
        ("[worker]\nlabels = [\"a b=c\"]", "worker.labels is refused"),
        ("[worker]\nstrict_order = 1", "worker.strict_order is true or false"),
        ("[worker]\nsame_user = true\nrun_as = \"x\"", "worker.run_as is set, but worker.same_user is true"),
    ] {
        let text = format!("environment = \"local\"\nmaster_key.keyfile = \"k\"\n{text}\n");
        assert!(refusal(&text).contains(says), "{} lacks {says}", refusal(&text));
    }
}

#[test]
fn the_master_key_comes_from_exactly_one_place() {
    assert!(refusal("environment = \"local\"\n").contains("master_key.keyfile is not set"));
    let both = "environment = \"local\"\n[master_key]\nkeyfile = \"k\"\npassphrase_env = \"P\"\n";
    assert!(refusal(both).contains("line 3: master_key.keyfile and master_key.passphrase_env are both set"));
    let inline = "environment = \"local\"\n[master_key]\npassphrase_env = \"correct horse\"\n";
    assert!(refusal(inline).contains("never the passphrase itself"));
    assert_eq!(parse("environment = \"local\"\n[store]\nbackend = \"memory\"\n").unwrap().master_key(), None);
}

#[test]
fn only_the_local_environment_may_run_jobs_as_the_server_s_user() {
    let text = |environment: &str| {
        format!(
            "environment = \"{environment}\"\nmaster_key.keyfile = \"k\"\n[worker]\nembedded = true\nsame_user = true\n"
        )
    };
    assert!(parse(&text("local")).unwrap().worker().same_user());
    for environment in ["dev", "prod"] {
        assert!(refusal(&text(environment)).contains("line 5: worker.same_user"), "{environment}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_a_flag_overrides_both() {
    let variables = [
        ("AIRUNNER_SERVER_API_ADDR", "127.0.0.1:1"),
        ("AIRUNNER_SERVER_PUBLIC_ADDR", "127.0.0.1:2"),
        ("AIRUNNER_SERVER_NAMES", "a.example, b.example"),
        ("AIRUNNER_WORKER_EMBEDDED", "true"),
        ("AIRUNNER_CA_VALIDITY_SERVICE", "1d"),
        ("AIRUNNER_LIMITS_PER_ADDRESS_RPS", "5"),
        ("AIRUNNER_SERVER_PORT", "an orchestrator's own"),
        ("AIRUNNER_SERVER_DRAIN_SECONDS", ""),
    ];
    let flag = FlagSetting { key: "server.api_addr", flag: "--api-addr", value: "127.0.0.1:3".into() };
    let config = with_variables(LEAST, &variables, &[flag]).unwrap();
    assert_eq!(config.server().api_addr().port(), 3);
    assert_eq!(config.server().public_addr().port(), 2);
    assert_eq!(config.server().names().len(), 2);
    assert!(config.worker().embedded());
    assert_eq!(config.ca().validity()[&PrincipalType::Service], Duration::from_hours(24));
    assert_eq!(config.limits().api_per_address().unwrap().burst, NonZeroU32::new(10).unwrap());
    assert_eq!(config.server().drain(), Duration::from_secs(30));
}

#[test]
fn what_is_set_for_an_address_holds_on_every_listener_and_nothing_is_off() {
    let limits = |text: &str| *parse(&format!("{LEAST}[limits]\n{text}\n")).unwrap().limits();
    let set = limits("per_address_connections = 7\nconnections = 9");
    assert_eq!((set.api_connections_per_address(), set.public_connections_per_address()), (Some(7), Some(7)));
    assert_eq!(set.connections(), 9);
    let off = limits("per_address_connections = 0\nper_address_rps = 0");
    assert_eq!((off.api_connections_per_address(), off.public_connections_per_address()), (None, None));
    assert_eq!((off.api_per_address(), off.public_per_address()), (None, None));
}

#[test]
fn a_bad_override_names_its_variable_or_its_flag() {
    let error = with_variables(LEAST, &[("AIRUNNER_SERVER_API_ADDR", "x")], &[]).unwrap_err();
    assert!(
        error.message().starts_with("environment variable AIRUNNER_SERVER_API_ADDR: server.api_addr"),
        "{error}"
    );
    let flag = FlagSetting { key: "server.api_addr", flag: "--api-addr", value: "x".into() };
    let error = with_variables(LEAST, &[], &[flag]).unwrap_err();
    assert!(error.message().starts_with("--api-addr: server.api_addr"), "{error}");
}

#[test]
fn pem_may_stand_in_the_environment() {
    let variables = [("AIRUNNER_SERVER_CERT", "PEM"), ("AIRUNNER_SERVER_KEY", "PEM")];
    let config = with_variables(LEAST, &variables, &[]).unwrap();
    let (cert, key) = config.tls().identity().unwrap();
    assert_eq!(*cert, PemSource::Variable("AIRUNNER_SERVER_CERT"));
    assert_eq!(*key, PemSource::Variable("AIRUNNER_SERVER_KEY"));
}

#[test]
fn the_p384_profile_narrows_the_keys_whatever_the_file_says() {
    let text = format!("{LEAST}[tls]\nprofile = \"p384\"\n[ca]\naccepted_keys = [\"P-256\", \"Ed25519\"]\n");
    let config = parse(&text).unwrap();
    assert!(config.ca().accepted_keys().contains(KeyAlgorithm::EcdsaP384));
    assert!(!config.ca().accepted_keys().contains(KeyAlgorithm::EcdsaP256));
    assert!(!config.ca().accepted_keys().contains(KeyAlgorithm::Ed25519));
}

#[test]
fn a_listener_on_every_address_is_reached_by_the_server_s_name() {
    let text = format!("{LEAST}[server]\npublic_addr = \"[::]:8444\"\nnames = [\"ca.example.com\"]\n");
    assert_eq!(parse(&text).unwrap().server().public_address(), "ca.example.com:8444");
    let bound = parse(LEAST)
        .unwrap()
        .with_bound("127.0.0.1:40001".parse().unwrap(), "127.0.0.1:40002".parse().unwrap());
    assert_eq!(bound.server().api_address(), "127.0.0.1:40001");
    assert_eq!(bound.server().public_address(), "127.0.0.1:40002");
}

const IN_AWS: &str = "environment = \"prod\"\n[aws]\nregion = \"eu-central-1\"\n[store]\nbackend = \"dynamodb\"\n\
                      [master_key]\nkms_key = \"alias/airunner-prod-sealing\"\n";

#[test]
fn what_is_in_aws_is_named_once_and_in_its_form() {
    let text = format!(
        "{IN_AWS}[tls]\ncert = \"ssm:/airunner/prod/server-cert\"\nkey = \"ssm:/airunner/prod/server-key\"\n\
         [root]\nkms_key = \"alias/airunner-prod-ca\"\nonline = true\n[ca]\nissuer = \"kms\"\n"
    );
    let config = parse(&text).unwrap();
    assert!(config.uses_aws());
    assert_eq!(config.aws().region(), Some("eu-central-1"));
    assert_eq!((config.store().backend(), config.store().prefix()), (Backend::DynamoDb, "airunner"));
    assert_eq!(config.master_key(), Some(&MasterKeyConfig::KmsKey("alias/airunner-prod-sealing".into())));
    assert_eq!(*config.root().place(), RootPlace::Kms("alias/airunner-prod-ca".into()));
    assert!(config.root().online());
    assert_eq!(config.ca().issuer(), IssuerPlace::Kms);
    let (cert, _) = config.tls().identity().unwrap();
    assert_eq!(*cert, PemSource::Parameter("/airunner/prod/server-cert".into()));
    assert_eq!(config.tls().poll(), Duration::from_secs(30));
    assert!(!parse(LEAST).unwrap().uses_aws());
}

#[test]
fn what_makes_no_sense_in_aws_is_refused_by_name() {
    for (more, says) in [
        (
            "[tls]\ncert = \"ssm:server-cert\"\nkey = \"k\"",
            "tls.cert names the SSM parameter \"server-cert\"",
        ),
        ("[tls]\npoll = \"10ms\"", "tls.poll is \"10ms\", and must be between 1s and 1h"),
        ("[root]\nonline = true", "root.online is true, and only a root in KMS"),
        ("[root]\nsecret = \"/a\"\nonline = true", "root.online is true, and only a root in KMS"),
        ("[root]\nkms_key = \"my key\"", "root.kms_key is \"my key\", and must be alias/NAME"),
        ("[root]\nkms_key = \"alias/a\"\nsecret = \"/a\"", "root.secret and root.kms_key are both set"),
        ("[ca]\nissuer = \"hsm\"", "ca.issuer is \"hsm\", and must be store or kms"),
    ] {
        let text = format!("{IN_AWS}{more}\n");
        assert!(refusal(&text).contains(says), "{} lacks {says}", refusal(&text));
    }
    for (was, is, says) in [
        ("\"eu-central-1\"", "\"Frankfurt am Main\"", "aws.region is \"Frankfurt am Main\""),
        ("[aws]", "[aws]\nendpoint = \"localhost\"", "aws.endpoint is \"localhost\", and must be an URL"),
        ("[store]", "[store]\nprefix = \"Air_Runner\"", "store.prefix is 1 to 32 lower-case letters"),
        ("[store]", "[store]\nbucket = \"-x\"", "store.bucket is the name of an S3 bucket"),
        ("[store]", "[store]\npath = \"x.db\"", "store.path is set, but the dynamodb backend has no file"),
        ("[master_key]", "[master_key]\nkeyfile = \"k\"", "master_key.kms_key is not the only one"),
    ] {
        let text = IN_AWS.replace(was, is);
        assert!(refusal(&text).contains(says), "{} lacks {says}", refusal(&text));
    }
}
