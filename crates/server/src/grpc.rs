//! The gRPC services: decode, call the use case, encode. No rule of its own stands here.

mod audit;
mod certificate;
mod convert;
mod enrollment;
mod event;
mod issuer;
mod job;
mod principal;

use std::{pin::Pin, sync::Arc};

use airunner_app::{App, authn::Caller};
use airunner_core::{Error, Label};
use futures_core::Stream;
use tonic::{Request, Response, Status};

pub use audit::AuditApi;
pub use certificate::CertificateApi;
pub use enrollment::EnrollmentApi;
pub use event::EventsApi;
pub use issuer::IssuerApi;
pub use job::JobApi;
pub use principal::PrincipalApi;

use crate::{error::status, method::Methods, router::RequestContext};

/// What a server stream is sent as.
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What every service works with.
#[derive(Clone)]
pub struct Api {
    /// The use cases.
    pub app: Arc<App>,
    /// What each RPC declares of itself.
    pub methods: Arc<Methods>,
}

/// A request's message with who sent it.
struct Call<T> {
    caller: Caller,
    message: T,
}

/// Takes a request apart. The router has put the caller there, or the RPC would not have been reached.
fn call<T>(request: Request<T>) -> Result<Call<T>, Status> {
    let caller = request.extensions().get::<RequestContext>().and_then(|context| context.caller.clone());
    let caller = caller.ok_or_else(|| {
        let error = Error::new(Label::NoCertificate, "this call needs a client certificate");
        status(&error, "")
    })?;
    Ok(Call { caller, message: request.into_inner() })
}

impl<T> Call<T> {
    /// Turns a use case's answer into the RPC's.
    fn answer<R>(&self, result: airunner_core::Result<R>) -> Result<Response<R>, Status> {
        answer(self.caller.request_id(), result)
    }
}

fn answer<R>(request_id: &str, result: airunner_core::Result<R>) -> Result<Response<R>, Status> {
    result.map(Response::new).map_err(|error| status(&error, request_id))
}
