//! What the router tells the handlers of a request.

use std::sync::Arc;

use airunner_app::authn::Caller;
use http::Extensions;

/// Who sent a request, as a connection extension that no header can set.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The request's id.
    pub request_id: Arc<str>,
    /// Where it came from.
    pub address: String,
    /// Who made it; none on the public listener.
    pub caller: Option<Caller>,
}

impl RequestContext {
    /// The context of a request; an empty one if it did not pass the router.
    pub fn of(extensions: &Extensions) -> Self {
        let nobody = || Self { request_id: "".into(), address: String::new(), caller: None };
        extensions.get().cloned().unwrap_or_else(nobody)
    }

    /// The request's id.
    pub fn id_of(extensions: &Extensions) -> Arc<str> {
        extensions.get::<Self>().map_or_else(|| "".into(), |context| context.request_id.clone())
    }
}
