//! Where PEM that the server starts from comes from, and how it is looked at again: files, variables, parameters of
//! SSM. What it means is `tls.rs`'s.

use std::{path::PathBuf, time::Duration};

use airunner_core::{Error, Label, Result, Secret};
use airunner_host::{Cloud, config::PemSource, environment_variable, key_file};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How much longer than usual a source that can't be read is left alone, at most.
const PATIENCE: u32 = 16;

/// Where one piece of PEM comes from.
#[derive(Clone, Debug)]
pub enum PemPlace {
    /// A file.
    File(PathBuf),
    /// What a variable held at the start: it can't change.
    Held(Secret),
    /// A parameter of SSM.
    Parameter(String),
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug)]
pub struct PemPair {
    /// Leaf and issuing CA.
    pub chain: PemPlace,
    /// The leaf's key.
    pub key: PemPlace,
    /// Opens the key, where it is encrypted.
    pub passphrase: Option<Secret>,
    /// AWS, where one of the two is there.
    pub cloud: Option<Cloud>,
    /// How often parameters are looked at.
    pub poll: Duration,
}

impl PemPlace {
    /// The place that a configuration names; a variable is read now.
    ///
    /// # Errors
    /// `config` for a variable that is not set.
    pub fn open(source: &PemSource) -> Result<Self> {
        match source {
            PemSource::File(path) => Ok(Self::File(path.clone())),
            PemSource::Parameter(name) => Ok(Self::Parameter(name.clone())),
            PemSource::Variable(name) => {
                let text = environment_variable(name)
                    .ok_or_else(|| Error::new(Label::Config, format!("{name} is not set")))?;
                if text.trim() == PLACEHOLDER {
                    let message = format!(
                        "the environment variable {name} holds the placeholder that Terraform made its parameter with: \
                         run `airunner-cli bootstrap`, which replaces it, and start anew"
                    );
                    return Err(Error::new(Label::Placeholder, message));
                }
                Ok(Self::Held(Secret::new(text.into_bytes())))
            }
        }
    }

    /// What is there now, in the clear.
    ///
    /// # Errors
    /// `not-found`, `file` for a file; `aws-missing`, `placeholder` and the like for a parameter.
    pub async fn read(&self, cloud: Option<&Cloud>) -> Result<Secret> {
        match self {
            Self::Held(pem) => Ok(pem.clone()),
            Self::File(path) => {
                let path = path.clone();
                let read =
                    move || std::fs::read(&path).map(Secret::new).map_err(|error| file_error(&path, error));
                tokio::task::spawn_blocking(read).await.map_err(Error::internal)?
            }
            Self::Parameter(name) => {
                let mut read = needed(cloud)?.read_parameters(&[name]).await?;
                read.pop().ok_or_else(|| Error::internal("a parameter was asked for"))
            }
        }
    }

    /// A key, which must be closed to others where it is a file.
    async fn read_key(&self, cloud: Option<&Cloud>) -> Result<Secret> {
        let Self::File(path) = self else { return self.read(cloud).await };
        let path = path.clone();
        tokio::task::spawn_blocking(move || key_file::read(&path)).await.map_err(Error::internal)?
    }
}

impl PemPair {
    /// Both as they are now; of one moment, where both are parameters.
    ///
    /// # Errors
    /// As [`PemPlace::read`]; `file` too for a key that is open to others.
    pub async fn read(&self) -> Result<(Vec<u8>, Secret)> {
        let cloud = self.cloud.as_ref();
        if let (PemPlace::Parameter(chain), PemPlace::Parameter(key)) = (&self.chain, &self.key) {
            let mut read = needed(cloud)?.read_parameters(&[chain, key]).await?.into_iter();
            let both = read.next().zip(read.next());
            let (chain, key) = both.ok_or_else(|| Error::internal("two parameters were asked for"))?;
            return Ok((chain.expose().to_vec(), key));
        }
        let chain = self.chain.read(cloud).await?;
        Ok((chain.expose().to_vec(), self.key.read_key(cloud).await?))
    }

    /// How long to wait before the next look, after as many `failures` in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        let is_remote = [&self.chain, &self.key].iter().any(|place| matches!(place, PemPlace::Parameter(_)));
        if is_remote { self.poll * 2_u32.saturating_pow(failures).min(PATIENCE) } else { LOOK }
    }
}

/// What Terraform makes parameters with, and so what a variable may hold that comes from one.
const PLACEHOLDER: &str = "placeholder";

fn needed(cloud: Option<&Cloud>) -> Result<&Cloud> {
    cloud.ok_or_else(|| Error::internal("a parameter of SSM needs AWS"))
}

fn file_error(path: &std::path::Path, error: std::io::Error) -> Error {
    let label = if error.kind() == std::io::ErrorKind::NotFound { Label::NotFound } else { Label::File };
    Error::new(label, format!("{} can't be read: {error}", path.display())).with_cause(error)
}
