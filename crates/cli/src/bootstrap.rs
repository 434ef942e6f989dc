//! `bootstrap`: its flags, its profile and its report. The steps are `airunner-host`'s.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use airunner_core::{DnsName, Error, Label, PrincipalId};
use airunner_host::{
    Config, Home,
    bootstrap::{Outcome, Plan, StepReport},
    config::{Environment, FlagSetting, IssuerPlace},
    environment_variable,
    local::{self, CloudPlan, LocalPlan, Means, RootSigner},
};
use airunner_net::TlsProfile;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    context::Context,
    failure::{Failure, Result},
    profile::{self, Profile, Profiles},
    progress,
    report::Report,
    runtime::wait,
};

/// Make an environment, or find it whole.
///
/// Says of each step whether it found, made or replaced what it stands for. Safe to run again, and after an
/// interruption at any point. Afterwards every command works with no connection options.
#[derive(Args, Debug)]
pub(crate) struct BootstrapArgs {
    /// local (all in files), or dev or prod (in AWS: tables, keys, parameters)
    #[arg(long, value_name = "NAME")]
    environment: Environment,
    /// The server's name, in its certificate beside localhost
    #[arg(long, value_name = "NAME")]
    domain: Option<DnsName>,
    /// What TLS and which keys are allowed: default or p384
    #[arg(id = "tls_profile", long = "profile", value_name = "NAME")]
    tls_profile: Option<TlsProfile>,
    /// One CA that signs leaves directly, in place of a root and an issuing CA
    #[arg(long)]
    single_ca: bool,
    /// The file whose first line encrypts the private keys
    #[arg(long, value_name = "FILE")]
    key_passphrase_file: Option<PathBuf>,
    /// Where everything is put; by default $AIRUNNER_HOME, else ~/.local/share/airunner/ENVIRONMENT
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// The first admin
    #[arg(long, value_name = "PRINCIPAL", default_value = "admin")]
    admin: PrincipalId,
    /// Replace the server's and the admin's certificate now
    #[arg(long)]
    force: bool,
    /// Make a new CA: every certificate stops counting
    #[arg(long)]
    force_new_ca: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Where the API listens; by default 127.0.0.1:8443
    #[arg(long, value_name = "ADDRESS")]
    api_addr: Option<SocketAddr>,
    /// Where the public listener is; by default 127.0.0.1:8444
    #[arg(long, value_name = "ADDRESS")]
    public_addr: Option<SocketAddr>,
    /// Where health is told; by default 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS")]
    plain_addr: Option<SocketAddr>,
    /// Where metrics are; by default 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<SocketAddr>,
    /// In AWS, where the root's key is: kms, which it never leaves, or file: made here and kept in Secrets Manager
    #[arg(long, value_enum, value_name = "PLACE")]
    signer: Option<SignerPlace>,
    /// In AWS, where the issuing CA's key is: store (sealed, held by every server) or kms (which signs every leaf)
    #[arg(long, value_enum, value_name = "PLACE")]
    issuer: Option<IssuerKeyPlace>,
    /// In AWS, let servers sign with the root's key, so that they renew the issuing CA when asked
    #[arg(long)]
    root_online: bool,
    /// In AWS, make what is missing: tables, keys, bucket, parameters, secret
    #[arg(long)]
    create: bool,
    /// In AWS, make the keys that are missing, and nothing else
    #[arg(long)]
    create_key: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Where AWS is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AwsArgs {
    /// The AWS region [env: AIRUNNER_AWS_REGION] [default: the configuration's, else the machine's own]
    #[arg(long, value_name = "REGION")]
    pub(crate) aws_region: Option<String>,
    /// Where AWS answers, in place of its own addresses [env: AIRUNNER_AWS_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub(crate) aws_endpoint: Option<String>,
}

impl AwsArgs {
    /// As settings over those of the configuration.
    pub(crate) fn settings(&self) -> Vec<FlagSetting> {
        let all = [
            ("aws.region", "--aws-region", &self.aws_region),
            ("aws.endpoint", "--aws-endpoint", &self.aws_endpoint),
        ];
        let given = all.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value.clone()?)));
        given.map(|(key, flag, value)| FlagSetting { key, flag, value }).collect()
    }

    fn is_given(&self) -> bool {
        self.aws_region.is_some() || self.aws_endpoint.is_some()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SignerPlace {
    Kms,
    File,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IssuerKeyPlace {
    Store,
    Kms,
}

#[derive(Serialize)]
struct BootstrapView {
    environment: &'static str,
    home: PathBuf,
    dry_run: bool,
    steps: Vec<StepView>,
    warnings: Vec<String>,
    next: Vec<String>,
}

#[derive(Serialize)]
struct StepView {
    /// Which of the six; none for what only goes with them.
    step: Option<u8>,
    what: &'static str,
    outcome: &'static str,
    detail: String,
}

impl BootstrapArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let asks_for_aws = self.signer.is_some()
            || self.issuer.is_some()
            || self.root_online
            || self.create
            || self.create_key
            || self.aws.is_given();
        if self.environment == Environment::Local && asks_for_aws {
            let message =
                "--environment=local is all in files: leave out what is about AWS, or bootstrap dev or prod";
            return Err(Failure::Usage(message.to_owned()));
        }
        let home = self.home()?;
        let plan = self.plan()?;
        let progress = progress::spinner(context.output, "looking at the environment");
        let watch = |step: &StepReport| {
            progress.say(format!("{}: {}", step.what, step.outcome));
            Ok(())
        };
        let means = Means {
            variable: &environment_variable,
            flags: self.aws.settings(),
            watch: &watch,
            clock: Arc::clone(&context.clock),
            random: Arc::clone(&context.random),
        };
        if self.dry_run {
            let foreseen = wait(async { Ok(local::foresee(&home, &plan, &means).await?) })?;
            let steps = foreseen.steps.iter().map(StepView::from).collect();
            return self.report(&home, steps, foreseen.warnings, Vec::new());
        }
        let made = wait(async { Ok(local::bootstrap(&home, &plan, &means).await?) })?;
        let mut steps: Vec<_> = made.steps.iter().map(StepView::from).collect();
        steps.push(keep_profile(context, &home, &made.config)?);
        let is_default = Profiles::read(&context.environment)?.is_default(self.environment.as_str());
        self.report(&home, steps, made.warnings, next(&home, &made.config, is_default))
    }

    fn home(&self) -> Result<Home> {
        match &self.output_dir {
            None => Ok(Home::default_of(self.environment, &environment_variable)?),
            Some(path) => Ok(Home::at(absolute(path)?)),
        }
    }

    fn plan(&self) -> Result<LocalPlan> {
        Ok(LocalPlan {
            environment: self.environment,
            domain: self.domain.clone(),
            profile: self.tls_profile,
            api_addr: self.api_addr,
            public_addr: self.public_addr,
            plain_addr: self.plain_addr,
            metrics_addr: self.metrics_addr,
            key_passphrase_file: self.key_passphrase_file.as_ref().map(absolute).transpose()?,
            same_user: !rustix::process::geteuid().is_root(),
            cloud: CloudPlan {
                signer: match self.signer {
                    Some(SignerPlace::File) => RootSigner::File,
                    Some(SignerPlace::Kms) | None => RootSigner::Kms,
                },
                issuer: match self.issuer {
                    Some(IssuerKeyPlace::Kms) => IssuerPlace::Kms,
                    Some(IssuerKeyPlace::Store) | None => IssuerPlace::Store,
                },
                online: self.root_online,
                create: self.create,
                create_key: self.create_key,
            },
            steps: Plan {
                admin: self.admin.clone(),
                single_ca: self.single_ca,
                force: self.force,
                force_new_ca: self.force_new_ca,
                create: self.create,
                key_passphrase: None,
            },
        })
    }

    fn report(
        &self,
        home: &Home,
        steps: Vec<StepView>,
        warnings: Vec<String>,
        next: Vec<String>,
    ) -> Result<Report> {
        let mut lines = Vec::new();
        if self.dry_run {
            lines.push("Nothing was done. This would come of it:".to_owned());
        }
        for StepView { step, what, outcome, detail } in &steps {
            let number = step.map(|step| format!("{step}/6")).unwrap_or_default();
            lines.push(format!("{number:3}  {what:21}  {outcome:10}  {detail}").trim_end().to_owned());
        }
        lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        if !next.is_empty() {
            lines.push("Next:".to_owned());
            lines.extend(next.iter().map(|command| format!("  {command}")));
        }
        let environment = self.environment.as_str();
        let home = home.path().to_owned();
        let view = BootstrapView { environment, home, dry_run: self.dry_run, steps, warnings, next };
        Report::text(lines.join("\n"), &view)
    }
}

