//! The gRPC services: decode, call the use case, encode. No rule of its own stands here.

mod audit;
mod certificate;
mod convert;
mod enrollment;
mod event;
mod isolation;
mod issuer;
mod job;
mod principal;

use std::{pin::Pin, sync::Arc};

use airunner_app::{App, authn::Caller};
use airunner_core::{Error, Label};
use airunner_proto::{
    audit::v1::audit_service_server::AuditServiceServer,
    ca::v1::certificate_service_server::CertificateServiceServer,
    ca::v1::enrollment_service_server::EnrollmentServiceServer,
    ca::v1::issuer_service_server::IssuerServiceServer,
    job::v1::job_events_service_server::JobEventsServiceServer,
    job::v1::job_service_server::JobServiceServer,
    principal::v1::principal_service_server::PrincipalServiceServer,
};
use futures_core::Stream;
use prost::Message;
use tonic::{Request, Response, Status, codec::CompressionEncoding, service::Routes};

pub use audit::AuditApi;
pub use certificate::CertificateApi;
pub use enrollment::EnrollmentApi;
pub use event::EventsApi;
pub use issuer::IssuerApi;
pub use job::JobApi;
pub use principal::PrincipalApi;

use crate::{
    error::status,
    json::WORTH_PACKING,
    method::Methods,
    router::{MAX_MESSAGE, RequestContext},
};

/// What a client says that it can unpack.
pub(crate) const ACCEPTED_ENCODINGS: &str = "grpc-accept-encoding";

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

/// Every service of ours. A message is at most of one size, as it comes and unpacked: the library stops unpacking where
/// that is reached.
pub fn services(api: &Api) -> Routes {
    macro_rules! bounded {
        ($service:ident, $api:ident) => {
            $service::new($api(api.clone()))
                .max_decoding_message_size(MAX_MESSAGE)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
        };
    }
    Routes::new(bounded!(PrincipalServiceServer, PrincipalApi))
        .add_service(bounded!(CertificateServiceServer, CertificateApi))
        .add_service(bounded!(EnrollmentServiceServer, EnrollmentApi))
        .add_service(bounded!(IssuerServiceServer, IssuerApi))
        .add_service(bounded!(JobServiceServer, JobApi))
        .add_service(bounded!(JobEventsServiceServer, EventsApi))
        .add_service(bounded!(AuditServiceServer, AuditApi))
}

/// A request's message with who sent it.
struct Call<T> {
    caller: Caller,
    message: T,
    /// Whether its sender takes a packed answer.
    packs: bool,
}

/// Takes a request apart. The router has put the caller there, or the RPC would not have been reached.
fn call<T>(request: Request<T>) -> Result<Call<T>, Status> {
    let caller = request.extensions().get::<RequestContext>().and_then(|context| context.caller.clone());
    let caller = caller.ok_or_else(|| {
        let error = Error::new(Label::NoCertificate, "this call needs a client certificate");
        status(&error, "")
    })?;
    let packs = request.metadata().contains_key(ACCEPTED_ENCODINGS);
    Ok(Call { caller, message: request.into_inner(), packs })
}

impl<T> Call<T> {
    /// Turns a use case's answer into the RPC's.
    fn answer<R: Message>(&self, result: airunner_core::Result<R>) -> Result<Response<R>, Status> {
        let mut response = answer(self.caller.request_id(), result)?;
        if self.packs && response.get_ref().encoded_len() < WORTH_PACKING {
            response.disable_compression();
        }
        Ok(response)
    }

    /// Turns what a use case opened into a stream's source.
    fn opened<R>(&self, result: airunner_core::Result<R>) -> Result<R, Status> {
        result.map_err(|error| status(&error, self.caller.request_id()))
    }
}

fn answer<R>(request_id: &str, result: airunner_core::Result<R>) -> Result<Response<R>, Status> {
    result.map(Response::new).map_err(|error| status(&error, request_id))
}
