//! `[aws]`: where AWS is. Who may do what there is between the credentials, which the SDK finds, and IAM.

use airunner_core::Result;

use super::source::{FlagSetting, Source};

/// Where AWS is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsConfig {
    region: Option<String>,
    endpoint: Option<String>,
}

impl AwsConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        let region = source.text("aws.region")?.map(str::to_owned);
        let is_region = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if let Some(region) = region.as_deref().filter(|region| !is_region(region)) {
            return Err(
                source.refuse("aws.region", format!("is {region:?}, and must be a region as eu-central-1"))
            );
        }
        let endpoint = source.text("aws.endpoint")?.map(str::to_owned);
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if let Some(endpoint) = endpoint.as_deref().filter(|endpoint| !is_url(endpoint)) {
            return Err(source.refuse(
                "aws.endpoint",
                format!("is {endpoint:?}, and must be an URL as https://host:port"),
            ));
        }
        Ok(Self { region, endpoint })
    }

    /// Where AWS is, as flags and variables say it, before there is a configuration.
    ///
    /// # Errors
    /// `config`.
    pub fn given(variable: &dyn Fn(&str) -> Option<String>, flags: &[FlagSetting]) -> Result<Self> {
        Self::validate(&Source::new(None, variable, flags)?)
    }

    /// The region; the SDK's own configuration says it where it is not set.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Where every service answers, in place of AWS.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }
}
