//! `enroll`: a first certificate, with an enrolment token.

use std::path::PathBuf;

use airunner_client::{EnrollOptions, Enrolled, enroll};
use airunner_core::{KeyAlgorithm, Label, Secret};
use airunner_host::{environment_variable, files};
use airunner_net::TlsProfile;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    Result,
    context::{Context, block_on},
    failure::Failure,
    profile::{self, Profile, Profiles},
    prompt,
    report::Report,
    view::Fields,
};

/// The variable that holds the secret.
const VARIABLE: &str = "AIRUNNER_ENROLL_TOKEN";

/// Get a first certificate with an enrolment token: from AIRUNNER_ENROLL_TOKEN, a file, standard input, or a prompt.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The file that holds the token; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the identity is put; by default ~/.local/share/airunner/identity
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// The type of the new key
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
}

/// A key's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyType {
    /// ECDSA on P-256
    P256,
    /// ECDSA on P-384
    P384,
    /// ECDSA on P-521
    P521,
    /// Ed25519, where the environment accepts it
    Ed25519,
}

impl From<KeyType> for KeyAlgorithm {
    fn from(key_type: KeyType) -> Self {
        match key_type {
            KeyType::P256 => Self::EcdsaP256,
            KeyType::P384 => Self::EcdsaP384,
            KeyType::P521 => Self::EcdsaP521,
            KeyType::Ed25519 => Self::Ed25519,
        }
    }
}

#[derive(Serialize)]
struct EnrollView {
    principal_id: String,
    serial_number: String,
    expires_at: String,
    identity: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
}

impl EnrollArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        let folder = match &self.output_dir {
            Some(folder) => absolute(folder)?,
            None => default_folder()?,
        };
        let args = context.connection_args();
        let mut options = EnrollOptions::new(self.secret()?, &folder);
        options.profile = TlsProfile::Default;
        if let Some(name) = args.tls_profile().or_else(|| set("AIRUNNER_TLS_PROFILE")) {
            options.profile = name.parse()?;
        }
        options.key_algorithm = self.key_type.map(KeyAlgorithm::from);
        options.passphrase = new_key_passphrase(context)?;
        options.clock = context.clock();
        let tls_profile = options.profile;
        let enrolled = block_on(async { Ok(enroll(options).await?) })?;
        let profile = self.keep_profile(context, &enrolled, &folder, tls_profile)?;
        Ok(report(&enrolled, folder, profile))
    }

    fn secret(&self) -> Result<Secret> {
        if let Some(path) = &self.token_file {
            return prompt::secret_from(path);
        }
        if let Some(text) = set(VARIABLE) {
            return Ok(Secret::new(text.trim().as_bytes().to_vec()));
        }
        let otherwise = format!("give --token-file FILE (- is standard input), or set {VARIABLE}");
        prompt::secret("Enrolment token", &otherwise)
    }

    /// Writes the profile that was named, or, where there is none at all yet, one of the principal's name: it is then
    /// this machine's only identity.
    fn keep_profile(
        &self,
        context: &Context,
        enrolled: &Enrolled,
        folder: &std::path::Path,
        tls_profile: TlsProfile,
    ) -> Result<Option<String>> {
        let path = match profile::path(&environment_variable) {
            Ok(path) => path,
            // A machine without a home has no profiles; flags and variables say all there.
            Err(_) => return Ok(None),
        };
        let name = match &context.connection_args().profile {
            Some(name) => name.clone(),
            None if Profiles::load(&path)?.is_empty() => enrolled.principal_id.to_string(),
            None => return Ok(None),
        };
        let server = Some(&enrolled.api_address).filter(|address| !address.is_empty());
        let profile = Profile {
            server: server.map(|address| format!("https://{address}")),
            identity: Some(folder.to_owned()),
            key_passphrase_file: context.connection_args().key_passphrase_file.clone(),
            tls_profile: (tls_profile != TlsProfile::Default).then(|| tls_profile.to_string()),
            ..Profile::default()
        };
        profile::write(&path, &name, profile)?;
        Ok(Some(name))
    }
}

/// The passphrase for a key that is made: only what was given for it, and none of a profile, which is another key's.
pub(super) fn new_key_passphrase(context: &Context) -> Result<Option<Secret>> {
    let file = context.connection_args().key_passphrase_file.clone();
    let file = file.or_else(|| set("AIRUNNER_KEY_PASSPHRASE_FILE").map(PathBuf::from));
    match file {
        Some(path) => Ok(Some(files::read_passphrase(&path)?)),
        None => Ok(set("AIRUNNER_KEY_PASSPHRASE").map(|text| Secret::new(text.into_bytes()))),
    }
}

fn set(name: &str) -> Option<String> {
    environment_variable(name).filter(|value| !value.is_empty())
}

fn default_folder() -> Result<PathBuf> {
    let data = set("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let data = data.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let data =
        data.ok_or_else(|| Failure::Usage("there is no home to put it into: give --output-dir".to_owned()))?;
    Ok(data.join("airunner/identity"))
}

pub(super) fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Label::File, format!("{} can't be found: {error}", path.display())))
}

fn report(enrolled: &Enrolled, folder: PathBuf, profile: Option<String>) -> Report {
    let server = Some(&enrolled.api_address).filter(|address| !address.is_empty());
    let view = EnrollView {
        principal_id: enrolled.principal_id.to_string(),
        serial_number: enrolled.identity.serial().to_string(),
        expires_at: enrolled.identity.not_after().to_string(),
        identity: folder,
        server: server.map(|address| format!("https://{address}")),
        profile,
    };
    let next = match (&view.profile, &view.server) {
        (Some(_), _) => "airunner-cli whoami".to_owned(),
        (None, Some(server)) => {
            format!("airunner-cli whoami --identity {} --server {server}", view.identity.display())
        }
        (None, None) => format!("airunner-cli whoami --identity {} --server URL", view.identity.display()),
    };
    let human = Fields::new()
        .with("principal", &view.principal_id)
        .with("certificate", &view.serial_number)
        .with("expires", &view.expires_at)
        .with("identity", view.identity.display().to_string())
        .maybe("server", view.server.as_ref())
        .maybe("profile", view.profile.as_ref())
        .with("next", next)
        .done();
    Report::new(view, human)
}