/// Makes everything work from any folder, with no flags.
fn keep_profile(context: &Context, home: &Home, config: &Config) -> Result<StepView> {
    // With port 0 the server says at each start where it is; then the address comes by flag or variable.
    let is_fixed = config.server().api_addr().port() != 0;
    let profile = Profile {
        server: is_fixed.then(|| format!("https://{}", config.server().api_address())),
        cacert: Some(home.ca()),
        identity: Some(home.admin_folder()),
        client_key_passphrase_file: config.tls().key_passphrase_file().cloned(),
        tls_profile: (config.tls().profile() != TlsProfile::Default)
            .then(|| config.tls().profile().to_string()),
        home: Some(home.path().to_owned()),
        ..Profile::default()
    };
    let name = config.environment().as_str();
    let profiles = Profiles::read(&context.environment)?;
    let outcome = match profiles.find(name) {
        Some(found) if *found == profile => Outcome::Found,
        Some(_) => Outcome::Replaced,
        None => Outcome::Made,
    };
    if outcome != Outcome::Found {
        profile::write(&context.environment, name, &profile)?;
    }
    let detail = format!("{name} in {}", profiles.path().display());
    Ok(StepView { step: None, what: "profile", outcome: outcome.as_str(), detail })
}

/// What to do now, with the flags that it takes here.
fn next(home: &Home, config: &Config, is_default: bool) -> Vec<String> {
    let is_found = config.environment() == Environment::Local
        && Home::from_environment(&environment_variable).is_ok_and(|default| default == *home);
    let server = if is_found {
        "airunner-server".to_owned()
    } else {
        format!("airunner-server --config {}", home.server_toml().display())
    };
    let profile = if is_default { String::new() } else { format!(" --profile {}", config.environment()) };
    vec![server, format!("airunner-cli whoami{profile}")]
}

impl From<&StepReport> for StepView {
    fn from(report: &StepReport) -> Self {
        Self {
            step: report.number(),
            what: report.what,
            outcome: report.outcome.as_str(),
            detail: report.detail.clone(),
        }
    }
}

fn absolute(path: &PathBuf) -> Result<PathBuf> {
    let absolute = std::path::absolute(path);
    Ok(absolute.map_err(|error| Error::new(Label::File, format!("{}: {error}", path.display())))?)
}
