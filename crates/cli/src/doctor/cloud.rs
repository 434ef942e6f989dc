//! What of the environment is in AWS: whether a process with these credentials finds and may use it, part by part.

use airunner_host::{Cloud, Config, config::PemSource};

use super::{
    Findings,
    environment::{first_of_pem, server_certificate},
};
use crate::{context::Context, failure::Failure};

/// Looks at everything that the configuration names in AWS.
pub(crate) async fn examine(findings: &mut Findings, context: &Context, config: &Config) {
    let cloud = match Cloud::of(config).await {
        Ok(Some(cloud)) => cloud,
        Ok(None) => return,
        Err(error) => return findings.wrong("AWS", error.message(), error.label().remedy()),
    };
    for (part, found) in cloud.examine(config).await {
        match found {
            Ok(told) => findings.ok(part, told),
            Err(error) => findings.wrong(part, error.message(), error.label().remedy()),
        }
    }
    if let Some((PemSource::Parameter(name), _)) = config.tls().identity()
        && let Ok(mut read) = cloud.read_parameters(&[name]).await
        && let Some(pem) = read.pop()
    {
        let certificate: Result<_, Failure> = first_of_pem(pem.expose(), name);
        server_certificate(findings, context, certificate);
    }
}
