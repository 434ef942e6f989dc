//! No partition takes more than half of what DynamoDB gives one, at 5,000 issuances and 5,000 jobs a second: counted from
//! the keys that are written, in tables and in their indexes. The change feed has one partition: it takes denials alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use airunner_aws::tables::{CHANGES, Index, Projection, TABLES, Table};
use airunner_core::{
    AttemptOutcome, Completion, Exit, Issued, Job, Labels, LeaseRequest, PrincipalType, QueueName,
    QueueOrder, Stores,
};
use airunner_testkit::records;
use aws_sdk_dynamodb::{
    Client,
    config::{ConfigBag, Intercept, interceptors::BeforeSerializationInterceptorContextRef},
    error::BoxError,
    operation::{put_item::PutItemInput, transact_write_items::TransactWriteItemsInput},
    types::AttributeValue,
};

use crate::world::{NOW, Place, random};

/// Writes that one partition may take of 5,000 acts a second.
const LIMIT: u64 = 500;
const RATE: u64 = 5_000;

type Item = HashMap<String, AttributeValue>;

/// Counts the writes of each partition: of a row, and of each of its index entries that is added, moved or taken away.
#[derive(Clone, Debug, Default)]
struct Counter {
    writes: Arc<Mutex<BTreeMap<(String, String), u64>>>,
    /// The entries that a row has, by table and key.
    entries: Arc<Mutex<HashMap<String, Vec<Entry>>>>,
}

/// What an index holds of a row.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    partition: (String, String),
    content: Option<String>,
}

impl Counter {
    fn note(&self, name: &str, item: &Item) {
        let table = TABLES.iter().find(|table| name.ends_with(&format!("_test_{}", table.name))).unwrap();
        let hash = |attribute: &str| item.get(attribute).and_then(|value| value.as_s().ok()).cloned();
        let own = (table.name.to_owned(), hash(table.key.hash.name).unwrap());
        let entry = |index: &Index| {
            let range = index.key.range.map(|range| format!("{:?}", item.get(range.name)));
            let partition = (format!("{}.{}", table.name, index.name), hash(index.key.hash.name)?);
            // An entry that holds keys alone is written only where they change.
            let is_same = index.projection == Projection::KeysOnly;
            Some(Entry { partition, content: if is_same { range } else { Some(format!("{item:?}")) } })
        };
        let after: Vec<_> = table.indexes.iter().filter_map(entry).collect();
        let before = self.entries.lock().unwrap().insert(row(table, item), after.clone()).unwrap_or_default();
        let mut writes = self.writes.lock().unwrap();
        let new = after.iter().filter(|entry| !before.contains(entry));
        let gone =
            before.iter().filter(|entry| !after.iter().any(|other| other.partition == entry.partition));
        for written in [&own].into_iter().chain(new.chain(gone).map(|entry| &entry.partition)) {
            *writes.entry(written.clone()).or_default() += 1;
        }
    }

    /// The partition that `acts` acts wrote most, at [`RATE`] of them a second.
    fn hottest(&self, acts: u64) -> ((String, String), u64) {
        let writes = self.writes.lock().unwrap();
        let counted = writes.iter().filter(|((table, _), _)| table != CHANGES.name);
        let (key, count) = counted.max_by_key(|(_, count)| **count).unwrap();
        (key.clone(), count * RATE / acts)
    }

    fn forget(&self) {
        self.writes.lock().unwrap().clear();
    }
}

fn row(table: &Table, item: &Item) -> String {
    let parts = [Some(table.key.hash), table.key.range].into_iter().flatten();
    let parts: Vec<_> = parts.map(|attribute| format!("{:?}", item[attribute.name])).collect();
    format!("{} {}", table.name, parts.join(" "))
}

#[derive(Debug)]
struct Hook(Counter);

impl Intercept for Hook {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &aws_sdk_dynamodb::config::RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(input) = context.input().downcast_ref::<TransactWriteItemsInput>() {
            for put in input.transact_items().iter().filter_map(|item| item.put()) {
                self.0.note(put.table_name(), put.item());
            }
        }
        if let Some(input) = context.input().downcast_ref::<PutItemInput>() {
            self.0.note(input.table_name().unwrap_or_default(), input.item().unwrap());
        }
        Ok(())
    }
}

struct Counted {
    stores: Stores,
    counter: Counter,
    _place: Place,
}

impl Counted {
    async fn new() -> Self {
        let place = Place::new().await;
        let counter = Counter::default();
        let config = place.client.config().to_builder().interceptor(Hook(counter.clone())).build();
        let store = place.open_with(Client::from_conf(config));
        Self { stores: store.stores(), counter, _place: place }
    }

    async fn create(&self, id: &str, principal_type: PrincipalType) -> airunner_core::Principal {
        let audit = records::audit("principal.create", id, NOW);
        let mut principal = records::principal_of(id, principal_type);
        // With a limit, so that what serialises the beginnings of lineages is written and counted too.
        principal.max_certificates = 50;
        self.stores.principals.create_principal(principal, audit).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn issuing_heats_no_partition() {
    const ACTS: u64 = 640;
    let counted = Counted::new().await;
    let mut principals = Vec::new();
    for n in 0..32 {
        principals.push(counted.create(&format!("w{n}"), PrincipalType::Worker).await);
    }
    counted.counter.forget();
    for n in 0..ACTS {
        let principal = &principals[usize::try_from(n).unwrap() % principals.len()];
        let leaf = records::certificate(principal, NOW, random());
        let issued = counted.stores.certificates.record_issued(records::issuance(leaf)).await;
        assert_eq!(issued.unwrap(), Issued::New);
    }
    let (hottest, rate) = counted.counter.hottest(ACTS);
    assert!(rate <= LIMIT, "{hottest:?} takes {rate} writes a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_heat_no_partition() {
    const ACTS: u64 = 1_280;
    let counted = Counted::new().await;
    for n in 0..40 {
        counted.create(&format!("owner-{n}"), PrincipalType::User).await;
    }
    let mut workers = Vec::new();
    for n in 0..40 {
        workers.push(counted.create(&format!("w{n}"), PrincipalType::Worker).await.id);
    }
    counted.counter.forget();
    for n in 0..ACTS / 32 {
        let owner = format!("owner-{}", n % 40);
        let jobs: Vec<Job> = (0..32).map(|_| records::job(&owner, NOW, random())).collect();
        let audit = records::audit("job.enqueue", &owner, NOW);
        counted.stores.jobs.enqueue_jobs(jobs, None, audit).await.unwrap();
    }
    for worker in workers.iter().cycle() {
        let request = LeaseRequest {
            queues: vec![QueueName::default_queue()],
            order: QueueOrder::InTurn,
            turn: 0,
            labels: Labels::new(),
            holder: worker.clone(),
            worker: None,
            max: 16,
            now: NOW,
            deadline: NOW.plus(std::time::Duration::from_mins(5)),
        };
        let leased = counted.stores.jobs.lease_jobs(&request).await.unwrap();
        if leased.is_empty() {
            break;
        }
        let done = |job: &Job| Completion {
            job_id: job.id,
            attempt: job.attempt,
            outcome: AttemptOutcome::Exited(Exit::Code(0)),
            usage: None,
        };
        let completions: Vec<_> = leased.iter().map(done).collect();
        let results = counted.stores.jobs.complete_jobs(worker, &completions, NOW).await.unwrap();
        assert!(results.iter().all(Result::is_ok));
    }
    let (hottest, rate) = counted.counter.hottest(ACTS);
    assert!(rate <= LIMIT, "{hottest:?} takes {rate} writes a second");
}
