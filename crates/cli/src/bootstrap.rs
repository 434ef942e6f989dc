//! `bootstrap`: its flags, its profile and its report. The steps are `airunner-host`'s.

use std::{net::SocketAddr, path::PathBuf};

use airunner_core::{DnsName, Label, PrincipalId};
use airunner_host::{
    Config, Home,
    bootstrap::{Outcome, Plan, StepReport},
    config::Environment,
    environment_variable,
    local::{self, LocalPlan, Means},
};
use airunner_net::TlsProfile;
use clap::Args;
use serde::Serialize;

use crate::{
    Result,
    context::{Context, block_on},
    failure::Failure,
    profile::{self, Profile, Written},
    report::{Human, Report},
};

/// Make an environment, or find it whole. Safe to run again, and after an interruption at any point.
#[derive(Debug, Args)]
pub(crate) struct BootstrapArgs {
    /// local or dev (prod needs AWS, which this build has not)
    #[arg(long, value_name = "NAME")]
    environment: Environment,
    /// The server's name, in its certificate beside localhost
    #[arg(long, value_name = "NAME")]
    domain: Option<DnsName>,
    /// What TLS and which keys are allowed: default or p384
    // A text, since the global flag of this name is one; see there.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
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
    /// Where health and CA certificates are; by default 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS")]
    plain_addr: Option<SocketAddr>,
    /// Where metrics are; by default 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<SocketAddr>,
}

/// What it came to.
#[derive(Serialize)]
struct BootstrapView {
    environment: &'static str,
    home: PathBuf,
    dry_run: bool,
    steps: Vec<StepView>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next: Vec<String>,
}

#[derive(Serialize)]
struct StepView {
    /// Which of the six; none for what goes with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u8>,
    what: &'static str,
    outcome: &'static str,
    detail: String,
}

impl BootstrapArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        if self.environment == Environment::Prod {
            return Err(Failure::Usage(
                "--environment=prod keeps its keys and tables in AWS, which is not in this build yet: use local or dev"
                    .to_owned(),
            ));
        }
        let home = self.home()?;
        let plan = self.plan()?;
        let means =
            Means { variable: &environment_variable, clock: context.clock(), random: context.random() };
        if self.dry_run {
            let foreseen = block_on(async { Ok(local::foresee(&home, &plan, &means).await?) })?;
            return Ok(self.report(
                &home,
                foreseen.steps.iter().map(StepView::from).collect(),
                Vec::new(),
                &[],
            ));
        }
        let made = block_on(async { Ok(local::bootstrap(&home, &plan, &means).await?) })?;
        let mut steps: Vec<StepView> = made.steps.iter().map(StepView::from).collect();
        steps.push(keep_profile(&home, &made.config)?);
        let next = next(&home, &made.config);
        Ok(self.report(&home, steps, made.warnings, &next))
    }

    fn home(&self) -> Result<Home> {
        let given = self.output_dir.as_ref().map(|path| {
            std::path::absolute(path)
                .map_err(|error| Failure::new(Label::File, format!("{}: {error}", path.display())))
        });
        match given {
            Some(path) => Ok(Home::at(path?)),
            None => Ok(Home::from_environment(self.environment, &environment_variable)?),
        }
    }

    fn plan(&self) -> Result<LocalPlan> {
        let profile = self.profile.as_deref().map(str::parse::<TlsProfile>).transpose();
        let key_passphrase_file = self.key_passphrase_file.as_ref().map(std::path::absolute).transpose();
        Ok(LocalPlan {
            environment: self.environment,
            domain: self.domain.clone(),
            profile: profile.map_err(|error| Failure::Usage(format!("--profile: {error}")))?,
            api_addr: self.api_addr,
            public_addr: self.public_addr,
            plain_addr: self.plain_addr,
            metrics_addr: self.metrics_addr,
            key_passphrase_file: key_passphrase_file
                .map_err(|error| Failure::new(Label::File, format!("the passphrase's file: {error}")))?,
            same_user: !rustix::process::geteuid().is_root(),
            steps: Plan {
                admin: self.admin.clone(),
                single_ca: self.single_ca,
                force: self.force,
                force_new_ca: self.force_new_ca,
                key_passphrase: None,
            },
        })
    }

    fn report(&self, home: &Home, steps: Vec<StepView>, warnings: Vec<String>, next: &[String]) -> Report {
        let mut text = String::new();
        if self.dry_run {
            text.push_str("Nothing was done. This would come of it:\n");
        }
        for StepView { step, what, outcome, detail } in &steps {
            let number = step.map(|step| format!("{step}/6")).unwrap_or_default();
            let outcome = if self.dry_run && *outcome != "found" {
                format!("would be {outcome}")
            } else {
                (*outcome).to_owned()
            };
            let line = format!("{number:3}  {what:21}  {outcome:10}  {detail}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for warning in &warnings {
            text.push_str(&format!("\nwarning: {warning}\n"));
        }
        if !next.is_empty() {
            text.push_str(&format!("\nNext:\n  {}\n", next.join("\n  ")));
        }
        let view = BootstrapView {
            environment: self.environment.as_str(),
            home: home.path().to_owned(),
            dry_run: self.dry_run,
            steps,
            warnings,
            next: next.to_vec(),
        };
        Report::new(view, Human::Text(text))
    }
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

/// Makes everything work from any folder, with no flags.
fn keep_profile(home: &Home, config: &Config) -> Result<StepView> {
    let name = config.environment().as_str();
    let api = config.server().api_addr();
    // With port 0 the server says at each start where it is; then the address comes by flag or variable.
    let server = (api.port() != 0).then(|| format!("https://{}", reached(config)));
    let written = Profile {
        server,
        identity: Some(home.admin_folder()),
        cacert: Some(home.ca()),
        key_passphrase_file: config.tls().key_passphrase_file().cloned(),
        tls_profile: (config.tls().profile() != TlsProfile::Default)
            .then(|| config.tls().profile().to_string()),
        home: Some(home.path().to_owned()),
        ..Profile::default()
    };
    let path = profile::path(&environment_variable)?;
    let outcome = match profile::write(&path, name, written)? {
        Written::Found => Outcome::Found,
        Written::Made => Outcome::Made,
        Written::Replaced => Outcome::Replaced,
    };
    let detail = format!("{name} in {}", path.display());
    Ok(StepView { step: None, what: "profile", outcome: outcome.as_str(), detail })
}

/// Where the CLI reaches the API listener: at its own address, which its certificate names; a listener on all addresses
/// by its name.
fn reached(config: &Config) -> String {
    config.server().api_address()
}

fn next(home: &Home, config: &Config) -> Vec<String> {
    let default = Home::from_environment(config.environment(), &environment_variable).ok();
    let finds_it = config.environment() == Environment::Local && default.as_ref() == Some(home);
    let server = if finds_it {
        "airunner-server".to_owned()
    } else {
        format!("airunner-server --config {}", home.server_toml().display())
    };
    vec![server, "airunner-cli whoami".to_owned()]
}
