//! `doctor`: looks at everything that has to be right, and says what to do about what is not.

use std::path::PathBuf;

use airunner_client::{Client, ClientOptions};
use airunner_host::Home;
use airunner_pki::certificate_to_pem;
use clap::Args;
use serde::Serialize;

use crate::{
    context::Context,
    doctor::{
        Findings, PATIENCE, State, cloud, environment,
        identity::{self, said},
        isolation, server,
    },
    failure::Result,
    profile::Profiles,
    progress,
    report::{Report, Table},
    runtime::wait,
};

/// Look at everything that has to be right, and say what to do about what is not.
///
/// The clock, the identity's files, its certificate and chain, the trust bundle, roles, versions, and the server's health;
/// where the environment's files are on this machine, those and each listener too; and how far a worker on this machine
/// can keep jobs from it. The exit code is 1 where something
/// is wrong. It works without a server too, and says so.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The folder of the environment, if it is on this machine [env: AIRUNNER_HOME] [default: the profile's]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

#[derive(Serialize)]
struct DoctorView {
    healthy: bool,
    server: Option<String>,
    findings: Findings,
}

impl DoctorArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let mut findings = Findings::default();
        let server = self.examine(context, &mut findings)?;
        let wrong = findings.count(State::Wrong);
        let view = DoctorView { healthy: wrong == 0, server, findings };
        let mut table = Table::new(&["STATE", "CHECK", "FINDING"], "nothing was looked at");
        for finding in &view.findings.0 {
            let (state, check) = (finding.state.as_str().to_owned(), finding.check.to_owned());
            table.add([state, check, finding.finding.clone()]);
            if let Some(remedy) = &finding.remedy {
                table.add([String::new(), String::new(), format!("→ {remedy}")]);
            }
        }
        let report = Report::table(table, &view)?;
        let warnings = view.findings.count(State::Warning);
        let said = match (wrong, warnings) {
            (0, 0) => "all is well".to_owned(),
            (0, warnings) => format!("nothing is wrong; to look at: {warnings}"),
            (wrong, _) => format!("wrong: {wrong}"),
        };
        Ok(report.with_note(said).with_code(u8::from(wrong > 0)))
    }

    /// Looks at everything; returns the server's address.
    fn examine(&self, context: &Context, findings: &mut Findings) -> Result<Option<String>> {
        let home = self.home(context, findings);
        let config = home.as_ref().and_then(|home| environment::examine(findings, context, home));
        let connection = match context.connection() {
            Ok(connection) => connection,
            Err(failure) => {
                findings.wrong(
                    "profile",
                    said(&failure),
                    "airunner-cli profile list shows those that there are",
                );
                return Ok(None);
            }
        };
        let identity = identity::examine(findings, context, &connection);
        let roots = connection.roots().unwrap_or_default();
        let options = connection.options(context.clock.clone(), context.random.clone());
        let server = connection.server().map(str::to_owned);
        let working = progress::spinner(context.output, "asking the server");
        let asked = wait(async {
            if let Some(config) = &config {
                cloud::examine(findings, context, config).await;
                let options = options.as_ref().ok().map(|options| with_roots(options, &roots));
                environment::listeners(findings, config, options.as_ref()).await;
            }
            isolation::examine(findings, config.as_ref()).await;
            match (identity, options) {
                (Some(_), Ok(options)) => match Client::new(ClientOptions { timeout: PATIENCE, ..options }) {
                    Ok(client) => server::examine(findings, context, &client, &roots).await,
                    Err(error) => {
                        findings.wrong("API listener", error.message(), "see --help for the connection");
                    }
                },
                (Some(_), Err(failure)) => {
                    let remedy = "name it with --server, or in the profile";
                    findings.wrong("API listener", said(&failure), remedy);
                }
                (None, _) => {
                    let remedy = "mend the identity first, then run doctor again";
                    findings.skipped(
                        "API listener",
                        "it asks for an identity, and there is none to show",
                        remedy,
                    );
                }
            }
            Ok(())
        });
        drop(working);
        asked.map(|()| server)
    }

    /// The environment on this machine, if there is one.
    fn home(&self, context: &Context, findings: &mut Findings) -> Option<Home> {
        let named =
            self.home.clone().or_else(|| context.environment.variable("AIRUNNER_HOME").map(PathBuf::from));
        let of_profile = || {
            let profiles = Profiles::read(&context.environment).ok()?;
            match context.profile_name() {
                Some(name) => profiles.find(&name)?.home.clone(),
                None => profiles.default_profile().ok()?.home,
            }
        };
        let is_named = named.is_some();
        let home = Home::at(named.or_else(of_profile)?);
        if home.server_toml().exists() {
            return Some(home);
        }
        if is_named {
            findings.wrong(
                "configuration",
                format!("{} is not there", home.server_toml().display()),
                "airunner-cli bootstrap --environment local, or name the right folder with --home",
            );
        }
        None
    }
}

/// The options, with the roots said, be they those that came with the identity.
fn with_roots(options: &ClientOptions, roots: &[Vec<u8>]) -> ClientOptions {
    let pem: String = roots.iter().map(|root| certificate_to_pem(root)).collect();
    ClientOptions { roots_pem: pem.into_bytes(), ..options.clone() }
}
