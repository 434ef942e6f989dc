//! `enroll`: from an enrolment token to an identity, and a profile that uses it.

use std::path::{self, Path, PathBuf};

use airunner_client::{Endpoint, EnrollOptions, Enrolled, IdentityFiles, enroll};
use airunner_core::{Error, KeyAlgorithm, Label};
use airunner_net::TlsProfile;
use clap::Args;
use serde::Serialize;

use super::certificate::KeyType;
use crate::{
    context::Context,
    failure::{Failure, Result},
    profile::{self, Profile},
    report::Report,
    runtime::wait,
    secret_input,
};

/// Turn an enrolment token into an identity.
///
/// The token comes from an admin (`airunner-cli enrollment create`). It is read from --token-file, else from the variable
/// AIRUNNER_ENROLL_TOKEN, else from a prompt; it is sent to nobody but the server whose root it names. The key is made
/// here and never leaves this machine. After a crash or a lost answer, the same command finishes.
#[derive(Args, Debug)]
pub(crate) struct EnrollArgs {
    /// A file that holds the token; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the identity is kept [default: $XDG_DATA_HOME/airunner/identity, else ~/.local/share/airunner/identity]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Also write a profile of this name, with which commands work without connection options
    #[arg(long, value_name = "NAME")]
    save_profile: Option<String>,
    /// The API listener's address for the profile, where it is not the one that the server names
    #[arg(long, value_name = "ADDRESS", requires = "save_profile")]
    server: Option<Endpoint>,
    /// The key's type [default: p256, under the TLS profile p384 that]
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
    /// A file whose first line encrypts the key
    #[arg(long, value_name = "FILE")]
    key_passphrase_file: Option<PathBuf>,
    /// What TLS is allowed: default or p384
    #[arg(long, value_name = "PROFILE", default_value_t = TlsProfile::Default)]
    tls_profile: TlsProfile,
}

#[derive(Serialize)]
struct EnrolledView {
    principal_id: String,
    serial_number: String,
    expires_at: String,
    identity: PathBuf,
    server: Option<String>,
    profile: Option<String>,
}

impl EnrollArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let folder = self.folder(context)?;
        let passphrase = self.key_passphrase_file.as_deref().map(secret_input::first_line).transpose()?;
        let before = IdentityFiles::open(&folder, passphrase.clone()).and_then(|files| files.load()).ok();
        let enrolled = wait(async {
            let token = secret_input::enrollment(self.token_file.as_deref(), &context.environment).await?;
            let mut options = EnrollOptions::new(token, &folder);
            options.profile = self.tls_profile;
            options.key_algorithm = self.key_type.map(KeyAlgorithm::from);
            options.passphrase = passphrase;
            options.clock = std::sync::Arc::clone(&context.clock);
            Ok(enroll(options).await?)
        })?;
        let report = self.report(context, &enrolled)?;
        Ok(match before.and_then(|before| before.certificate().common_name.clone()) {
            Some(name) if name != enrolled.principal_id.as_str() => {
                report.with_note(format!("{} was the identity of {name} before", folder.display()))
            }
            _ => report,
        })
    }

    fn folder(&self, context: &Context) -> Result<PathBuf> {
        let default = || {
            let data = context.environment.folder("XDG_DATA_HOME", ".local/share");
            data.map(|data| data.join("airunner/identity"))
        };
        let folder = self.output_dir.clone().or_else(default);
        let folder = folder
            .ok_or_else(|| Failure::Usage("there is no home: name a folder with --output-dir".to_owned()))?;
        absolute(&folder)
    }

    fn report(&self, context: &Context, enrolled: &Enrolled) -> Result<Report> {
        let named = Some(enrolled.api_address.clone()).filter(|address| !address.is_empty());
        let server = self.server.as_ref().map(|server| server.address().to_owned()).or(named);
        let identity = enrolled.files.folder().to_owned();
        let mut fields = vec![
            ("principal", enrolled.principal_id.to_string()),
            ("serial number", enrolled.identity.serial().to_string()),
            ("expires", enrolled.identity.not_after().to_string()),
            ("identity", identity.display().to_string()),
            ("server", server.clone().unwrap_or_default()),
        ];
        let mut hint = format!(
            "use it with --server {} --identity {}",
            server.as_deref().unwrap_or("HOST:PORT"),
            identity.display()
        );
        if let Some(name) = &self.save_profile {
            let profile = Profile {
                server: server.clone(),
                identity: Some(identity.clone()),
                client_key_passphrase_file: self.key_passphrase_file.as_deref().map(absolute).transpose()?,
                tls_profile: Some(self.tls_profile)
                    .filter(|tls| *tls != TlsProfile::Default)
                    .map(|tls| tls.to_string()),
                ..Profile::default()
            };
            let written = profile::write(&context.environment, name, &profile)?;
            fields.push(("profile", format!("{name} in {}", written.path.display())));
            hint = if written.is_default {
                "commands use it now; try: airunner-cli whoami".to_owned()
            } else {
                format!("use it with --profile {name}")
            };
        }
        let view = EnrolledView {
            principal_id: enrolled.principal_id.to_string(),
            serial_number: enrolled.identity.serial().to_string(),
            expires_at: enrolled.identity.not_after().to_string(),
            identity,
            server,
            profile: self.save_profile.clone(),
        };
        Ok(Report::record(fields, &view)?.with_hint(hint))
    }
}

/// The path from the root: a profile is used from any folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    let found = path::absolute(path);
    Ok(found.map_err(|error| Error::new(Label::File, format!("can't find {}: {error}", path.display())))?)
}
