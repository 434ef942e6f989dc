//! Step 5: what servers start from is put where they look for it, in parameters of SSM. A placeholder that Terraform
//! made is replaced; a parameter that is missing is made only with `--create`.

use std::time::Duration;

use airunner_app::App;
use airunner_core::{Error, Label, Result, Secret};

use super::{
    Credentials, Outcome, UPLOAD, Work,
    pair::{self, Found},
};
use crate::{
    Cloud,
    cloud_parts::{FoundParameter, UploadValue},
    config::PemSource,
};

/// How often certificate and key are looked at where another bootstrap writes its own in between.
const LOOKS: u32 = 8;
/// How long it is waited between two looks, at most; each waits for a time of its own.
const PAUSE_MS: u64 = 1_000;

/// The parameters that servers read.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a> {
    cloud: &'a Cloud,
    cert: &'a str,
    key: &'a str,
    ca: Option<&'a str>,
}

impl<'a> Work<'a> {
    /// The parameters of SSM that the configuration has servers read, if it does.
    pub(super) fn parameters(&self) -> Option<Parameters<'a>> {
        let tls = self.ground.config.tls();
        let (Some(PemSource::Parameter(cert)), Some(PemSource::Parameter(key))) = tls.identity().unzip()
        else {
            return None;
        };
        let ca = match tls.ca() {
            Some(PemSource::Parameter(ca)) => Some(ca.as_str()),
            _ => None,
        };
        Some(Parameters { cloud: self.ground.cloud?, cert, key, ca })
    }

    /// The server's certificate and key, as they stand in the parameters.
    pub(super) async fn read_parameters(&self) -> Result<Found> {
        let Some(Parameters { cloud, cert, key, .. }) = self.parameters() else { return Ok(Found::Nothing) };
        let mut found = cloud.find_parameters(&[cert, key]).await?.into_iter();
        match (found.next(), found.next()) {
            (Some(FoundParameter::Value(cert)), Some(FoundParameter::Value(key))) => {
                Ok(pair::of_pem(cert.expose(), &key, self.ground.config.ca().oid_arc()))
            }
            (Some(FoundParameter::Value(_)), _) | (_, Some(FoundParameter::Value(_))) => Ok(Found::Parts),
            _ => Ok(Found::Nothing),
        }
    }

    pub(super) async fn upload(&mut self, app: &App, server: &Credentials) -> Result<()> {
        let Some(parameters) = self.parameters() else {
            return self.report(UPLOAD, Outcome::NotNeeded, "this environment is in files");
        };
        let roots = app.issuers().current().bundle().roots_pem.clone();
        let mut told = Vec::new();
        let mut all_found = true;
        let mut note = |name: &str, outcome: Outcome| {
            all_found &= outcome == Outcome::Found;
            told.push(format!("{name} {outcome}"));
        };
        if let Some(ca) = parameters.ca {
            let value = UploadValue::Plain(Secret::new(roots.into_bytes()));
            note(ca, self.put(parameters.cloud, ca, &value).await?);
        }
        let (cert, key) = self.put_pair(parameters, server).await?;
        note(parameters.cert, cert);
        note(parameters.key, key);
        let outcome = if all_found { Outcome::Found } else { Outcome::Uploaded };
        self.report(UPLOAD, outcome, told.join(", "))
    }

    /// Puts certificate and key. Two that do so at once may leave one's key and the other's certificate: then one of them
    /// does it again.
    async fn put_pair(&self, parameters: Parameters<'_>, server: &Credentials) -> Result<(Outcome, Outcome)> {
        let cloud = parameters.cloud;
        let key = UploadValue::Secure(server.key.to_pem(None)?);
        let cert = UploadValue::Plain(Secret::new(pair::chain_pem(&server.chain).into_bytes()));
        let mut looks = 1;
        loop {
            // A server that looks in between finds a pair that does not match, and keeps what it has.
            let put_key = self.put(cloud, parameters.key, &key).await?;
            let put_cert = self.put(cloud, parameters.cert, &cert).await?;
            while matches!(self.read_parameters().await?, Found::Parts) && looks < LOOKS {
                looks += 1;
                self.pause().await;
                // Whoever waits longer finds it mended.
                if matches!(self.read_parameters().await?, Found::Parts) {
                    break;
                }
            }
            if looks == LOOKS || !matches!(self.read_parameters().await?, Found::Parts) {
                return Ok((put_cert, put_key));
            }
        }
    }

    async fn pause(&self) {
        let millis = u64::from_be_bytes(self.ground.random.array()) % PAUSE_MS;
        self.ground.clock.sleep(Duration::from_millis(millis)).await;
    }

    async fn put(&self, cloud: &Cloud, name: &str, value: &UploadValue) -> Result<Outcome> {
        let (UploadValue::Plain(wanted) | UploadValue::Secure(wanted)) = value;
        match cloud.find_parameters(&[name]).await?.into_iter().next() {
            Some(FoundParameter::Value(found)) if found.matches(wanted.expose()) => Ok(Outcome::Found),
            Some(FoundParameter::Value(_) | FoundParameter::Placeholder) => {
                cloud.put_parameter(name, value, false).await?;
                Ok(Outcome::Replaced)
            }
            _ if !self.plan.create => Err(cloud.missing_parameter(name)),
            _ => {
                cloud.put_parameter(name, value, true).await?;
                Ok(Outcome::Made)
            }
        }
    }

    /// The server's pair as servers will read it.
    pub(super) async fn uploaded(&self) -> Result<Credentials> {
        for _ in 1..LOOKS {
            if let Found::Pair(pair) = self.read_parameters().await? {
                return Ok(pair);
            }
            self.pause().await;
        }
        match self.read_parameters().await? {
            Found::Pair(pair) => Ok(pair),
            Found::Nothing | Found::Parts => Err(Error::new(
                Label::File,
                "the server's certificate and key in SSM don't belong together: another bootstrap writes them at the \
                 same time; run this one again",
            )),
        }
    }
}
