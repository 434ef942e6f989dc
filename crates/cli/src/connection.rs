//! Which server, and as whom: flags over environment variables over the profile.

use std::path::PathBuf;

use airunner_client::{ClientOptions, Endpoint, IdentityFiles, IdentitySource};
use airunner_core::{Label, Secret};
use airunner_host::{files, key_file};
use airunner_net::TlsProfile;
use clap::Args;

use crate::{
    Result,
    context::Context,
    failure::Failure,
    profile::{self, Profile, Profiles},
    prompt,
};

/// How the server is reached. What no flag says is taken from the environment, then from the profile.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The API listener, as https://host:port [env: AIRUNNER_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The roots to trust, PEM [env: AIRUNNER_CACERT]
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate to show, PEM, leaf first [env: AIRUNNER_CLIENT_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Its private key [env: AIRUNNER_CLIENT_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// Leaf, issuing CA and roots in one file, with --client-key [env: AIRUNNER_CERT_BUNDLE]
    #[arg(long, global = true, value_name = "FILE")]
    cert_bundle: Option<PathBuf>,
    /// The folder of an enrolled identity, in place of files [env: AIRUNNER_IDENTITY]
    #[arg(long, global = true, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// The file whose first line opens the private key [env: AIRUNNER_KEY_PASSPHRASE_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_passphrase_file: Option<PathBuf>,
    /// What TLS is allowed, default or p384 [env: AIRUNNER_TLS_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    tls_profile: Option<String>,
    /// The profile in the configuration [env: AIRUNNER_PROFILE]
    // Bootstrap has a flag of its own of this name. Both are texts, since clap keeps them under one id.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
}

impl ConnectionArgs {
    /// The TLS profile that the flag names.
    pub(crate) fn tls_profile(&self) -> Option<String> {
        self.tls_profile.clone()
    }
}

/// Flags over environment over profile, not yet opened.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The server, if one is known.
    server: Option<String>,
    cacert: Option<PathBuf>,
    shown: Option<Shown>,
    passphrase_file: Option<PathBuf>,
    passphrase: Option<Secret>,
    /// What TLS is allowed.
    pub(crate) tls_profile: TlsProfile,
    /// The local environment that the profile belongs to.
    pub(crate) home: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Folder(PathBuf),
    Files(PathBuf, PathBuf),
    Bundle(PathBuf, PathBuf),
}

/// The passphrase itself, for those who have no file of it.
const PASSPHRASE: &str = "AIRUNNER_KEY_PASSPHRASE";

impl Connection {
    pub(crate) fn resolve(args: &ConnectionArgs, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = |name: &str| set(name).map(PathBuf::from);
        let from_flags = Profile {
            server: args.server.clone(),
            identity: args.identity.clone(),
            cacert: args.cacert.clone(),
            client_cert: args.client_cert.clone(),
            client_key: args.client_key.clone(),
            cert_bundle: args.cert_bundle.clone(),
            key_passphrase_file: args.key_passphrase_file.clone(),
            tls_profile: args.tls_profile.clone(),
            home: None,
        };
        let from_environment = Profile {
            server: set("AIRUNNER_SERVER"),
            identity: file("AIRUNNER_IDENTITY"),
            cacert: file("AIRUNNER_CACERT"),
            client_cert: file("AIRUNNER_CLIENT_CERT"),
            client_key: file("AIRUNNER_CLIENT_KEY"),
            cert_bundle: file("AIRUNNER_CERT_BUNDLE"),
            key_passphrase_file: file("AIRUNNER_KEY_PASSPHRASE_FILE"),
            tls_profile: set("AIRUNNER_TLS_PROFILE"),
            home: None,
        };
        let from_file = stored(args, variable)?.unwrap_or_default();
        let passphrase = set(PASSPHRASE).map(|text| Secret::new(text.into_bytes()));
        Self::layered([from_flags, from_environment, from_file], passphrase)
    }

