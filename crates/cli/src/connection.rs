//! Which server is called, what it must show, and what is shown to it: from options, environment and profile. Nothing is
//! sent from here.

use std::{fs, path::Path, path::PathBuf, sync::Arc};

use airunner_client::{ClientOptions, Endpoint, IdentityFiles, IdentitySource, LoadedIdentity};
use airunner_core::{Clock, Error, Label, Secret, SecureRandom};
use airunner_net::TlsProfile;
use clap::{ArgMatches, Args, parser::ValueSource};
use clap_complete::ArgValueCompleter;

use crate::{
    complete,
    context::Environment,
    failure::{Failure, Result},
    profile::{Profile, Profiles},
    secret_input,
};

// Where to connect, and as whom. Each option may come from its variable instead, and what neither says from the profile.
// No doc comment: clap would make it the description of every command that takes these.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The server's API listener, https://HOST:PORT or HOST:PORT [env: AIRUNNER_SERVER]
    #[arg(long, value_name = "ADDRESS", hide_short_help = true)]
    pub(crate) server: Option<String>,
    /// The roots under which the server's certificate must stand, PEM [env: AIRUNNER_CACERT]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) cacert: Option<PathBuf>,
    /// The certificate to show, leaf first, PEM [env: AIRUNNER_CLIENT_CERT]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its private key, PEM [env: AIRUNNER_CLIENT_KEY]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) client_key: Option<PathBuf>,
    /// Leaf, issuing CA and roots in one file, instead of --cacert and --client-cert [env: AIRUNNER_CERT_BUNDLE]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) cert_bundle: Option<PathBuf>,
    /// The folder of an identity, as `enroll` writes it, instead of the files [env: AIRUNNER_IDENTITY]
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub(crate) identity: Option<PathBuf>,
    /// A file whose first line is the passphrase of the private key [env: AIRUNNER_CLIENT_KEY_PASSPHRASE_FILE, or the
    /// passphrase itself in AIRUNNER_CLIENT_KEY_PASSPHRASE]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) client_key_passphrase_file: Option<PathBuf>,
    /// The profile of config.toml that says what is not said here [env: AIRUNNER_PROFILE]
    #[arg(long, value_name = "NAME", hide_short_help = true, add = ArgValueCompleter::new(complete::profiles))]
    pub(crate) profile: Option<String>,
}

impl ConnectionArgs {
    /// What was given on this level of the command line itself.
    pub(crate) fn given(matches: &ArgMatches) -> Self {
        let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        // A level that takes no connection options does not know them.
        let text =
            |id: &str| matches.try_get_one::<String>(id).ok().flatten().filter(|_| is_given(id)).cloned();
        let path =
            |id: &str| matches.try_get_one::<PathBuf>(id).ok().flatten().filter(|_| is_given(id)).cloned();
        Self {
            server: text("server"),
            cacert: path("cacert"),
            client_cert: path("client_cert"),
            client_key: path("client_key"),
            cert_bundle: path("cert_bundle"),
            identity: path("identity"),
            client_key_passphrase_file: path("client_key_passphrase_file"),
            profile: text("profile"),
        }
    }

