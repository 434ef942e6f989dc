//! Secret variables of jobs: sealed from the moment when they came to the one when the lease holder gets them.

use std::{collections::BTreeMap, fmt};

use airunner_core::{Error, JobId, JobSecrets, KeyPurpose, Label, Result, Secret};

use crate::{
    context::Context,
    seal::{Place, Sealer},
};

/// Variables with values that are not to be seen.
#[derive(Clone, Default)]
pub struct SecretEnvironment(BTreeMap<String, Secret>);

impl SecretEnvironment {
    /// Of these variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name, Secret::new(value.into_bytes()))).collect())
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The variables, for the one message that takes them to whoever runs the job.
    pub fn expose(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(value.expose()).into_owned()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Secret)> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sealed for the job; none where there are none.
    ///
    /// # Errors
    /// `config` where the environment has no key for it yet.
    pub(super) fn seal(&self, context: &Context, id: &JobId) -> Result<Option<JobSecrets>> {
        if self.is_empty() {
            return Ok(None);
        }
        if !context.sealer.can_seal(KeyPurpose::JobSecret) {
            return Err(Error::new(
                Label::Config,
                "this environment has no key yet to seal secrets of jobs with: run `airunner-cli bootstrap` again, and \
                 restart the servers",
            )
            .with_field("secret_environment"));
        }
        let values = joined(self.0.values().map(Secret::expose));
        let row = id.to_string();
        let sealed = context.sealer.seal(KeyPurpose::JobSecret, place(&row), &values, &*context.random)?;
        Ok(Some(JobSecrets { names: self.0.keys().cloned().collect(), sealed }))
    }

    /// What was sealed for the job.
    ///
    /// # Errors
    /// `seal-broken`.
    pub(super) fn open(sealer: &Sealer, id: &JobId, secrets: Option<&JobSecrets>) -> Result<Self> {
        let Some(JobSecrets { names, sealed }) = secrets else { return Ok(Self::default()) };
        let row = id.to_string();
        let opened = sealer.open_sealed(KeyPurpose::JobSecret, place(&row), sealed)?;
        let values = parted(opened.expose()).filter(|values| values.len() == names.len());
        let values =
            values.ok_or_else(|| Error::internal("sealed variables and their names differ in number"))?;
        Ok(Self(names.iter().cloned().zip(values).collect()))
    }
}

impl fmt::Debug for SecretEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

fn place(row: &str) -> Place<'_> {
    Place { table: "jobs", row, field: "secret_environment" }
}

/// Each value after its length.
fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Secret {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
        bytes.extend_from_slice(value);
    }
    Secret::new(bytes)
}

fn parted(mut bytes: &[u8]) -> Option<Vec<Secret>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
        values.push(Secret::new(value.to_vec()));
        bytes = rest;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parted_as_they_were_joined() {
        let values: [&[u8]; 4] = [b"", b"a", &[0; 300], b"\n"];
        let joined = joined(values.into_iter());
        let parts = parted(joined.expose()).unwrap();
        assert_eq!(parts.len(), values.len());
        assert!(parts.iter().zip(values).all(|(part, value)| part.matches(value)));
        assert!(parted(&joined.expose()[1..]).is_none());
    }

    #[test]
    fn what_is_printed_of_them_is_their_names() {
        let secrets = SecretEnvironment::new([("TOKEN".to_owned(), "hunter2".to_owned())]);
        assert_eq!(format!("{secrets:?}"), "{\"TOKEN\"}");
    }
}
