//! The folder of the local environment: which files it has, and where it is. What is in them is written by bootstrap.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use airunner_core::{Error, Label, Result};

use crate::{config::Environment, files};

/// The folder of a local environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

/// A certificate with its key, in a folder of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// The leaf, then what is above it but the root, PEM.
    pub cert: PathBuf,
    /// The private key, PKCS#8 in PEM.
    pub key: PathBuf,
}

impl PairFiles {
    /// A key that was made for a certificate that is not written yet.
    pub(crate) fn pending_key(&self) -> PathBuf {
        self.key.with_extension("pem.new")
    }
}

impl Home {
    /// The folder `path`, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where the local environment is by default: `$AIRUNNER_HOME`, else `$XDG_DATA_HOME/airunner/local`, else
    /// `~/.local/share/airunner/local`.
    ///
    /// # Errors
    /// `config` where none of the three variables (the last is `HOME`) is set.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        Self::default_of(Environment::Local, variable)
    }

    /// Where an environment is by default: as for the local one, with its own name in place of `local`.
    ///
    /// # Errors
    /// As [`Home::from_environment`].
    pub fn default_of(environment: Environment, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The XDG specification wants relative paths ignored.
        let data = || set("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let from_user = || set("HOME").map(|home| home.join(".local/share"));
        let folder =
            || data().or_else(from_user).map(|data| data.join("airunner").join(environment.as_str()));
        set("AIRUNNER_HOME").or_else(folder).map(Self).ok_or_else(|| {
            Error::new(Label::Config, "there is no home: set AIRUNNER_HOME to a folder for the environment")
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The server's configuration.
    pub fn server_toml(&self) -> PathBuf {
        self.0.join("server.toml")
    }

    /// The master key.
    pub fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// The roots, PEM.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// The issuing CAs, PEM.
    pub fn issuing(&self) -> PathBuf {
        self.0.join("issuing.pem")
    }

    /// The root's private key.
    pub fn ca_key(&self) -> PathBuf {
        self.0.join("ca-key.pem")
    }

    /// A root's private key whose CA is not in the store yet.
    pub(crate) fn pending_ca_key(&self) -> PathBuf {
        self.0.join("ca-key.pem.new")
    }

    /// The server's certificate and key.
    pub fn server(&self) -> PairFiles {
        self.pair("server")
    }

    /// The admin's certificate and key.
    pub fn admin(&self) -> PairFiles {
        self.pair("admin")
    }

    /// The folder of the admin's identity.
    pub fn admin_folder(&self) -> PathBuf {
        self.0.join("admin")
    }

    /// The roots, for the admin.
    pub fn admin_ca(&self) -> PathBuf {
        self.0.join("admin/ca.pem")
    }

    /// The admin's leaf, the issuing CA and the roots in one file.
    pub fn admin_bundle(&self) -> PathBuf {
        self.0.join("admin/bundle.pem")
    }

    fn pair(&self, folder: &str) -> PairFiles {
        PairFiles { cert: self.0.join(folder).join("cert.pem"), key: self.0.join(folder).join("key.pem") }
    }

    /// Makes the folder and those in it, closes them to others, and takes the lock that lets one bootstrap in at a
    /// time: it waits for another's end. The lock ends with the value, or with the process.
    ///
    /// # Errors
    /// `file` where the folder holds other things and is open to others, or can't be made.
    pub fn lock(&self) -> Result<HomeLock> {
        self.close_to_others()?;
        let failed = |error: std::io::Error| files::failure("can't be locked", &self.0, &error);
        let folder = File::open(&self.0).map_err(failed)?;
        folder.lock().map_err(failed)?;
        for inner in ["server", "admin"] {
            let inner = self.0.join(inner);
            files::create_private_folder(&inner)?;
            files::sweep(&inner);
        }
        files::sweep(&self.0);
        Ok(HomeLock { _folder: folder })
    }

    fn close_to_others(&self) -> Result<()> {
        files::create_private_folder(&self.0)?;
        let failed = |error: std::io::Error| files::failure("can't be read", &self.0, &error);
        let mode = fs::metadata(&self.0).map_err(failed)?.permissions().mode();
        let is_open = mode & 0o077 != 0;
        if !is_open {
            return Ok(());
        }
        let is_ours = self.master_key().exists() || self.server_toml().exists();
        if !is_ours && fs::read_dir(&self.0).map_err(failed)?.next().is_some() {
            let path = self.0.display();
            return Err(Error::new(
                Label::File,
                format!(
                    "{path} holds other things and is open to others: choose an empty folder, or run `chmod 700 {path}`"
                ),
            ));
        }
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).map_err(failed)
    }
}

/// While it lives, no other bootstrap works in the folder.
#[derive(Debug)]
pub struct HomeLock {
    _folder: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Home::default_of(Environment::Local, &variable).ok().map(|home| home.path().display().to_string())
    }

    #[test]
    fn the_home_is_the_first_that_is_set() {
        let all = [("AIRUNNER_HOME", "/a"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(found(&all).unwrap(), "/a");
        assert_eq!(found(&all[1..]).unwrap(), "/x/airunner/local");
        assert_eq!(found(&all[2..]).unwrap(), "/h/.local/share/airunner/local");
        assert_eq!(
            found(&[("AIRUNNER_HOME", ""), ("XDG_DATA_HOME", "x"), ("HOME", "/h")]).unwrap(),
            "/h/.local/share/airunner/local"
        );
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn the_folder_is_closed_to_others_but_not_where_it_is_somebody_s() {
        let outer = tempfile::tempdir().unwrap();
        let home = Home::at(outer.path().join("a/b"));
        drop(home.lock().unwrap());
        assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);

        let theirs = outer.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(theirs.join("letter"), "dear").unwrap();
        assert!(Home::at(&theirs).lock().unwrap_err().message().contains("chmod 700"));

        fs::remove_file(theirs.join("letter")).unwrap();
        assert!(Home::at(&theirs).lock().is_ok());
    }

    #[test]
    fn one_at_a_time_holds_the_lock() {
        let outer = tempfile::tempdir().unwrap();
        let home = Home::at(outer.path().join("home"));
        let held = home.lock().unwrap();
        let other = File::open(home.path()).unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        assert!(other.try_lock().is_ok());
    }
}
