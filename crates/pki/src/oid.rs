//! The arc of the private extensions.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use std::str::FromStr;

use airunner_core::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidArc;
impl Default for OidArc {
    fn default() -> Self {
        todo!()
    }
}
impl FromStr for OidArc {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        todo!()
    }
}
impl std::fmt::Display for OidArc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
