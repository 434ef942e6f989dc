//! What intents ask of DynamoDB: requests and bytes, counted where the SDK sends them. An intent runs on a thread of its
//! own from its start to its end, and so do its requests as far as the SDK's own steps go.

use std::cell::Cell;

use airunner_core::{Intent, StoreMeasures};
use aws_sdk_dynamodb::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
    },
    error::BoxError,
};

thread_local! {
    /// Requests, bytes sent, bytes received by the intent that runs on this thread.
    static TRAFFIC: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
}

/// The client, with its requests counted.
pub(super) fn counted(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().interceptor(Counting).build())
}

/// Runs an intent and notes what it asked for.
pub(super) fn noted<T>(measures: &StoreMeasures, intent: Intent, act: impl FnOnce() -> T) -> T {
    TRAFFIC.set((0, 0, 0));
    let result = act();
    let (requests, sent, received) = TRAFFIC.get();
    measures.traffic(intent).add(requests, sent, received);
    result
}

#[derive(Debug)]
struct Counting;

impl Intercept for Counting {
    fn name(&self) -> &'static str {
        "traffic"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let bytes = context.request().body().bytes().map_or(0, |bytes| bytes.len() as u64);
        let (requests, sent, received) = TRAFFIC.get();
        TRAFFIC.set((requests + 1, sent + bytes, received));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let length =
            context.response().headers().get("content-length").and_then(|length| length.parse().ok());
        let (requests, sent, received) = TRAFFIC.get();
        TRAFFIC.set((requests, sent, received + length.unwrap_or(0)));
        Ok(())
    }
}
