//! Named connections in `config.toml`, read and written. What a connection needs is not decided here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use airunner_core::{Error, Label};
use airunner_host::files::{self, Access};
use airunner_net::TlsProfile;
use serde::{Deserialize, Serialize};

use crate::{context::Environment, failure::Result};

/// How an environment is reached. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The address of the API listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// The roots to trust; else those that come with the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cacert: Option<PathBuf>,
    /// The identity's folder; or one of the next two, with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<PathBuf>,
    /// The certificate, leaf first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Leaf, issuing CA and roots in one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cert_bundle: Option<PathBuf>,
    /// The private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_key: Option<PathBuf>,
    /// The file whose first line is the passphrase of the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_key_passphrase_file: Option<PathBuf>,
    /// `default` or `p384`.
    #[expect(clippy::struct_field_names, reason = "the name that it has everywhere")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_profile: Option<String>,
    /// The folder of the environment, where it is on this machine: its root key and its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) home: Option<PathBuf>,
}

impl Profile {
    /// What TLS the environment allows.
    pub(crate) fn tls_profile(&self) -> Result<TlsProfile> {
        Ok(self.tls_profile.as_deref().map_or(Ok(TlsProfile::Default), str::parse)?)
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    profiles: BTreeMap<String, Profile>,
}

/// The profiles that there are.
#[derive(Clone, Debug)]
pub(crate) struct Profiles {
    path: PathBuf,
    content: Content,
}

/// What writing a profile came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The file.
    pub(crate) path: PathBuf,
    /// Whether the profile is the one that is used where none is named.
    pub(crate) is_default: bool,
}

impl Profiles {
    /// Reads the file; where there is none, there are no profiles.
    ///
    /// # Errors
    /// `config` naming file and line, for a key that is unknown or a value that is malformed; `file`.
    pub(crate) fn read(environment: &Environment) -> Result<Self> {
        let Some(path) = path(environment) else {
            return Ok(Self { path: PathBuf::new(), content: Content::default() });
        };
        let content =
            files::read(&path)?.map_or_else(|| Ok(Content::default()), |bytes| parse(&path, &bytes))?;
        Ok(Self { path, content })
    }

    /// The profile of this name.
    ///
    /// # Errors
    /// `config` naming those that there are.
    pub(crate) fn named(&self, name: &str) -> Result<Profile> {
        if let Some(profile) = self.content.profiles.get(name) {
            return Ok(profile.clone());
        }
        let known: Vec<&str> = self.content.profiles.keys().map(String::as_str).collect();
        let known =
            if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        let message = format!("there is no profile {name:?} in {}: {known}", self.path.display());
        Err(Error::new(Label::Config, message).into())
    }

    /// The profile of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<&Profile> {
        self.content.profiles.get(name)
    }

    /// Whether this profile is used where none is named.
    pub(crate) fn is_default(&self, name: &str) -> bool {
        self.content.default.as_deref() == Some(name)
    }

    /// The name of the profile that is used where none is named.
    pub(crate) fn default_name(&self) -> Option<&str> {
        self.content.default.as_deref()
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.content.profiles.iter().map(|(name, profile)| (name.as_str(), profile))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The profile to use where none is named; an empty one where there is none.
    ///
    /// # Errors
    /// `config` where the file names a default that it does not have.
    pub(crate) fn default_profile(&self) -> Result<Profile> {
        self.content.default.as_deref().map_or_else(|| Ok(Profile::default()), |name| self.named(name))
    }
}

/// Writes a profile, in place of one of the same name; the others, and comments, stay as they are. It becomes the default
/// where there is none.
///
/// # Errors
/// As [`Profiles::read`]; a malformed file is not written over.
pub(crate) fn write(environment: &Environment, name: &str, profile: &Profile) -> Result<Written> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(Error::invalid("profile", "a profile's name is of A-Z a-z 0-9 . _ -").into());
    }
    let path = path(environment).ok_or_else(|| {
        Error::new(Label::Config, "there is no home: set XDG_CONFIG_HOME to a folder for config.toml")
    })?;
    let before = files::read(&path)?.unwrap_or_default();
    let mut content = parse(&path, &before)?;
    content.profiles.insert(name.to_owned(), profile.clone());
    let needs_default = content.default.is_none();
    let default = content.default.get_or_insert_with(|| name.to_owned()).clone();
    let edited = edit(&String::from_utf8_lossy(&before), name, profile, needs_default)?;
    // Where the text is laid out in a way that the edit does not see through, the content counts, not the layout.
    let text = match parse(&path, edited.as_bytes()) {
        Ok(same) if same == content => edited,
        _ => toml::to_string(&content).map_err(Error::internal)?,
    };
    if let Some(folder) = path.parent() {
        files::create_private_folder(folder)?;
    }
    files::write(&path, text.as_bytes(), Access::Public)?;
    Ok(Written { path, is_default: default == name })
}

