//! `profile`: the named connections of `config.toml`: which there are, which is used, and which is to be.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use crate::{
    complete,
    context::Context,
    failure::Result,
    profile::{self, Profile, Profiles},
    report::{Report, Table},
};

/// Profiles.
#[derive(Args, Debug)]
pub(crate) struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    /// List the profiles; a star marks the one that commands use
    List,
    /// Show one, else the one that commands use
    Show(ShowArgs),
    /// Use this one from now on, where none is named
    Use(UseArgs),
}

impl ProfileArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            ProfileCommand::List => list(context),
            ProfileCommand::Show(args) => args.run(context),
            ProfileCommand::Use(args) => args.run(context),
        }
    }
}

#[derive(Serialize)]
struct ProfilesView {
    file: PathBuf,
    used: Option<String>,
    profiles: Vec<ProfileView>,
}

#[derive(Serialize)]
struct ProfileView {
    name: String,
    used: bool,
    default: bool,
    #[serde(flatten)]
    profile: Profile,
}

fn list(context: &Context) -> Result<Report> {
    let profiles = Profiles::read(&context.environment)?;
    let used = context.profile_name().or_else(|| profiles.default_name().map(str::to_owned));
    let views =
        profiles.iter().map(|(name, profile)| ProfileView::of(&profiles, name, profile, used.as_deref()));
    let view =
        ProfilesView { file: profiles.path().to_owned(), profiles: views.collect(), used: used.clone() };
    let mut table = Table::new(
        &["", "NAME", "SERVER", "IDENTITY"],
        "there are no profiles: `airunner-cli bootstrap` and `airunner-cli enroll --save-profile NAME` write them",
    );
    for profile in &view.profiles {
        let star = if profile.used { "*" } else { "" };
        let server = profile.profile.server.clone().unwrap_or_default();
        table.add([star.to_owned(), profile.name.clone(), server, identity(&profile.profile)]);
    }
    Ok(Report::table(table, &view)?.with_hint(format!("in {}", view.file.display())))
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// Which
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::profiles))]
    name: Option<String>,
}

impl ShowArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let profiles = Profiles::read(&context.environment)?;
        let used = context.profile_name().or_else(|| profiles.default_name().map(str::to_owned));
        let Some(name) = self.name.clone().or_else(|| used.clone()) else {
            return Ok(Report::text("no profile is used", &serde_json::Value::Null)?
                .with_hint("choose one: airunner-cli profile use NAME"));
        };
        let profile = profiles.named(&name)?;
        let view = ProfileView::of(&profiles, &name, &profile, used.as_deref());
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let why = match (view.used, view.default, context.profile_name().is_some()) {
            (false, ..) => "no",
            (true, _, true) => "yes, by --profile or AIRUNNER_PROFILE",
            (true, ..) => "yes, as the default",
        };
        let fields = vec![
            ("name", name),
            ("used", why.to_owned()),
            ("server", profile.server.clone().unwrap_or_default()),
            ("identity", identity(&profile)),
            ("key", path(&profile.client_key).unwrap_or_default()),
            ("passphrase of the key", path(&profile.client_key_passphrase_file).unwrap_or_default()),
            ("roots", path(&profile.cacert).unwrap_or_default()),
            ("TLS profile", profile.tls_profile.clone().unwrap_or_default()),
            ("environment", path(&profile.home).unwrap_or_default()),
            ("file", profiles.path().display().to_string()),
        ];
        Report::record(fields, &view)
    }
}

#[derive(Args, Debug)]
struct UseArgs {
    /// Which
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::profiles))]
    name: String,
}

#[derive(Serialize)]
struct UsedView {
    used: String,
    server: Option<String>,
}

impl UseArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let profile = profile::use_by_default(&context.environment, &self.name)?;
        let server = profile.server.as_ref().map(|server| format!(": {server}")).unwrap_or_default();
        let report = Report::text(
            format!("commands use {}{server}", self.name),
            &UsedView { used: self.name.clone(), server: profile.server },
        )?;
        Ok(match context.environment.variable("AIRUNNER_PROFILE") {
            Some(other) if other != self.name => {
                report.with_note(format!("but AIRUNNER_PROFILE is {other:?} here, which counts before it"))
            }
            _ => report,
        })
    }
}

impl ProfileView {
    fn of(profiles: &Profiles, name: &str, profile: &Profile, used: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            used: used == Some(name),
            default: profiles.is_default(name),
            profile: profile.clone(),
        }
    }
}

/// Where the identity is kept, whichever of the three forms it has.
fn identity(profile: &Profile) -> String {
    let path = profile.identity.as_ref().or(profile.cert_bundle.as_ref()).or(profile.client_cert.as_ref());
    path.map(|path| path.display().to_string()).unwrap_or_default()
}
