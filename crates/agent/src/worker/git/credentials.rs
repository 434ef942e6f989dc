//! Who a fetch says it is: credentials by the beginning of a URL, out of the worker's file. Must not put a
//! secret anywhere but into files that nobody reads but the one git process that needs them.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use airunner_core::{Error, Label, Result, Secret};
use rustix::fs::OFlags;

use crate::worker::{options::failed, workspace::Workspace};

/// Bytes of a file of credentials, of a key or of known hosts at most.
const MAX_FILE: u64 = 1 << 20;
/// What errors begin with.
const SETTING: &str = "worker.git_credentials: ";

/// What proves to the server of a repository who is asking, for the URLs that begin in one way.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    prefix: Prefix,
    user: Option<String>,
    proof: Proof,
}

#[derive(Clone, Debug)]
enum Proof {
    /// For http and https.
    Secret(Secret),
    /// For ssh: a private key without a passphrase, and the hosts' own keys.
    Key { key: Secret, known_hosts: Secret },
}

/// The beginning of a URL: the protocol, the host with its port, and whole parts of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix {
    scheme: String,
    host: String,
    path: String,
}

impl Credential {
    /// A user and a secret, for http and https.
    ///
    /// # Errors
    /// A prefix that is none, and characters that a request's header or git's file can't hold. No error tells the secret.
    fn new(prefix: &str, user: &str, secret: Secret) -> Result<Self> {
        let prefix = Prefix::parse(prefix)?;
        if !prefix.is_http() {
            return Err(refuse("a secret is for https (or http): for ssh name a key and known_hosts"));
        }
        let is_plain = |bytes: &[u8]| !bytes.is_empty() && !bytes.iter().any(u8::is_ascii_control);
        if !is_plain(user.as_bytes()) || user.contains(':') || !is_plain(secret.expose()) {
            return Err(refuse(
                "a user and a secret are not empty and have no control characters, a user no colon",
            ));
        }
        Ok(Self { prefix, user: Some(user.to_owned()), proof: Proof::Secret(secret) })
    }

    /// What is in a line of the worker's file; paths count from `folder`.
    fn parse(line: &str, folder: &Path) -> Result<Self> {
        let (prefix, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (rest, secret) = match rest.trim_start() {
            // To the end of the line: a secret may hold blanks.
            rest if rest.starts_with("secret=") => ("", rest.strip_prefix("secret=")),
            rest => rest.split_once(" secret=").map_or((rest, None), |(rest, secret)| (rest, Some(secret))),
        };
        let (mut user, mut key, mut known_hosts) = (None, None, None);
        for word in rest.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let place = match name {
                "user" => &mut user,
                "key" => &mut key,
                "known_hosts" => &mut known_hosts,
                _ => {
                    return Err(refuse(
                        "after the URL come user=, secret=, key= and known_hosts= only, secret= last",
                    ));
                }
            };
            *place = Some(value);
        }
        match (secret, key, known_hosts) {
            (Some(secret), None, None) => {
                let user = user.ok_or_else(|| refuse("a secret needs a user= before it"))?;
                Self::new(prefix, user, Secret::new(secret.as_bytes().to_vec()))
            }
            (None, Some(key), Some(known_hosts)) => {
                let prefix = Prefix::parse(prefix)?;
                if prefix.scheme != "ssh" {
                    return Err(refuse("a key is for ssh: for https give a user and a secret"));
                }
                if user.is_some_and(|user| {
                    !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                }) {
                    return Err(refuse("a user of ssh is letters, digits, points, dashes and underscores"));
                }
                let key = read(&folder.join(key), Who::OwnerOnly)?;
                let proof = Proof::Key { key, known_hosts: read(&folder.join(known_hosts), Who::Anyone)? };
                Ok(Self { prefix, user: user.map(str::to_owned), proof })
            }
            _ => Err(refuse(
                "a credential is `URL user=NAME secret=SECRET` for https, or `URL key=FILE known_hosts=FILE` for ssh",
            )),
        }
    }

    /// Writes what git needs to use it, for this URL alone, to where nobody but git looks. Says how ssh is to be called.
    pub(super) async fn equip(&self, private: &Workspace, url: &str) -> Result<String> {
        match &self.proof {
            Proof::Secret(secret) => {
                let stored = stored(url, self.user.as_deref().unwrap_or_default(), secret);
                // Where `git credential-store` looks in the first place.
                private.write(".git-credentials", stored).await?;
                Ok(plain_ssh())
            }
            Proof::Key { key, known_hosts } => {
                let key = private.write("key", key.expose()).await?;
                let known_hosts = private.write("known_hosts", known_hosts.expose()).await?;
                let user = self.user.as_deref().map_or(String::new(), |user| format!("User {user}\n"));
                let config = format!(
                    "BatchMode yes\nStrictHostKeyChecking yes\nUpdateHostKeys no\nGlobalKnownHostsFile /dev/null\n\
                     UserKnownHostsFile {}\nIdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\n\
                     PreferredAuthentications publickey\nClearAllForwardings yes\nConnectTimeout 60\n\
                     ServerAliveInterval 15\nServerAliveCountMax 4\n{user}",
                    quoted(&known_hosts)?,
                    quoted(&key)?,
                );
                private.write("ssh_config", config).await?;
                // The shell that git runs it by knows HOME.
                Ok("ssh -F \"$HOME/ssh_config\"".to_owned())
            }
        }
    }

