//! Settings as they were written: each with its place (a line of the file, an environment variable, a flag), read out
//! by type. What a setting means, and which values make sense, is decided by the file of its section.

use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use airunner_core::{Error, Label, Result};
use toml::{Spanned, de::DeTable, de::DeValue};

use crate::{duration, suggest::closest};

/// Bytes of a configuration file at most.
const MAX_FILE: u64 = 1 << 20;

/// Every key there is. A key of the file that is not here is refused.
pub(super) const KEYS: &[&str] = &[
    "environment",
    "trust_domain",
    "server.api_addr",
    "server.public_addr",
    "server.plain_addr",
    "server.metrics_addr",
    "server.grpc_addr",
    "server.names",
    "server.proxy_protocol_from",
    "server.drain_seconds",
    "server.api_address",
    "server.public_address",
    "tls.profile",
    "tls.cert",
    "tls.key",
    "tls.ca",
    "tls.key_passphrase_file",
    "tls.poll",
    "store.backend",
    "store.path",
    "store.prefix",
    "store.bucket",
    "master_key.passphrase_env",
    "master_key.keyfile",
    "master_key.kms_key",
    "ca.issuer",
    "ca.accepted_keys",
    "ca.on_fork",
    "ca.overlap",
    "ca.oid_arc",
    "ca.validity.admin",
    "ca.validity.worker",
    "ca.validity.user",
    "ca.validity.service",
    "root.online",
    "root.kms_key",
    "root.secret",
    "aws.region",
    "aws.endpoint",
    "limits.per_address_rps",
    "limits.per_principal_rps",
    "limits.burst",
    "limits.connections",
    "limits.per_address_connections",
    "limits.per_principal_streams",
    "jobs.unique",
    "jobs.output_limit",
    "jobs.retention",
    "jobs.output_retention",
    "jobs.output_total",
    "jobs.certificate_validity",
    "worker.embedded",
    "worker.same_user",
    "worker.run_as",
    "worker.isolation",
    "worker.best_effort",
    "worker.host_network",
    "worker.git_protocols",
    "worker.git_cache",
    "worker.git_cache_size",
    "worker.git_cache_age",
    "worker.git_max_size",
    "worker.git_credentials",
    "worker.git_user",
    "worker.concurrency",
    "worker.output_buffer",
    "worker.queues",
    "worker.strict_order",
    "worker.labels",
];

/// A setting that was given on the command line.
#[derive(Clone, Debug)]
pub struct FlagSetting {
    /// The key, as in `server.api_addr`.
    pub key: &'static str,
    /// The flag, for messages: `--api-addr`.
    pub flag: &'static str,
    /// What it was set to; lists are separated by commas.
    pub value: String,
}

/// Settings, not yet understood.
pub(super) struct Source {
    settings: BTreeMap<&'static str, Setting>,
    file: Option<PathBuf>,
}

struct Setting {
    value: Value,
    place: Place,
}

enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<String>),
    /// From a variable or a flag: what it is depends on who asks.
    Loose(String),
    /// Of a type that no setting has.
    Other(&'static str),
}

enum Place {
    Line(usize),
    Variable(String),
    Flag(&'static str),
}

impl Source {
    /// Reads `file` and lays the environment over it, and the flags over both.
    pub(super) fn read(
        file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
        flags: &[FlagSetting],
    ) -> Result<Self> {
        let text = file.map(read_file).transpose()?;
        Self::new(file.zip(text.as_deref()), variable, flags)
    }

    pub(super) fn new(
        file: Option<(&Path, &str)>,
        variable: &dyn Fn(&str) -> Option<String>,
        flags: &[FlagSetting],
    ) -> Result<Self> {
        let mut source = Self { settings: BTreeMap::new(), file: file.map(|(path, _)| path.to_owned()) };
        if let Some((path, text)) = file {
            let table = DeTable::parse(text).map_err(|error| {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                at_line(path, line, error.message().trim_end())
            })?;
            source.take_table(path, text, "", table.get_ref())?;
        }
        // Variables that are no key of ours are let be: an orchestrator sets some of the same prefix
        // (AIRUNNER_SERVER_PORT for a service of that name), and the CLI has its own.
        for key in KEYS {
            let name = variable_of(key);
            if let Some(value) = variable(&name).filter(|value| !value.is_empty()) {
                source.put(key, Value::Loose(value), Place::Variable(name));
            }
        }
        for FlagSetting { key, flag, value } in flags {
            source.put(key, Value::Loose(value.clone()), Place::Flag(flag));
        }
        Ok(source)
    }

    fn take_table(&mut self, path: &Path, text: &str, prefix: &str, table: &DeTable<'_>) -> Result<()> {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let line = line_of(text, name.span().start);
            let known = KEYS.iter().find(|known| **known == key);
            match (value.get_ref(), known) {
                (DeValue::Table(inner), None) if is_section(&key) => {
                    self.take_table(path, text, &key, inner)?;
                }
                (_, None) if is_section(&key) => {
                    return Err(at_line(path, line, format!("{key} is a section: write [{key}]")));
                }
                (DeValue::Table(_), None) => return Err(at_line(path, line, unknown_section(&key))),
                (_, None) => return Err(at_line(path, line, unknown_key(&key))),
                (_, Some(known)) => self.put(known, Value::of(value), Place::Line(line)),
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &'static str, value: Value, place: Place) {
        self.settings.insert(key, Setting { value, place });
    }

    fn setting(&self, key: &str) -> Option<&Setting> {
        // One that is not there could be read, and never given.
        debug_assert!(KEYS.contains(&key), "{key} is not among KEYS");
        self.settings.get(key)
    }

    /// The file, where there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether the setting was given at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.setting(key).is_some()
    }