    /// The first layer that has a value gives it; but the roots of a profile belong to its identity, and another one
    /// brings its own.
    fn layered(layers: [Profile; 3], passphrase: Option<Secret>) -> Result<Self> {
        let first = |get: fn(&Profile) -> Option<&PathBuf>| layers.iter().find_map(get).cloned();
        let text = |get: fn(&Profile) -> Option<&String>| layers.iter().find_map(get).cloned();
        let key = first(|layer| layer.client_key.as_ref());
        let shown = layers.iter().position(|layer| {
            layer.identity.is_some() || layer.client_cert.is_some() || layer.cert_bundle.is_some()
        });
        let with_key = |what: &str| {
            key.clone()
                .ok_or_else(|| Failure::Usage(format!("{what} needs its private key: give --client-key")))
        };
        let [flags, environment, file] = &layers;
        let of_profile = file.cacert.as_ref().filter(|_| shown.is_none_or(|at| at == 2));
        let cacert = flags.cacert.as_ref().or(environment.cacert.as_ref()).or(of_profile).cloned();
        let shown = match shown.map(|at| &layers[at]) {
            None => None,
            Some(Profile { identity: Some(folder), client_cert: None, cert_bundle: None, .. }) => {
                Some(Shown::Folder(folder.clone()))
            }
            Some(Profile { client_cert: Some(cert), identity: None, cert_bundle: None, .. }) => {
                Some(Shown::Files(cert.clone(), with_key("the certificate")?))
            }
            Some(Profile { cert_bundle: Some(bundle), identity: None, client_cert: None, .. }) => {
                Some(Shown::Bundle(bundle.clone(), with_key("the bundle")?))
            }
            Some(_) => {
                return Err(Failure::Usage(
                    "of --identity, --client-cert and --cert-bundle give one: each says who calls".to_owned(),
                ));
            }
        };
        Ok(Self {
            server: text(|layer| layer.server.as_ref()),
            cacert,
            shown,
            passphrase_file: first(|layer| layer.key_passphrase_file.as_ref()),
            passphrase,
            tls_profile: text(|layer| layer.tls_profile.as_ref())
                .map_or(Ok(TlsProfile::Default), |name| name.parse())?,
            home: layers.into_iter().find_map(|layer| layer.home),
        })
    }

    /// The options of a client that shows who calls.
    pub(crate) fn options(&self) -> Result<ClientOptions> {
        let shown = self.shown.as_ref().ok_or_else(|| nobody("who calls"))?;
        let identity = match shown {
            Shown::Folder(_) => IdentitySource::Folder(self.identity_files()?),
            Shown::Files(certificate, key) => IdentitySource::Files {
                certificate: certificate.clone(),
                key: key.clone(),
                passphrase: self.passphrase_of(key)?,
            },
            Shown::Bundle(bundle, key) => IdentitySource::Bundle {
                bundle: bundle.clone(),
                key: key.clone(),
                passphrase: self.passphrase_of(key)?,
            },
        };
        let roots = self.roots()?.unwrap_or_default();
        let mut options = ClientOptions::new(self.endpoint()?, roots, Some(identity));
        options.profile = self.tls_profile;
        Ok(options)
    }

    /// The folder of the identity, for what exchanges it.
    pub(crate) fn identity_files(&self) -> Result<IdentityFiles> {
        let Some(Shown::Folder(folder)) = &self.shown else {
            return Err(Failure::Usage(
                "this exchanges the files of an identity: give its folder with --identity".to_owned(),
            ));
        };
        let key = ["key.pem", "current/key.pem"].map(|name| folder.join(name));
        let key = key.iter().find(|key| key.exists());
        let passphrase = key.map(|key| self.passphrase_of(key)).transpose()?.flatten();
        Ok(IdentityFiles::open(folder, passphrase)?)
    }

