//! What DynamoDB answers when it is not well: injected between the wire and the SDK, so that what reads the answers is
//! the SDK itself.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use airunner_aws::DynamoStore;
use airunner_core::{Label, PrincipalType, Stores};
use airunner_testkit::records;
use aws_sdk_dynamodb::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut},
    },
    error::BoxError,
};

use aws_smithy_types::body::SdkBody;

use crate::world::{NOW, Place, random};

/// What is answered in place of DynamoDB.
#[derive(Clone, Copy, Debug)]
enum Instead {
    Throttled,
    Conflict,
    Broken,
}

impl Instead {
    fn answer(self) -> (u16, String) {
        let typed =
            |name: &str| format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{name}","message":"x"}}"#);
        match self {
            Self::Throttled => (400, typed("ProvisionedThroughputExceededException")),
            Self::Conflict => (400, typed("TransactionConflictException")),
            Self::Broken => (500, typed("InternalServerError")),
        }
    }
}

/// Spoils answers to one operation.
#[derive(Clone, Debug, Default)]
struct Spoiler {
    plan: Arc<Mutex<Option<(&'static str, Instead)>>>,
    /// Answers that are still to be spoilt.
    left: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
    is_target: Arc<AtomicBool>,
    /// Keys that a batch is told to ask for again.
    leave_out: Arc<AtomicBool>,
    body: Arc<Mutex<String>>,
}

impl Spoiler {
    fn spoil(&self, operation: &'static str, times: u32, instead: Instead) {
        *self.plan.lock().unwrap() = Some((operation, instead));
        self.left.store(times, Ordering::SeqCst);
        self.asked.store(0, Ordering::SeqCst);
    }

    fn heal(&self) {
        self.left.store(0, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Hook(Spoiler);

impl Intercept for Hook {
    fn name(&self) -> &'static str {
        "spoiler"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let plan = *self.0.plan.lock().unwrap();
        let is_target = plan.is_some_and(|(operation, _)| target.ends_with(operation));
        self.0.is_target.store(is_target, Ordering::SeqCst);
        if is_target {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            if self.0.left.load(Ordering::SeqCst) > 0 {
                // What is refused is not done: something else is asked in its place.
                request.headers_mut().insert("x-amz-target", "DynamoDB_20120810.ListTables");
            }
        }
        if target.ends_with("BatchGetItem") {
            let body = request.body().bytes().unwrap_or_default();
            *self.0.body.lock().unwrap() = String::from_utf8_lossy(body).into_owned();
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = std::mem::take(&mut *self.0.body.lock().unwrap());
        if !body.is_empty() && self.0.leave_out.swap(false, Ordering::SeqCst) {
            let asked: serde_json::Value = serde_json::from_str(&body)?;
            let answer = serde_json::json!({"Responses": {}, "UnprocessedKeys": asked["RequestItems"]});
            *context.response_mut().body_mut() = SdkBody::from(answer.to_string());
            return Ok(());
        }
        let is_spoilt = self.0.is_target.load(Ordering::SeqCst)
            && self
                .0
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        if let (true, Some((_, instead))) = (is_spoilt, *self.0.plan.lock().unwrap()) {
            let (status, body) = instead.answer();
            let response = context.response_mut();
            *response.status_mut() = status.try_into()?;
            *response.body_mut() = SdkBody::from(body);
        }
        Ok(())
    }
}

/// A store whose answers can be spoilt. Its intents run one at a time.
struct Ill {
    store: DynamoStore,
    spoiler: Spoiler,
    _place: Place,
}

impl Ill {
    async fn new() -> Self {
        let place = Place::new().await;
        let spoiler = Spoiler::default();
        let config = place.client.config().to_builder().interceptor(Hook(spoiler.clone())).build();
        let store = place.open_with(Client::from_conf(config));
        Self { store, spoiler, _place: place }
    }

    fn stores(&self) -> Stores {
        self.store.stores()
    }

    async fn create(&self, id: &str) -> airunner_core::Result<airunner_core::Principal> {
        let audit = records::audit("principal.create", id, NOW);
        let principal = records::principal_of(id, PrincipalType::Worker);
        self.stores().principals.create_principal(principal, audit).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_is_slowed_down_is_tried_again_until_it_goes_through() {
    let ill = Ill::new().await;
    ill.spoiler.spoil("TransactWriteItems", 7, Instead::Throttled);
    ill.create("w1").await.unwrap();
    assert!(ill.spoiler.asked.load(Ordering::SeqCst) > 7);
    assert!(ill.stores().principals.get_principal(&records::id("w1")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_meets_another_transaction_decides_again() {
    let ill = Ill::new().await;
    ill.spoiler.spoil("TransactWriteItems", 3, Instead::Conflict);
    ill.create("w1").await.unwrap();
    let again = ill.create("w1").await.unwrap_err();
    assert_eq!(again.label(), Label::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_leaves_out_is_asked_for_again() {
    let ill = Ill::new().await;
    let owner = ill.create("w1").await.unwrap();
    let job = records::job("w1", NOW, random());
    let audit = records::audit("job.enqueue", owner.id.as_str(), NOW);
    ill.stores().jobs.enqueue_jobs(vec![job.clone()], None, audit).await.unwrap();
    ill.spoiler.leave_out.store(true, Ordering::SeqCst);
    let filter = airunner_core::JobFilter::default();
    let page = airunner_core::PageRequest::first(10);
    let listed = ill.stores().jobs.list_jobs(&filter, &page).await.unwrap();
    let ids: Vec<_> = listed.items.iter().map(|listed| listed.id).collect();
    assert_eq!(ids, [job.id]);
    assert!(!ill.spoiler.leave_out.load(Ordering::SeqCst), "no batch was left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_answer_is_refused_at_once_until_it_answers_again() {
    let ill = Ill::new().await;
    ill.create("w1").await.unwrap();
    let get = async || ill.stores().principals.get_principal(&records::id("w1")).await;
    ill.spoiler.spoil("GetItem", u32::MAX, Instead::Broken);
    while ill.stores().measures.unanswering().is_empty() {
        assert_eq!(get().await.unwrap_err().label(), Label::StoreUnavailable);
    }
    assert_eq!(ill.stores().measures.unanswering(), ["principals"]);
    ill.spoiler.asked.store(0, Ordering::SeqCst);
    let refused = get().await.unwrap_err();
    assert_eq!(refused.label(), Label::StoreUnavailable);
    assert!(refused.retry_after().is_some() && refused.message().contains("principals"), "{refused}");
    assert_eq!(ill.spoiler.asked.load(Ordering::SeqCst), 0, "a table that does not answer was asked");
    ill.spoiler.heal();
    let recovered = async {
        while get().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), recovered).await.expect("it answers again");
    assert!(ill.stores().measures.unanswering().is_empty());
}