    /// What these say, and what `others` say of the rest.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            server: self.server.or(others.server),
            cacert: self.cacert.or(others.cacert),
            client_cert: self.client_cert.or(others.client_cert),
            client_key: self.client_key.or(others.client_key),
            cert_bundle: self.cert_bundle.or(others.cert_bundle),
            identity: self.identity.or(others.identity),
            client_key_passphrase_file: self.client_key_passphrase_file.or(others.client_key_passphrase_file),
            profile: self.profile.or(others.profile),
        }
    }

    fn of_environment(environment: &Environment) -> Self {
        let path = |name: &str| environment.variable(name).map(PathBuf::from);
        Self {
            server: environment.variable("AIRUNNER_SERVER"),
            cacert: path("AIRUNNER_CACERT"),
            client_cert: path("AIRUNNER_CLIENT_CERT"),
            client_key: path("AIRUNNER_CLIENT_KEY"),
            cert_bundle: path("AIRUNNER_CERT_BUNDLE"),
            identity: path("AIRUNNER_IDENTITY"),
            client_key_passphrase_file: path("AIRUNNER_CLIENT_KEY_PASSPHRASE_FILE"),
            profile: environment.variable("AIRUNNER_PROFILE"),
        }
    }

    fn of_profile(profile: Profile) -> Self {
        Self {
            server: profile.server,
            cacert: profile.cacert,
            client_cert: profile.client_cert,
            client_key: profile.client_key,
            cert_bundle: profile.cert_bundle,
            identity: profile.identity,
            client_key_passphrase_file: profile.client_key_passphrase_file,
            profile: None,
        }
    }

    /// Whether a profile has nothing to add.
    fn is_whole(&self) -> bool {
        let is_rooted = self.cacert.is_some() || self.cert_bundle.is_some() || self.identity.is_some();
        let has_pair =
            (self.client_cert.is_some() || self.cert_bundle.is_some()) && self.client_key.is_some();
        self.server.is_some() && is_rooted && (has_pair || self.identity.is_some())
    }
}

/// A connection, decided but not made.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    server: Option<String>,
    roots: Option<PathBuf>,
    pub(crate) identity: Option<IdentityPlace>,
    passphrase: Option<Secret>,
    pub(crate) tls_profile: TlsProfile,
}

/// Where the identity is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentityPlace {
    /// A folder whose files are exchanged by renewals.
    Folder(PathBuf),
    /// Certificate and key.
    Files { certificate: PathBuf, key: PathBuf },
    /// Leaf, issuing CA and roots in one file, and the key.
    Bundle { bundle: PathBuf, key: PathBuf },
}

impl Connection {
    /// Decides by what was given on the command line, then the environment, then the profile.
    pub(crate) fn resolve(given: &ConnectionArgs, environment: &Environment) -> Result<Self> {
        let variables = ConnectionArgs::of_environment(environment);
        let said = given.clone().or(variables.clone());
        let profile = match &said.profile {
            Some(name) => Profiles::read(environment)?.named(name)?,
            None if said.is_whole() => Profile::default(),
            None => Profiles::read(environment)?.default_profile()?,
        };
        let tls_profile = profile.tls_profile()?;
        let layers = [given.clone(), variables, ConnectionArgs::of_profile(profile)];
        let (server, passphrase_file) = {
            let [given, variables, profile] = layers.clone();
            let all = given.or(variables).or(profile);
            (all.server, all.client_key_passphrase_file)
        };
        Ok(Self {
            server,
            roots: roots(&layers),
            identity: identity(&layers)?,
            passphrase: passphrase(passphrase_file.as_deref(), environment)?,
            tls_profile,
        })
    }

    /// What a client of the API listener is made of.
    pub(crate) fn options(
        &self,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom>,
    ) -> Result<ClientOptions> {
        let server = self.server.as_deref().ok_or_else(|| nothing("server"))?;
        let server: Endpoint =
            server.parse().map_err(|error: Error| Failure::Usage(error.message().to_owned()))?;
        let identity = self.identity.as_ref().ok_or_else(|| nothing("identity"))?;
        let source = self.source(identity)?;
        let mut options = ClientOptions::new(server, self.roots_file()?, Some(source));
        options.profile = self.tls_profile;
        options.clock = clock;
        options.random = random;
        Ok(options)
    }

    /// The roots that are pinned, DER: a file's, else those that come with the identity.
    pub(crate) fn roots(&self) -> Result<Vec<Vec<u8>>> {
        if let Some(path) = &self.roots {
            let named = |error: Error| Error::new(Label::File, format!("{}: {error}", path.display()));
            return Ok(airunner_pki::certificates_from_pem(&self.roots_file()?).map_err(named)?);
        }
        let identity = self.identity.as_ref().ok_or_else(|| nothing("trust bundle"))?;
        Ok(self.source(identity)?.load()?.roots().to_vec())
    }

