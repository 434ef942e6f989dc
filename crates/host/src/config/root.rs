//! `[root]`: where the root's key is, and whether servers may use it.

use airunner_core::Result;

use super::source::Source;

/// Where the root's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootPlace {
    /// `ca-key.pem` in the folder of whoever bootstrapped, or wherever that was taken since.
    File,
    /// A KMS key of this name, mostly an alias.
    Kms(String),
    /// A secret of Secrets Manager.
    Secret(String),
}

/// The root.
#[derive(Clone, Debug)]
pub struct RootConfig {
    online: bool,
    place: RootPlace,
}

impl RootConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        let online = source.boolean("root.online")?.unwrap_or(false);
        let place = match (source.text("root.kms_key")?, source.text("root.secret")?) {
            (Some(_), Some(_)) => {
                return Err(
                    source.refuse("root.secret", "and root.kms_key are both set: the root has one key")
                );
            }
            (Some(name), None) => {
                super::master_key::check_kms_name(source, "root.kms_key", name)?;
                RootPlace::Kms(name.to_owned())
            }
            (None, Some("")) => return Err(source.refuse("root.secret", "is empty: name a secret")),
            (None, Some(name)) => RootPlace::Secret(name.to_owned()),
            (None, None) => RootPlace::File,
        };
        if online && !matches!(place, RootPlace::Kms(_)) {
            return Err(source.refuse(
                "root.online",
                "is true, and only a root in KMS may be used by servers: set root.kms_key, or leave it offline",
            ));
        }
        Ok(Self { online, place })
    }

    /// Whether servers may sign with the root's key.
    pub fn online(&self) -> bool {
        self.online
    }

    /// Where the key is.
    pub fn place(&self) -> &RootPlace {
        &self.place
    }
}
