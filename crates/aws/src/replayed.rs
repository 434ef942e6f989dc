//! AWS's answers as a test says them, in place of a service: to see what throttling, silence, a wrong clock and refusals
//! come to. For tests.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;

use crate::{
    Aws,
    client::{retries, timeouts},
};

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A status, a body, and the date where it is not this moment.
    Says(u16, String, Option<&'static str>),
    /// None, for as long as anyone waits.
    Silence,
    /// The connection can't be made.
    Unreachable,
}

/// The answer of a service of the JSON protocol that refuses.
pub(crate) fn refusal(code: &str) -> Answer {
    Answer::Says(400, format!(r#"{{"__type":"{code}","message":"as the test says"}}"#), None)
}

/// The answer of such a service.
pub(crate) fn json(body: &str) -> Answer {
    Answer::Says(200, body.to_owned(), None)
}

/// What S3 says when it refuses.
pub(crate) fn s3_refusal(status: u16, code: &str) -> Answer {
    Answer::Says(
        status,
        format!("<Error><Code>{code}</Code><Message>as the test says</Message></Error>"),
        None,
    )
}

/// Services that give these answers one after another, and the last for ever. Retries and time-outs don't wait.
pub(crate) struct Replayed {
    pub(crate) aws: Aws,
    asked: Arc<AtomicUsize>,
}

impl Replayed {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let credentials = Credentials::new("test", "test", None, None, "tests");
        Self::with(answers, SharedCredentialsProvider::new(credentials))
    }

    /// With no credentials anywhere.
    pub(crate) fn without_credentials() -> Self {
        Self::with([json("{}")], SharedCredentialsProvider::new(NoCredentials))
    }

    fn with(answers: impl IntoIterator<Item = Answer>, credentials: SharedCredentialsProvider) -> Self {
        let answers: VecDeque<_> = answers.into_iter().collect();
        let is_silent = answers.iter().any(|answer| matches!(answer, Answer::Silence));
        let asked = Arc::new(AtomicUsize::new(0));
        let wire = Wire { answers: Arc::new(Mutex::new(answers)), asked: asked.clone() };
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-central-1"))
            .credentials_provider(credentials)
            .http_client(http_client_fn(move |_, _| SharedHttpConnector::new(wire.clone())))
            .sleep_impl(SharedAsyncSleep::new(Impatient { is_silent }))
            .retry_config(retries())
            .timeout_config(timeouts())
            .build();
        Self { aws: Aws::of(&sdk).unwrap(), asked }
    }

    /// How often a service was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

#[derive(Clone, Debug)]
struct Wire {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<AtomicUsize>,
}

impl HttpConnector for Wire {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        self.asked.fetch_add(1, SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        match answer.unwrap() {
            Answer::Says(status, body, date) => {
                let status = StatusCode::try_from(status).unwrap();
                let mut response = HttpResponse::new(status, SdkBody::from(body));
                if let Some(date) = date {
                    response.headers_mut().insert("date", date);
                }
                HttpConnectorFuture::ready(Ok(response))
            }
            Answer::Silence => HttpConnectorFuture::new(std::future::pending()),
            Answer::Unreachable => {
                let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                HttpConnectorFuture::ready(Err(ConnectorError::io(error.into())))
            }
        }
    }
}

/// Pauses between attempts are over at once; time-outs too, where nobody answers, and never otherwise.
#[derive(Debug)]
struct Impatient {
    is_silent: bool,
}

impl AsyncSleep for Impatient {
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration <= Duration::from_secs(2) || self.is_silent {
            return Sleep::new(std::future::ready(()));
        }
        Sleep::new(std::future::pending())
    }
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no provider has any")))
    }
}