    /// The server's address, as it was given.
    pub(crate) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The identity, read from where it is kept.
    pub(crate) fn load_identity(&self) -> Result<LoadedIdentity> {
        let identity = self.identity.as_ref().ok_or_else(|| nothing("identity"))?;
        Ok(self.source(identity)?.load()?)
    }

    /// The identity's folder, which alone can be renewed.
    pub(crate) fn identity_files(&self) -> Result<IdentityFiles> {
        match &self.identity {
            Some(IdentityPlace::Folder(folder)) => Ok(IdentityFiles::open(folder, self.passphrase.clone())?),
            Some(
                IdentityPlace::Files { certificate: file, .. } | IdentityPlace::Bundle { bundle: file, .. },
            ) => Err(Failure::Usage(format!(
                "{} is a file of its own: renewal exchanges the files of a folder, so name one with --identity DIR",
                file.display()
            ))),
            None => Err(nothing("identity")),
        }
    }

    fn source(&self, identity: &IdentityPlace) -> Result<IdentitySource> {
        let passphrase = self.passphrase.clone();
        Ok(match identity.clone() {
            IdentityPlace::Folder(folder) => {
                IdentitySource::Folder(IdentityFiles::open(&folder, passphrase)?)
            }
            IdentityPlace::Files { certificate, key } => {
                IdentitySource::Files { certificate, key, passphrase }
            }
            IdentityPlace::Bundle { bundle, key } => IdentitySource::Bundle { bundle, key, passphrase },
        })
    }

    fn roots_file(&self) -> Result<Vec<u8>> {
        let Some(path) = &self.roots else { return Ok(Vec::new()) };
        fs::read(path).map_err(|error| {
            Error::new(Label::File, format!("can't read {}: {error}", path.display()))
                .with_cause(error)
                .into()
        })
    }
}

/// The roots of the first layer that has any: a file, or those that come with its identity (none here).
fn roots(layers: &[ConnectionArgs; 3]) -> Option<PathBuf> {
    let rooted = |layer: &&ConnectionArgs| {
        layer.cacert.is_some() || layer.cert_bundle.is_some() || layer.identity.is_some()
    };
    layers.iter().find(rooted).and_then(|layer| layer.cacert.clone())
}

/// The place of the profile among the layers: behind command line and environment.
const PROFILE: usize = 2;

/// The identity of the first layer that has one.
fn identity(layers: &[ConnectionArgs; 3]) -> Result<Option<IdentityPlace>> {
    // A profile's key belongs to the profile's certificate: with another it would only be a puzzling mismatch.
    let key = |place: usize| {
        let told = if place == PROFILE { &layers[..] } else { &layers[..PROFILE] };
        told.iter().find_map(|layer| layer.client_key.clone()).ok_or_else(no_key)
    };
    for (place, layer) in layers.iter().enumerate() {
        let found = match (&layer.identity, &layer.cert_bundle, &layer.client_cert) {
            (None, None, None) => continue,
            (Some(folder), None, None) => IdentityPlace::Folder(folder.clone()),
            (None, Some(bundle), None) => IdentityPlace::Bundle { bundle: bundle.clone(), key: key(place)? },
            (None, None, Some(certificate)) => of_pair(certificate, key(place)?),
            _ => {
                let source = ["the command line", "the environment", "the profile"][place];
                return Err(Failure::Usage(format!(
                    "{source} names more than one identity: choose --identity, --cert-bundle or --client-cert"
                )));
            }
        };
        return Ok(Some(found));
    }
    Ok(None)
}

/// A pair that is a folder's own: read as one, it can't be torn by a renewal in between.
fn of_pair(certificate: &Path, key: PathBuf) -> IdentityPlace {
    let is_folder = certificate.file_name().is_some_and(|name| name == "cert.pem")
        && key.file_name().is_some_and(|name| name == "key.pem")
        && certificate.parent() == key.parent();
    match certificate.parent() {
        Some(folder) if is_folder && !folder.as_os_str().is_empty() => {
            let folder = if folder.ends_with("current") { folder.parent().unwrap_or(folder) } else { folder };
            IdentityPlace::Folder(folder.to_owned())
        }
        _ => IdentityPlace::Files { certificate: certificate.to_owned(), key },
    }
}