    /// The server.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let server = self.server.as_ref().ok_or_else(|| nobody("the server"))?;
        Ok(server.parse()?)
    }

    /// The roots that were given by themselves.
    pub(crate) fn roots(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = &self.cacert else { return Ok(None) };
        let missing = || Failure::new(Label::File, format!("there is no file {}", path.display()));
        files::read(path)?.map(Some).ok_or_else(missing)
    }

    /// A passphrase that was given, for keys that are made.
    pub(crate) fn passphrase(&self) -> Result<Option<Secret>> {
        match (&self.passphrase_file, &self.passphrase) {
            (Some(path), _) => Ok(Some(files::read_passphrase(path)?)),
            (None, passphrase) => Ok(passphrase.clone()),
        }
    }

    /// The passphrase of a key file: none where it is not encrypted, and asked for where nothing says it.
    fn passphrase_of(&self, key: &std::path::Path) -> Result<Option<Secret>> {
        if key_file::is_encrypted(key)? != Some(true) {
            return Ok(None);
        }
        if let Some(given) = self.passphrase()? {
            return Ok(Some(given));
        }
        let question = format!("Passphrase of {}", key.display());
        let otherwise = format!("give --key-passphrase-file, or set {PASSPHRASE}");
        prompt::secret(&question, &otherwise).map(Some)
    }
}

fn stored(args: &ConnectionArgs, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Profile>> {
    let named = args.profile.clone().or_else(|| variable("AIRUNNER_PROFILE").filter(|name| !name.is_empty()));
    let path = match profile::path(variable) {
        Ok(path) => path,
        // Without a home there is no profile; flags may say all.
        Err(_) if named.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Profiles::load(&path)?.get(&path, named.as_deref())?.cloned())
}

fn nobody(what: &str) -> Failure {
    Failure::new(
        Label::Config,
        format!(
            "it is not known {} {what}: run `airunner-cli bootstrap --environment=local` for an environment of your \
             own, or `airunner-cli enroll` for one that is there, or name a --profile, or give --server with \
             --identity",
            if what == "who calls" { "as" } else { "which is" }
        ),
    )
}

impl Context {
    /// The connection that flags, environment and profile come to.
    pub(crate) fn connection(&self) -> Result<Connection> {
        Connection::resolve(self.connection_args(), &airunner_host::environment_variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Profile {
        Profile {
            server: Some("localhost:8443".into()),
            identity: Some("/home/admin".into()),
            cacert: Some("/home/ca.pem".into()),
            ..Profile::default()
        }
    }

    fn layered(flags: Profile, environment: Profile) -> Connection {
        Connection::layered([flags, environment, local()], None).unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_profile() {
        let environment = Profile { server: Some("b:1".into()), ..Profile::default() };
        let connection = layered(Profile::default(), environment.clone());
        assert_eq!(connection.server.as_deref(), Some("b:1"));
        assert_eq!(connection.shown, Some(Shown::Folder("/home/admin".into())));
        let flags = Profile { server: Some("c:1".into()), ..Profile::default() };
        assert_eq!(layered(flags, environment).server.as_deref(), Some("c:1"));
    }

    #[test]
    fn an_identity_brings_its_own_roots() {
        let flags = Profile { identity: Some("/other".into()), ..Profile::default() };
        let connection = layered(flags, Profile::default());
        assert_eq!(connection.shown, Some(Shown::Folder("/other".into())));
        assert_eq!(connection.cacert, None);
    }

    #[test]
    fn a_certificate_needs_a_key_and_one_form_is_enough() {
        let lonely = Profile { client_cert: Some("/c".into()), ..Profile::default() };
        let failure = Connection::layered([lonely, Profile::default(), local()], None).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let both = Profile {
            client_cert: Some("/c".into()),
            cert_bundle: Some("/b".into()),
            client_key: Some("/k".into()),
            ..Profile::default()
        };
        assert!(Connection::layered([both, Profile::default(), local()], None).is_err());
        let bundle =
            Profile { cert_bundle: Some("/b".into()), client_key: Some("/k".into()), ..Profile::default() };
        assert_eq!(layered(bundle, Profile::default()).shown, Some(Shown::Bundle("/b".into(), "/k".into())));
    }

    #[test]
    fn with_nothing_at_all_the_error_names_the_ways() {
        let none =
            Connection::layered([Profile::default(), Profile::default(), Profile::default()], None).unwrap();
        for failure in [none.endpoint().unwrap_err(), none.options().err().unwrap()] {
            assert!(failure.to_string().contains("bootstrap --environment=local"), "{failure}");
            assert_eq!(failure.exit_code(), 1);
        }
    }
}
