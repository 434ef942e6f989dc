//! `bootstrap`: its flags, its profile and its report. The steps are `airunner-host`'s.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use airunner_core::{DnsName, Error, Label, PrincipalId};
use airunner_host::{
    Config, Home,
    bootstrap::{Plan, StepReport},
    config::Environment,
    environment_variable,
    local::{self, LocalPlan, Means},
};
use airunner_net::TlsProfile;
use clap::Args;
use serde::Serialize;

use crate::{
    context::Context,
    failure::{Failure, Result},
    profile::{self, Profile},
    report::Report,
    runtime::wait,
};

/// Make an environment, or find it whole.
///
/// Says of each step whether it found, made or replaced what it stands for. Safe to run again, and after an
/// interruption at any point. Afterwards every command works with no connection options.
#[derive(Args, Debug)]
pub(crate) struct BootstrapArgs {
    /// local or dev (prod keeps its keys in AWS, which this build can't)
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
    /// Where everything is put; by default $AIRUNNER_HOME, else ~/.local/share/airunner/local
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
}

#[derive(Serialize)]
struct BootstrapView {
    environment: &'static str,
    home: PathBuf,
    dry_run: bool,
    steps: Vec<StepView>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct StepView {
    what: &'static str,
    outcome: &'static str,
    detail: String,
}

impl BootstrapArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        if self.environment == Environment::Prod {
            return Err(Failure::Usage(
                "--environment=prod keeps its keys and tables in AWS, which this build can't: use local or dev"
                    .to_owned(),
            ));
        }
        let home = self.home()?;
        let plan = self.plan()?;
        let means = Means {
            variable: &environment_variable,
            clock: Arc::clone(&context.clock),
            random: Arc::clone(&context.random),
        };
        if self.dry_run {
            let foreseen = wait(async { Ok(local::foresee(&home, &plan, &means).await?) })?;
            return self.report(
                &home,
                foreseen.steps.iter().map(StepView::from).collect(),
                foreseen.warnings,
            );
        }
        let made = wait(async { Ok(local::bootstrap(&home, &plan, &means).await?) })?;
        let mut steps: Vec<_> = made.steps.iter().map(StepView::from).collect();
        steps.push(Self::keep_profile(context, &home, &made.config)?);
        self.report(&home, steps, made.warnings)
    }

    fn home(&self) -> Result<Home> {
        match &self.output_dir {
            None => Ok(Home::from_environment(&environment_variable)?),
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
            steps: Plan {
                admin: self.admin.clone(),
                single_ca: self.single_ca,
                force: self.force,
                force_new_ca: self.force_new_ca,
                key_passphrase: None,
            },
        })
    }

    /// Makes everything work from any folder, with no flags.
    fn keep_profile(context: &Context, home: &Home, config: &Config) -> Result<StepView> {
        // With port 0 the server says at each start where it is; then the address comes by flag or variable.
        let is_fixed = config.server().api_addr().port() != 0;
        let admin = home.admin();
        let profile = Profile {
            server: is_fixed.then(|| format!("https://{}", config.server().api_address())),
            cacert: Some(home.ca()),
            client_cert: Some(admin.cert),
            client_key: Some(admin.key),
            tls_profile: (config.tls().profile() != TlsProfile::Default)
                .then(|| config.tls().profile().to_string()),
            ..Profile::default()
        };
        let name = config.environment().as_str();
        let written = profile::write(&context.environment, name, &profile)?;
        Ok(StepView {
            what: "profile",
            outcome: "kept",
            detail: format!("{name} in {}", written.path.display()),
        })
    }

    fn report(&self, home: &Home, steps: Vec<StepView>, warnings: Vec<String>) -> Result<Report> {
        let mut lines = Vec::new();
        if self.dry_run {
            lines.push("Nothing was done. This would come of it:".to_owned());
        }
        for StepView { what, outcome, detail } in &steps {
            lines.push(format!("{what:22} {outcome:9} {detail}").trim_end().to_owned());
        }
        lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        let environment = self.environment.as_str();
        let home = home.path().to_owned();
        let view = BootstrapView { environment, home, dry_run: self.dry_run, steps, warnings };
        let report = Report::text(lines.join("\n"), &view)?;
        Ok(if self.dry_run { report } else { report.with_hint("start the server: airunner-server") })
    }
}

impl From<&StepReport> for StepView {
    fn from(report: &StepReport) -> Self {
        Self { what: report.what, outcome: report.outcome.as_str(), detail: report.detail.clone() }
    }
}

fn absolute(path: &PathBuf) -> Result<PathBuf> {
    let absolute = std::path::absolute(path);
    Ok(absolute.map_err(|error| Error::new(Label::File, format!("{}: {error}", path.display())))?)
}