fn passphrase(file: Option<&Path>, environment: &Environment) -> Result<Option<Secret>> {
    match file {
        Some(file) => secret_input::first_line(file).map(Some),
        None => Ok(environment
            .variable("AIRUNNER_CLIENT_KEY_PASSPHRASE")
            .map(|passphrase| Secret::new(passphrase.into_bytes()))),
    }
}

fn no_key() -> Failure {
    Failure::Usage("a certificate needs its key: name it with --client-key FILE".to_owned())
}

fn nothing(what: &str) -> Failure {
    Failure::Usage(format!(
        "there is no {what} to use: make a local environment with `airunner-cli bootstrap --environment local`, enrol \
         with `airunner-cli enroll --save-profile NAME`, or see --help for the connection options"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(change: impl FnOnce(&mut ConnectionArgs)) -> ConnectionArgs {
        let mut layer = ConnectionArgs::default();
        change(&mut layer);
        layer
    }

    fn pair(layer: &mut ConnectionArgs) {
        layer.client_cert = Some("/a/c.pem".into());
        layer.client_key = Some("/a/k.pem".into());
    }

    #[test]
    fn the_first_layer_with_an_identity_decides_which() {
        let bundle = layer(|l| {
            l.cert_bundle = Some("/b.pem".into());
            l.client_key = Some("/b.key".into());
        });
        let files = layer(|l| {
            pair(l);
            l.cacert = Some("/ca.pem".into());
        });
        let layers = [bundle.clone(), files.clone(), ConnectionArgs::default()];
        let expected = IdentityPlace::Bundle { bundle: "/b.pem".into(), key: "/b.key".into() };
        assert_eq!(identity(&layers).unwrap(), Some(expected));
        // The bundle brings its own roots; those of the weaker layer must not replace them.
        assert_eq!(roots(&layers), None);
        let layers = [ConnectionArgs::default(), files, bundle];
        assert!(matches!(identity(&layers).unwrap(), Some(IdentityPlace::Files { .. })));
        assert_eq!(roots(&layers), Some("/ca.pem".into()));
    }

    #[test]
    fn one_layer_with_two_identities_is_refused() {
        let both = layer(|l| {
            pair(l);
            l.identity = Some("/i".into());
        });
        let layers = [ConnectionArgs::default(), both, ConnectionArgs::default()];
        let Failure::Usage(message) = identity(&layers).unwrap_err() else { panic!("not a usage error") };
        assert!(message.contains("the environment"), "{message}");
    }

    #[test]
    fn a_certificate_without_a_key_is_refused() {
        let lone = layer(|l| l.client_cert = Some("/a/c.pem".into()));
        let profile = layer(pair);
        assert!(identity(&[lone.clone(), ConnectionArgs::default(), profile]).is_err());
        let key = layer(|l| l.client_key = Some("/a/k.pem".into()));
        assert!(identity(&[lone, key, ConnectionArgs::default()]).is_ok());
    }

    #[test]
    fn a_pair_in_a_folder_of_an_identity_is_that_folder() {
        let folder = |certificate: &str, key: &str| of_pair(Path::new(certificate), key.into());
        let whole = IdentityPlace::Folder("/home/admin".into());
        assert_eq!(folder("/home/admin/cert.pem", "/home/admin/key.pem"), whole);
        assert_eq!(folder("/home/admin/current/cert.pem", "/home/admin/current/key.pem"), whole);
        for (certificate, key) in
            [("/a/cert.pem", "/b/key.pem"), ("cert.pem", "key.pem"), ("/a/x.pem", "/a/key.pem")]
        {
            assert!(matches!(folder(certificate, key), IdentityPlace::Files { .. }), "{certificate} {key}");
        }
    }
}
