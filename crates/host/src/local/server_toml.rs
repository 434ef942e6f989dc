//! The `server.toml` of an environment: written once, and never changed by bootstrap again.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use airunner_core::{Error, Label, Result};
use airunner_net::TlsProfile;

use super::{LocalPlan, Means, RootSigner};
use crate::{
    Cloud, Config, Home,
    config::{AwsConfig, Environment, IssuerPlace},
};

/// The text for a new environment, and what it means.
pub(super) async fn compose(home: &Home, plan: &LocalPlan, means: &Means<'_>) -> Result<(String, Config)> {
    let text = match plan.environment {
        Environment::Local => text(plan)?,
        Environment::Dev | Environment::Prod => cloud_text(plan, means).await?,
    };
    let config = Config::parse(&home.server_toml(), &text)?;
    Ok((text, config))
}

/// A file that is there wins; a plan that says otherwise is refused, rather than half followed.
pub(super) fn check(config: &Config, plan: &LocalPlan) -> Result<()> {
    let file = config.file().map(|file| file.display().to_string()).unwrap_or_default();
    let refuse = |key: &str, has: String, flag: &str| {
        Err(Error::new(
            Label::Config,
            format!(
                "{file} has {key} = {has}, and {flag} says otherwise: edit the file, or leave the flag out"
            ),
        ))
    };
    if config.environment() != plan.environment {
        return refuse("environment", config.environment().to_string(), "--environment");
    }
    if let Some(profile) = plan.profile.filter(|profile| *profile != config.tls().profile()) {
        return refuse("tls.profile", config.tls().profile().to_string(), &format!("--profile {profile}"));
    }
    if let Some(domain) = plan.domain.as_ref().filter(|domain| !config.server().names().contains(domain)) {
        let names: Vec<_> = config.server().names().iter().map(ToString::to_string).collect();
        return refuse("server.names", format!("[{}]", names.join(", ")), &format!("--domain {domain}"));
    }
    let server = config.server();
    for (key, has, flag, says) in [
        ("api_addr", server.api_addr(), "--api-addr", plan.api_addr),
        ("public_addr", server.public_addr(), "--public-addr", plan.public_addr),
        ("plain_addr", server.plain_addr(), "--plain-addr", plan.plain_addr),
        ("metrics_addr", server.metrics_addr(), "--metrics-addr", plan.metrics_addr),
    ] {
        if says.is_some_and(|says| says != has) {
            return refuse(&format!("server.{key}"), has.to_string(), flag);
        }
    }
    let has = config.tls().key_passphrase_file();
    if let Some(says) = plan.key_passphrase_file.as_ref().filter(|says| has != Some(*says)) {
        let has = has.map_or_else(|| "none".to_owned(), |has| has.display().to_string());
        return refuse("tls.key_passphrase_file", has, &format!("--key-passphrase-file {}", says.display()));
    }
    Ok(())
}

/// What every environment has: its name, and where it listens.
fn head(plan: &LocalPlan, ip: IpAddr) -> Result<String> {
    let mut text = String::from(
        "# Made by bootstrap, which leaves it alone from now on: change it as you like. Every key can also be set by\n\
         # an environment variable, as AIRUNNER_SERVER_API_ADDR.\n",
    );
    let environment = plan.environment;
    line(&mut text, "environment", environment.as_str());
    let domain = environment.default_trust_domain()?;
    line(&mut text, "trust_domain", domain.as_str());

    text.push_str("\n[server]\n");
    let address = |given: Option<SocketAddr>, port| given.unwrap_or(SocketAddr::from((ip, port))).to_string();
    line(&mut text, "api_addr", &address(plan.api_addr, 8443));
    line(&mut text, "public_addr", &address(plan.public_addr, 8444));
    line(&mut text, "plain_addr", &address(plan.plain_addr, 8080));
    line(&mut text, "metrics_addr", &address(plan.metrics_addr, 9464));
    let names: Vec<String> = plan.domain.iter().map(|name| format!("\"{name}\"")).collect();
    // Writing into a string does not fail.
    let _ = writeln!(text, "names = [{}]", names.join(", "));
    Ok(text)
}