    /// What git says, without the secret: a server may say it back.
    pub(super) fn redact(&self, words: &str) -> String {
        match &self.proof {
            Proof::Secret(secret) => match std::str::from_utf8(secret.expose()) {
                Ok(secret) => words.replace(secret, "***"),
                Err(_) => words.to_owned(),
            },
            Proof::Key { .. } => words.to_owned(),
        }
    }
}

/// How ssh is called where there is no credential: with what the machine knows, and never with a question.
pub(super) fn plain_ssh() -> String {
    "ssh -oBatchMode=yes -oConnectTimeout=60 -oServerAliveInterval=15 -oServerAliveCountMax=4".to_owned()
}

/// The one of the longest beginning; of two alike the first.
pub(super) fn find<'a>(all: impl IntoIterator<Item = &'a Credential>, url: &str) -> Option<&'a Credential> {
    let mut found: Option<&Credential> = None;
    for credential in all {
        let length = |credential: &Credential| credential.prefix.path.len();
        if credential.prefix.covers(url) && found.is_none_or(|best| length(credential) > length(best)) {
            found = Some(credential);
        }
    }
    found
}

/// Reads the worker's file: a credential a line, empty lines and those that begin with # apart. Blocks.
///
/// # Errors
/// A file that others can read, or that is not this user's; a line that is no credential, by its number. The same of
/// the keys that it names.
pub(super) fn load(file: &Path) -> Result<Vec<Credential>> {
    let text = read(file, Who::OwnerOnly)?;
    let text =
        std::str::from_utf8(text.expose()).map_err(|_| refuse(&format!("{} is no UTF-8", file.display())))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let credential = Credential::parse(line, folder).map_err(|error| {
            let why = error.message();
            refuse(&format!(
                "line {} of {}: {}",
                number + 1,
                file.display(),
                why.strip_prefix(SETTING).unwrap_or(why)
            ))
        })?;
        found.push(credential);
    }
    Ok(found)
}

impl Prefix {
    fn parse(text: &str) -> Result<Self> {
        let parts = split(text).filter(|(scheme, host, _)| {
            ["https", "http", "ssh"].contains(&scheme.as_str()) && !host.is_empty()
        });
        let has_user = text
            .split_once("://")
            .is_some_and(|(_, rest)| rest.split('/').next().unwrap_or_default().contains('@'));
        match parts {
            Some((scheme, host, path)) if !has_user => {
                Ok(Self { scheme, host, path: path.trim_end_matches('/').to_owned() })
            }
            _ => Err(refuse(
                "a credential begins with the beginning of a URL of https, http or ssh, without a user, as \
                 https://git.example.com/team",
            )),
        }
    }

    fn is_http(&self) -> bool {
        self.scheme != "ssh"
    }

    /// Whether the URL begins so. A path that a server may read as another one is covered by no prefix.
    fn covers(&self, url: &str) -> bool {
        let Some((scheme, host, path)) = split(url) else { return false };
        let escaped = path.to_ascii_lowercase();
        let is_plain = !path.split('/').any(|part| part == ".." || part == ".")
            && !["%2e", "%2f", "%5c", "\\", "?", "#"].iter().any(|odd| escaped.contains(odd));
        let rest = path.strip_prefix(&self.path);
        let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".git");
        (scheme, host) == (self.scheme.clone(), self.host.clone()) && is_plain && is_below
    }
}

/// Protocol, host with port, and path, the first two in small letters; without a user.
fn split(url: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some((scheme.to_ascii_lowercase(), host.to_ascii_lowercase(), path.to_owned()))
}