/// Has this profile used where none is named; returns it. Comments stay.
///
/// # Errors
/// As [`Profiles::read`] and [`Profiles::named`].
pub(crate) fn use_by_default(environment: &Environment, name: &str) -> Result<Profile> {
    let profiles = Profiles::read(environment)?;
    let profile = profiles.named(name)?;
    let before = files::read(&profiles.path)?.unwrap_or_default();
    let content = Content { default: Some(name.to_owned()), ..profiles.content };
    let line = format!("default = {name:?}\n");
    // The key stands before the first section (TOML section "Table").
    let text = String::from_utf8_lossy(&before);
    let is_default = |line: &str| line.split('=').next().is_some_and(|key| key.trim() == "default");
    let mut in_head = true;
    let kept = text.lines().filter(|line| {
        in_head &= !line.trim_start().starts_with('[');
        !(in_head && is_default(line))
    });
    let edited = kept.fold(line, |text, line| text + line + "\n");
    let text = match parse(&profiles.path, edited.as_bytes()) {
        Ok(same) if same == content => edited,
        _ => toml::to_string(&content).map_err(Error::internal)?,
    };
    files::write(&profiles.path, text.as_bytes(), Access::Public)?;
    Ok(profile)
}

/// The text with the profile's section exchanged.
fn edit(before: &str, name: &str, profile: &Profile, needs_default: bool) -> Result<String> {
    let headers = [format!("[profiles.{name}]"), format!("[profiles.\"{name}\"]")];
    let mut text = if needs_default { format!("default = \"{name}\"\n") } else { String::new() };
    let mut in_section = false;
    // Comments at a section's end belong to what follows.
    let mut comments = String::new();
    for line in before.lines() {
        let start = line.trim();
        if start.starts_with('[') {
            in_section = headers.iter().any(|header| start.starts_with(header.as_str()));
            text.push_str(&comments);
            comments.clear();
        }
        let kept = if in_section { &mut comments } else { &mut text };
        if in_section && !start.is_empty() && !start.starts_with('#') {
            kept.clear();
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    text.push_str(&comments);
    if !text.ends_with("\n\n") {
        text.push('\n');
    }
    let section = toml::to_string(profile).map_err(Error::internal)?;
    let header = if name.contains('.') { &headers[1] } else { &headers[0] };
    Ok(format!("{text}{header}\n{section}"))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Content> {
    let refuse = |line: usize, message: &str| {
        let message = message.trim().replace('\n', " ");
        Error::new(Label::Config, format!("{}:{line}: {message}", path.display()))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| refuse(1, "this is not text"))?;
    let content = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        refuse(1 + text[..offset].matches('\n').count(), error.message())
    })?;
    Ok(content)
}

/// `config.toml`; none where neither `XDG_CONFIG_HOME` nor `HOME` is set.
fn path(environment: &Environment) -> Option<PathBuf> {
    environment.folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("airunner/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn at(folder: &tempfile::TempDir) -> Environment {
        let folder = folder.path().display().to_string();
        Environment::new(move |name| (name == "XDG_CONFIG_HOME").then(|| folder.clone()))
    }

    fn file(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("airunner/config.toml")
    }

    fn given(folder: &tempfile::TempDir, text: &str) {
        std::fs::create_dir_all(file(folder).parent().unwrap()).unwrap();
        std::fs::write(file(folder), text).unwrap();
    }

    fn local() -> Profile {
        Profile { server: Some("localhost:8443".to_owned()), ..Profile::default() }
    }

    fn message(failure: Failure) -> String {
        let Failure::Failed(error) = failure else { panic!("{failure:?}") };
        error.message().to_owned()
    }

    #[test]
    fn the_first_profile_is_the_default_and_the_second_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&at(&folder), "local", &local()).unwrap().is_default);
        let prod = Profile { server: Some("prod:1".to_owned()), ..Profile::default() };
        assert!(!write(&at(&folder), "prod", &prod).unwrap().is_default);
        let profiles = Profiles::read(&at(&folder)).unwrap();
        assert_eq!(profiles.default_profile().unwrap(), local());
        assert_eq!(profiles.named("prod").unwrap(), prod);
    }

    #[test]
    fn writing_one_profile_keeps_the_others_and_the_comments() {
        let folder = tempfile::tempdir().unwrap();
        let before = "# mine\ndefault = \"a\"\n\n[profiles.a]\nserver = \"a:1\" # here\n\n[profiles.local]\nserver = \
                      \"old:1\"\n\n# the last\n[profiles.z]\nserver = \"z:1\"\n";
        given(&folder, before);
        write(&at(&folder), "local", &local()).unwrap();
        let after = std::fs::read_to_string(file(&folder)).unwrap();
        for kept in ["# mine", "server = \"a:1\" # here", "# the last", "[profiles.z]"] {
            assert!(after.contains(kept), "{kept} is not in {after}");
        }
        assert!(!after.contains("old:1"));
        assert_eq!(Profiles::read(&at(&folder)).unwrap().named("local").unwrap(), local());
    }

    #[test]
    fn another_profile_is_used_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let before = "# mine\ndefault = \"a\"\n\n[profiles.a]\nserver = \"a:1\" # here\n[profiles.b]\n";
        given(&folder, before);
        use_by_default(&at(&folder), "b").unwrap();
        let after = std::fs::read_to_string(file(&folder)).unwrap();
        assert_eq!(after, before.replace("# mine\ndefault = \"a\"\n", "default = \"b\"\n# mine\n"));
        assert_eq!(Profiles::read(&at(&folder)).unwrap().default_name(), Some("b"));
        assert!(message(use_by_default(&at(&folder), "c").unwrap_err()).contains("a, b"));
    }

    #[test]
    fn a_layout_of_another_kind_is_not_broken() {
        for before in
            ["profiles = { a = { server = \"a:1\" } }\n", "[profiles]\na.server = \"a:1\"\nlocal = {}\n"]
        {
            let folder = tempfile::tempdir().unwrap();
            given(&folder, before);
            write(&at(&folder), "local", &local()).unwrap();
            let profiles = Profiles::read(&at(&folder)).unwrap();
            assert_eq!(profiles.named("a").unwrap().server.as_deref(), Some("a:1"), "{before}");
            assert_eq!(profiles.named("local").unwrap(), local(), "{before}");
        }
    }

    #[test]
    fn a_typo_names_its_line_and_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[profiles.local]\nserver = \"a:1\"\nca_cert = \"/ca.pem\"\n";
        given(&folder, text);
        for failure in
            [Profiles::read(&at(&folder)).unwrap_err(), write(&at(&folder), "x", &local()).unwrap_err()]
        {
            let message = message(failure);
            assert!(message.contains("config.toml:3:") && message.contains("ca_cert"), "{message}");
        }
        assert_eq!(std::fs::read_to_string(file(&folder)).unwrap(), text);
    }

    #[test]
    fn an_unknown_profile_is_told_with_those_that_there_are() {
        let folder = tempfile::tempdir().unwrap();
        given(&folder, "default = \"gone\"\n[profiles.a]\n[profiles.b]\n");
        let profiles = Profiles::read(&at(&folder)).unwrap();
        assert!(message(profiles.named("c").unwrap_err()).contains("a, b"));
        assert!(message(profiles.default_profile().unwrap_err()).contains("gone"));
    }

    #[test]
    fn names_that_toml_would_read_otherwise_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "a b", "a\"", "é"] {
            assert!(write(&at(&folder), name, &local()).is_err(), "{name}");
        }
        write(&at(&folder), "v1.2", &local()).unwrap();
        assert_eq!(Profiles::read(&at(&folder)).unwrap().named("v1.2").unwrap(), local());
    }
}