/// An environment that is in AWS: nothing in it names this machine.
async fn cloud_text(plan: &LocalPlan, means: &Means<'_>) -> Result<String> {
    let aws = AwsConfig::given(means.variable, &means.flags)?;
    let region = Cloud::connect(&aws).await?.region().to_owned();
    let environment = plan.environment;
    let mut text = head(plan, IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    if let (Some(domain), None, None) = (&plan.domain, plan.api_addr, plan.public_addr) {
        text.push_str("# As others reach the server, through the balancer.\n");
        line(&mut text, "api_address", &format!("{domain}:443"));
        line(&mut text, "public_address", &format!("{domain}:8444"));
    }

    text.push_str("\n[aws]\n");
    line(&mut text, "region", &region);
    if let Some(endpoint) = aws.endpoint() {
        line(&mut text, "endpoint", endpoint);
    }

    text.push_str("\n[tls]\n");
    line(&mut text, "profile", plan.profile.unwrap_or(TlsProfile::Default).as_str());
    for (key, parameter) in [("cert", "server-cert"), ("key", "server-key"), ("ca", "ca-cert")] {
        line(&mut text, key, &format!("ssm:/airunner/{environment}/{parameter}"));
    }

    text.push_str("\n[store]\n");
    line(&mut text, "backend", "dynamodb");
    line(&mut text, "prefix", "airunner");

    text.push_str("\n[master_key]\n");
    line(&mut text, "kms_key", &format!("alias/airunner-{environment}-sealing"));

    text.push_str("\n[root]\n");
    match plan.cloud.signer {
        RootSigner::Kms => line(&mut text, "kms_key", &format!("alias/airunner-{environment}-ca")),
        RootSigner::File => line(&mut text, "secret", &format!("/airunner/{environment}/ca-key")),
    }
    if plan.cloud.online {
        text.push_str("# Servers may sign with the root's key.\nonline = true\n");
    }
    let signs_by_root = plan.steps.single_ca && plan.cloud.signer == RootSigner::Kms;
    if plan.cloud.issuer == IssuerPlace::Kms || signs_by_root {
        text.push_str("\n[ca]\n# KMS signs every leaf.\nissuer = \"kms\"\n");
    }
    Ok(text)
}

fn text(plan: &LocalPlan) -> Result<String> {
    let mut text = head(plan, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    text.push_str("\n[tls]\n");
    line(&mut text, "profile", plan.profile.unwrap_or(TlsProfile::Default).as_str());
    for (key, path) in [("cert", "server/cert.pem"), ("key", "server/key.pem"), ("ca", "ca.pem")] {
        line(&mut text, key, path);
    }
    if let Some(path) = &plan.key_passphrase_file {
        line(&mut text, "key_passphrase_file", utf8(path)?);
    }

    text.push_str("\n[store]\n");
    line(&mut text, "backend", "sqlite");
    line(&mut text, "path", "airunner.db");

    text.push_str("\n[master_key]\n");
    line(&mut text, "keyfile", "master.key");

    text.push_str("\n[jobs]\n");
    text.push_str(JOBS_KEYS);

    text.push_str(
        "\n[worker]\n# A worker inside the server, so that one process is a whole system.\nembedded = true\n",
    );
    if plan.same_user {
        text.push_str(
            "# Jobs run as the server's own user, who can read the keys in this folder: for one's own machine only.\n\
             same_user = true\n",
        );
    }
    text.push_str(WORKER_KEYS);
    Ok(text)
}

/// What there is to say of all jobs, as it is where nothing is said.
const JOBS_KEYS: &str = "\
# unique = false                 # no job while another of its owner with the same command waits or runs
# retention = \"30d\"              # how long a job is kept after its end
# output_retention = \"30d\"       # and its output, which goes with it at the latest
# output_total = 0               # bytes of all output: past them that of the job goes that ended first; 0 is no bound
# output_limit = 1073741824      # bytes of one job's output: past them its oldest goes
# certificate_validity = \"1h\"    # life of the certificates of jobs, which is no more; the worker renews them
";

/// What else there is to say of the worker, as it is where nothing is said.
const WORKER_KEYS: &str = "\
# run_as = \"nobody\"              # whom jobs run as, where the server is root
# concurrency = 4                # jobs at a time; as many as there are processors
# queues = [\"default\"]
# strict_order = false           # nothing of a queue as long as one before it has a job
# labels = []                    # what it is, for jobs that require it: [\"arch=arm64\"]
# isolation = \"none\"             # the least that jobs are kept from this machine: none, limits or sandbox
# best_effort = false            # jobs may run without what this machine can't give, where they allow it
# host_network = false           # at the isolation sandbox: jobs that ask for it have this machine's network
# git_protocols = [\"https\", \"ssh\"]
# git_credentials = \"FILE\"       # for private repositories; only the server's user may read it
# git_user = \"61000:61000\"       # who fetches repositories, where the server is root; ssh needs a name
# git_cache = \"DIR\"              # where repositories are kept between jobs
# git_cache_size = 8589934592    # bytes of them; 0 keeps none
# git_cache_age = \"14d\"
# git_max_size = 4294967296      # bytes that a fetch may bring, and its checkout have
# output_buffer = 1073741824     # bytes on disk for what jobs print while the server takes nothing; 0 for none
";

fn line(text: &mut String, key: &str, value: &str) {
    // Writing into a string does not fail. The value is written as TOML writes texts.
    let _ = writeln!(text, "{key} = {}", toml::Value::from(value));
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(Label::Config, format!("{} is no UTF-8, which a configuration must be", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings_of;

    /// The settings that `keys` names, as a file that says them all.
    fn said(section: &str, keys: &str) -> Config {
        let start = "environment = \"local\"\n[master_key]\nkeyfile = \"k\"\n";
        let named: Vec<_> = keys.lines().map(|line| &line[2..]).collect();
        let text = format!("{start}[{section}]\n{}", named.join("\n"));
        Config::parse(Path::new("/home/server.toml"), &text).unwrap()
    }

    #[test]
    fn every_setting_of_jobs_is_named_as_it_is_where_nothing_is_said() {
        let (config, silent) = (said("jobs", JOBS_KEYS), said("jobs", ""));
        assert_eq!(format!("{:?}", config.jobs()), format!("{:?}", silent.jobs()));
        for key in settings_of("jobs") {
            assert!(JOBS_KEYS.contains(&format!("# {key} = ")), "{key}");
        }
    }

    #[test]
    fn every_setting_of_the_worker_is_named_and_what_is_named_can_be_set() {
        let config = said("worker", &format!("# embedded = true\n{WORKER_KEYS}"));
        assert_eq!(config.worker().git().credentials(), Some(Path::new("/home/FILE")));
        for key in settings_of("worker") {
            // The two that bootstrap decides itself.
            let is_decided = ["embedded", "same_user"].contains(&key);
            assert!(is_decided || WORKER_KEYS.contains(&format!("{key} = ")), "{key}");
        }
    }
}