/// A line of git's own store for this URL and, where servers send git there, for the same with .git at its end.
fn stored(url: &str, user: &str, secret: &Secret) -> Vec<u8> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let rest = rest.trim_end_matches('/');
    let mut lines = Vec::new();
    for end in ["", ".git"] {
        lines.extend_from_slice(scheme.as_bytes());
        lines.extend_from_slice(b"://");
        escape(user.as_bytes(), &mut lines);
        lines.push(b':');
        escape(secret.expose(), &mut lines);
        lines.push(b'@');
        lines.extend_from_slice(rest.as_bytes());
        lines.extend_from_slice(end.as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// As RFC 3986 has it, section 2.1.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// As ssh_config(5) reads it: in quotes, and with the percent sign that begins no token.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains('"') && !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| refuse("the path of the state directory is one that ssh can't be told"))?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

/// Whose a file must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// This user's, and readable by nobody else.
    OwnerOnly,
    /// Anyone's: it holds no secret.
    Anyone,
}

fn read(path: &Path, who: Who) -> Result<Secret> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file: File = file.map_err(failed("read", path))?;
    let meta = file.metadata().map_err(failed("read", path))?;
    let is_own = meta.uid() == rustix::process::geteuid().as_raw() && meta.mode().trailing_zeros() >= 6;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(refuse(&format!("{} is no file of at most 1 MiB", path.display())));
    }
    if who == Who::OwnerOnly && !is_own {
        return Err(refuse(&format!(
            "{} holds secrets, and others than this worker's user may read it: chown it to that user, and chmod 0600",
            path.display()
        )));
    }
    let mut content = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
    file.take(MAX_FILE).read_to_end(&mut content).map_err(failed("read", path))?;
    Ok(Secret::new(content))
}

/// Whether sandboxes show this file to jobs: then no mode keeps it from those of the same user.
pub(super) fn is_shown(file: &Path) -> bool {
    let Ok(file) = fs::canonicalize(file) else { return false };
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc"]
        .iter()
        .any(|shown| file.starts_with(shown))
}

fn refuse(message: &str) -> Error {
    Error::new(Label::Config, format!("worker.git_credentials: {message}"))
        .with_field("worker.git_credentials")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(prefix: &str, user: &str) -> Credential {
        Credential::new(prefix, user, Secret::new(b"s3cret".to_vec())).unwrap()
    }

    #[test]
    fn the_longest_beginning_counts_and_whole_parts_of_a_path_alone() {
        let all = ["https://h", "https://h/team/", "https://h/team/one", "https://h:8443/", "http://h/team"]
            .map(|prefix| secret(prefix, &prefix.replace(':', "")));
        let user = |url: &str| find(&all, url).and_then(|found| found.user.clone());
        for (url, wanted) in [
            ("https://h/other", Some("https//h")),
            ("https://H/team/two.git", Some("https//h/team/")),
            ("https://h/team/one", Some("https//h/team/one")),
            ("https://h/team/one.git", Some("https//h/team/one")),
            ("https://h/team/one/more", Some("https//h/team/one")),
            ("https://h/team/oneself", Some("https//h/team/")),
            ("https://h:8443/team", Some("https//h8443/")),
            ("https://h.example/team", None),
            ("https://h@evil/team", None),
            ("ssh://h/team", None),
            ("https://h/team/../other", None),
            ("https://h/team/%2E%2e/other", None),
            ("https://h/team/..%2fother", None),
            ("https://h/team?x=/../", None),
        ] {
            assert_eq!(user(url).as_deref(), wanted, "{url}");
        }
    }

    #[test]
    fn of_two_alike_the_jobs_own_which_is_asked_first_counts() {
        let (own, of_worker) = (secret("https://h/a", "own"), secret("https://h/a", "worker"));
        assert_eq!(find([&own, &of_worker], "https://h/a").unwrap().user.as_deref(), Some("own"));
    }

    #[test]
    fn a_line_is_read_to_its_end_and_what_is_wrong_is_said_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let read = |line: &str| Credential::parse(line, folder.path());
        let found = read("https://h/ user=ci secret= a =b c").unwrap();
        let Proof::Secret(found) = found.proof else { panic!("a secret") };
        assert!(found.matches(b" a =b c"));
        for bad in [
            "https://h/",
            "https://h/ secret=s3cret",
            "https://h/ user= secret=s3cret",
            "https://h/ user=a:b secret=s3cret",
            "https://me:s3cret@h/ user=a secret=s3cret",
            "h/a user=a secret=s3cret",
            "git://h/ user=a secret=s3cret",
            "ssh://h/ user=a secret=s3cret",
            "ssh://h/ key=s3cret",
            "https://h/ key=s3cret known_hosts=b",
            "https://h/ s3cret",
        ] {
            let error = read(bad).unwrap_err();
            assert!(!error.message().contains("s3cret"), "{bad}: {error}");
        }
    }

    #[test]
    fn gits_store_gets_what_a_url_can_hold() {
        let secret = Secret::new("p@ss/w:rd%é ".into());
        let stored = String::from_utf8(stored("https://h:1/a/b.c/", "a@b", &secret)).unwrap();
        let first = stored.lines().next().unwrap();
        assert_eq!(first, "https://a%40b:p%40ss%2Fw%3Ard%25%C3%A9%20@h:1/a/b.c");
        assert_eq!(stored.lines().nth(1).unwrap(), format!("{first}.git"));
    }
}