    /// An error about a setting, with its place.
    pub(super) fn refuse(&self, key: &str, why: impl fmt::Display) -> Error {
        let message = match self.setting(key).map(|setting| &setting.place) {
            Some(Place::Line(line)) => format!("{} line {line}: {key} {why}", self.file_name()),
            Some(Place::Variable(name)) => format!("environment variable {name}: {key} {why}"),
            Some(Place::Flag(flag)) => format!("{flag}: {key} {why}"),
            None => match &self.file {
                Some(file) => format!("{}: {key} {why}", file.display()),
                None => format!("{key} {why} (set {} or write a configuration file)", variable_of(key)),
            },
        };
        Error::new(Label::Config, message).with_field(key)
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.setting(key).map(|setting| &setting.value) {
            None => Ok(None),
            Some(Value::Text(text) | Value::Loose(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, "a text in quotes", other)),
        }
    }

    /// A text that has a form of its own.
    pub(super) fn parsed<T: FromStr>(&self, key: &str) -> Result<Option<T>>
    where
        T::Err: fmt::Display,
    {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| self.refuse(key, format!("is refused: {error}")))
    }

    /// A path; a relative one is relative to the file's folder.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if text.is_empty() {
            return Err(self.refuse(key, "is empty: give a path"));
        }
        Ok(Some(self.resolve(Path::new(text))))
    }

    /// `path` as seen from the file's folder.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.file.as_deref().and_then(Path::parent).map_or_else(|| path.to_owned(), |dir| dir.join(path))
    }

    /// Yes or no.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        match self.setting(key).map(|setting| &setting.value) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::Loose(text)) => match text.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(self.refuse(key, format!("is true or false, not {text:?}"))),
            },
            Some(other) => Err(self.wrong_type(key, "true or false", other)),
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let number = match self.setting(key).map(|setting| &setting.value) {
            None => return Ok(None),
            Some(Value::Integer(number)) => u64::try_from(*number).ok(),
            Some(Value::Loose(text)) => text.parse().ok(),
            Some(other) => return Err(self.wrong_type(key, "a whole number", other)),
        };
        let fits = number.filter(|number| range.contains(number));
        fits.map(Some).ok_or_else(|| {
            self.refuse(key, format!("is a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Result<Option<Duration>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let duration =
            duration::parse(text).map_err(|error| self.refuse(key, format!("is refused: {error}")))?;
        if range.contains(&duration) {
            return Ok(Some(duration));
        }
        let (least, most) = (duration::format(*range.start()), duration::format(*range.end()));
        Err(self.refuse(key, format!("is {text:?}, and must be between {least} and {most}")))
    }

    /// A list of texts, each of which has a form of its own, `most` of them at most.
    pub(super) fn list<T: FromStr>(&self, key: &str, most: usize) -> Result<Option<Vec<T>>>
    where
        T::Err: fmt::Display,
    {
        let texts: Vec<&str> = match self.setting(key).map(|setting| &setting.value) {
            None => return Ok(None),
            Some(Value::List(texts)) => texts.iter().map(String::as_str).collect(),
            Some(Value::Loose(text)) => text.split(',').map(str::trim).collect(),
            Some(other) => return Err(self.wrong_type(key, "a list of texts, as in [\"a\", \"b\"]", other)),
        };
        if texts.len() > most {
            return Err(self.refuse(key, format!("holds {} entries, and may hold {most}", texts.len())));
        }
        let parse =
            |text: &&str| text.parse().map_err(|error| self.refuse(key, format!("is refused: {error}")));
        texts.iter().map(parse).collect::<Result<_>>().map(Some)
    }

    fn wrong_type(&self, key: &str, wanted: &str, is: &Value) -> Error {
        self.refuse(key, format!("is {wanted}, and here it is {}", is.type_name()))
    }

    fn file_name(&self) -> String {
        self.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default()
    }
}

impl Value {
    fn of(value: &Spanned<DeValue<'_>>) -> Self {
        match value.get_ref() {
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Self::Other("too large a number"), Self::Integer),
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<_>>().map_or(Self::Other("a list of something else"), Self::List)
            }
            DeValue::Float(_) => Self::Other("a number with a point"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Text(_) | Self::Loose(_) => "a text",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }
}

/// The variable that sets `key`: `AIRUNNER_SERVER_API_ADDR` for `server.api_addr`.
fn variable_of(key: &str) -> String {
    format!("AIRUNNER_{}", key.replace('.', "_").to_ascii_uppercase())
}

fn is_section(key: &str) -> bool {
    KEYS.iter().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn unknown_key(key: &str) -> String {
    match closest(key, KEYS.iter().copied()) {
        Some(known) => format!("unknown key {key}, did you mean {known}?"),
        None => format!("unknown key {key}: remove it"),
    }
}

fn unknown_section(key: &str) -> String {
    let sections = KEYS.iter().filter_map(|known| known.rsplit_once('.').map(|(section, _)| section));
    match closest(key, sections) {
        Some(known) => format!("unknown section [{key}], did you mean [{known}]?"),
        None => format!("unknown section [{key}]: remove it"),
    }
}

fn at_line(path: &Path, line: usize, what: impl fmt::Display) -> Error {
    Error::new(Label::Config, format!("{} line {line}: {what}", path.display()))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn read_file(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| {
        Error::new(Label::File, format!("the configuration {} can't be read: {error}", path.display()))
    };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(Error::new(
            Label::File,
            format!("{} is larger than a configuration can be", path.display()),
        ));
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let names: std::collections::BTreeSet<_> = KEYS.iter().map(|key| variable_of(key)).collect();
        assert_eq!(names.len(), KEYS.len());
    }
}
