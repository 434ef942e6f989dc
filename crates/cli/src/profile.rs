//! The CLI's own configuration: named profiles, each a server with the credentials for it. It is written by bootstrap
//! and enrolment, and by hand.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use airunner_core::Label;
use airunner_host::files::{self, Access};
use serde::{Deserialize, Serialize};

use crate::{Result, failure::Failure};

/// One server, and how it is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// `https://host:port` of the API listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// The folder of an identity: `current`, or the four files themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<PathBuf>,
    /// Roots, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cacert: Option<PathBuf>,
    /// Leaf and issuing CA, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The leaf's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_key: Option<PathBuf>,
    /// Leaf, issuing CA and roots in one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert_bundle: Option<PathBuf>,
    /// The file whose first line opens the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_passphrase_file: Option<PathBuf>,
    /// What TLS is allowed: `default` or `p384`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_profile: Option<String>,
    /// The folder of the local environment that this is the admin's profile of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) home: Option<PathBuf>,
}

/// All profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The profile where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// What became of a profile that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It was there and the same.
    Found,
    /// It was not there.
    Made,
    /// Another of the same name was there.
    Replaced,
}

impl Profiles {
    /// Reads the file; without one there are no profiles.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let Some(bytes) = files::read(path)? else { return Ok(Self::default()) };
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::new(Label::File, format!("{} is no UTF-8", path.display())))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let message = error.message();
            Failure::new(Label::Config, format!("{} line {line}: {message}", path.display()))
        })
    }

    /// The profile of this name; without a name the default one, and none where there is none.
    pub(crate) fn get(&self, path: &Path, name: Option<&str>) -> Result<Option<&Profile>> {
        let Some(wanted) = name.or(self.default.as_deref()) else { return Ok(None) };
        self.profiles.get(wanted).map(Some).ok_or_else(|| {
            let names: Vec<_> = self.profiles.keys().map(String::as_str).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Failure::new(
                Label::Config,
                format!("there is no profile {wanted:?} in {}: known are {known}", path.display()),
            )
        })
    }

    /// Whether there is no profile at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }
}

/// Writes a profile; it becomes the default where there is no other. A file that says so already is left alone.
pub(crate) fn write(path: &Path, name: &str, profile: Profile) -> Result<Written> {
    let before = Profiles::load(path)?;
    let mut after = before.clone();
    let written = match after.profiles.insert(name.to_owned(), profile.clone()) {
        Some(old) if old == profile => Written::Found,
        Some(_) => Written::Replaced,
        None => Written::Made,
    };
    let default = after.default.take().filter(|default| after.profiles.contains_key(default));
    after.default = Some(default.unwrap_or_else(|| name.to_owned()));
    if after == before {
        return Ok(written);
    }
    if let Some(folder) = path.parent() {
        files::create_private_folder(folder)?;
    }
    let text = toml::to_string(&after).map_err(airunner_core::Error::internal)?;
    files::write(path, text.as_bytes(), Access::Secret)?;
    Ok(written)
}

/// Where the profiles are: `$XDG_CONFIG_HOME/airunner/config.toml`, by default under `~/.config`.
pub(crate) fn path(variable: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification wants relative paths ignored.
    let config = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let config = config.or_else(|| set("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("airunner/config.toml")).ok_or_else(|| {
        Failure::new(Label::Config, "there is no place for the configuration: set HOME or XDG_CONFIG_HOME")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(server: &str) -> Profile {
        Profile { server: Some(server.into()), ..Profile::default() }
    }

    #[test]
    fn the_first_profile_becomes_the_default_and_stays_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("airunner/config.toml");
        assert_eq!(write(&path, "local", profile("a:1")).unwrap(), Written::Made);
        assert_eq!(write(&path, "prod", profile("b:1")).unwrap(), Written::Made);
        assert_eq!(write(&path, "local", profile("a:1")).unwrap(), Written::Found);
        assert_eq!(write(&path, "local", profile("a:2")).unwrap(), Written::Replaced);
        let profiles = Profiles::load(&path).unwrap();
        assert_eq!(profiles.get(&path, None).unwrap().unwrap().server.as_deref(), Some("a:2"));
        assert_eq!(profiles.get(&path, Some("prod")).unwrap().unwrap().server.as_deref(), Some("b:1"));
        assert!(profiles.get(&path, Some("x")).unwrap_err().to_string().contains("local, prod"));
    }

    #[test]
    fn a_typo_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "default = \"x\"\n[profiles.x]\nsevrer = \"a:1\"\n").unwrap();
        let error = Profiles::load(&path).unwrap_err().to_string();
        assert!(error.contains("config.toml line 3") && error.contains("sevrer"), "{error}");
    }

    #[test]
    fn without_a_file_there_is_no_profile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let profiles = Profiles::load(&path).unwrap();
        assert!(profiles.is_empty());
        assert!(profiles.get(&path, None).unwrap().is_none());
        assert!(profiles.get(&path, Some("x")).is_err());
    }
}
