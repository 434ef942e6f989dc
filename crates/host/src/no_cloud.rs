//! A build without AWS: what would open something there says so.

use std::sync::Arc;

use airunner_app::issuer::OutsideKeys;
use airunner_core::{Error, KeyAlgorithm, KeyWrap, Label, OutputStore, Result, Secret, SecureRandom, Stores};

use crate::{
    Config,
    cloud_parts::{FoundParameter, HeldKey, HeldSigner, Missing, UploadValue},
    config::AwsConfig,
};

/// AWS, which this build can't: there is no such value.
#[derive(Clone, Debug)]
pub enum Cloud {}

#[expect(clippy::unused_async, reason = "it stands in for what awaits")]
impl Cloud {
    /// Connects to nothing.
    ///
    /// # Errors
    /// `config`.
    pub async fn connect(_: &AwsConfig) -> Result<Self> {
        Err(Error::new(
            Label::Config,
            "the configuration names something in AWS, and this build is without: build with the feature aws",
        ))
    }

    /// None, where nothing of what `config` names is in AWS.
    ///
    /// # Errors
    /// As [`Cloud::connect`].
    pub async fn of(config: &Config) -> Result<Option<Self>> {
        if config.uses_aws() { Self::connect(config.aws()).await.map(Some) } else { Ok(None) }
    }

    pub(crate) fn region(&self) -> &str {
        match *self {}
    }

    /// There is no clock to hold against.
    pub fn check_clock(&self) -> Result<()> {
        match *self {}
    }

    /// There are no parameters.
    pub async fn read_parameters(&self, _: &[&str]) -> Result<Vec<Secret>> {
        match *self {}
    }

    /// There is nothing to look at.
    pub async fn examine(&self, _: &Config) -> Vec<(&'static str, Result<String>)> {
        match *self {}
    }

    pub(crate) async fn key_wrap(&self, _: &str) -> Result<Arc<dyn KeyWrap>> {
        match *self {}
    }

    pub(crate) async fn signer(&self, _: &str) -> Result<HeldSigner> {
        match *self {}
    }

    pub(crate) async fn outside_keys(&self, _: &Config) -> Result<OutsideKeys> {
        match *self {}
    }

    pub(crate) async fn output(&self, _: &Config) -> Result<Arc<dyn OutputStore>> {
        match *self {}
    }

    pub(crate) async fn stores(&self, _: &Config, _: Arc<dyn SecureRandom>) -> Result<Stores> {
        match *self {}
    }

    pub(crate) async fn ensure_key(&self, _: &str, _: HeldKey, _: Missing) -> Result<bool> {
        match *self {}
    }

    pub(crate) async fn replace_key(&self, _: &str, _: KeyAlgorithm) -> Result<HeldSigner> {
        match *self {}
    }

    pub(crate) async fn ensure_bucket(&self, _: &Config, _: Missing) -> Result<(String, bool)> {
        match *self {}
    }

    pub(crate) async fn ensure_tables(&self, _: &Config, _: Missing) -> Result<bool> {
        match *self {}
    }

    pub(crate) async fn find_parameters(&self, _: &[&str]) -> Result<Vec<FoundParameter>> {
        match *self {}
    }

    pub(crate) async fn put_parameter(&self, _: &str, _: &UploadValue, _: bool) -> Result<()> {
        match *self {}
    }

    pub(crate) fn missing_parameter(&self, _: &str) -> Error {
        match *self {}
    }

    pub(crate) async fn find_secret(&self, _: &str, _: bool) -> Result<FoundParameter> {
        match *self {}
    }

    pub(crate) async fn put_secret(&self, _: &str, _: &Secret, _: bool) -> Result<()> {
        match *self {}
    }

    pub(crate) fn missing_secret(&self, _: &str) -> Error {
        match *self {}
    }
}
