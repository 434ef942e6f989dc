//! What the SQLite store does in a second, beside bare inserts in groups of the same size on the same disk.
//!
//! `cargo bench -p airunner-store`. An element is one issuance, one revocation, one job.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{
    cell::Cell,
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use airunner_core::{
    AttemptOutcome, CertificateRef, Completion, Exit, Issuance, Issued, Labels, LeaseRequest, OutputChunk,
    OutputStream, Principal, QueueOrder, RevocationReason, RevocationTarget, Sequence, Stores, Timestamp,
};
use airunner_store::{SqliteOptions, SqliteStore};
use airunner_testkit::{
    clock::FakeClock,
    random::SeededRandom,
    records::{self, audit},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

const NOW: Timestamp = FakeClock::START;
/// Principals that certificates are issued to.
const HOLDERS: usize = 1_000;
/// Jobs of a batch.
const BATCH: u64 = 64;

criterion_group! {
    name = store;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(6));
    targets = bare_inserts, issue, issue_with_requests, renew, revoke, jobs, output
}
criterion_main!(store);

/// A store on a disk, with principals in it.
struct Bench {
    runtime: Runtime,
    stores: Stores,
    holders: Vec<Principal>,
    random: SeededRandom,
    issued: Cell<u64>,
    _store: SqliteStore,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(dir.path().join("store.db"), dir.path().join("output"));
        let store = SqliteStore::open(options).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let stores = store.stores();
        let holders = runtime.block_on(async {
            let mut creating = JoinSet::new();
            for n in 0..HOLDERS {
                let stores = stores.clone();
                let holder =
                    Principal { max_certificates: 0, ..records::principal(&format!("holder-{n:04}")) };
                creating.spawn(async move {
                    let entry = audit("principal.create", "x", NOW);
                    stores.principals.create_principal(holder, entry).await.unwrap()
                });
            }
            creating.join_all().await
        });
        Self {
            runtime,
            stores,
            holders,
            random: SeededRandom::new(1),
            issued: Cell::default(),
            _store: store,
            _dir: dir,
        }
    }

    /// Issuances for as many principals, one after the other.
    fn issuances(&self, count: u64) -> Vec<Issuance> {
        let holders = self.holders.iter().cycle().take(usize::try_from(count).unwrap());
        holders
            .map(|holder| records::issuance(records::certificate(holder, self.later(), &self.random)))
            .collect()
    }

    /// Time goes on while certificates are issued, and ids with it: 10 a millisecond.
    fn later(&self) -> Timestamp {
        self.issued.update(|issued| issued + 1);
        NOW.plus(Duration::from_micros(100 * self.issued.get()))
    }

    /// Has `callers` tasks work off `work`, each one piece after the other; how long that took.
    fn share_out<W, F>(
        &self,
        callers: usize,
        work: Vec<W>,
        act: impl Fn(Stores, W) -> F + Clone + Send + 'static,
    ) -> Duration
    where
        W: Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let work = Arc::new(Mutex::new(work.into_iter()));
        self.runtime.block_on(async {
            let begin = now();
            let mut tasks = JoinSet::new();
            for _ in 0..callers {
                let (stores, work, act) = (self.stores.clone(), work.clone(), act.clone());
                tasks.spawn(async move {
                    loop {
                        let next = work.lock().unwrap().next();
                        let Some(piece) = next else { break };
                        act(stores.clone(), piece).await;
                    }
                });
            }
            tasks.join_all().await;
            begin.elapsed()
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is a measurement")]
fn now() -> Instant {
    Instant::now()
}

async fn record(stores: Stores, issuance: Issuance) {
    assert_eq!(stores.certificates.record_issued(issuance).await.unwrap(), Issued::New);
}

/// The floor: rows of the same size, into a table with one index, in transactions of as many.
fn bare_inserts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bare_inserts");
    group.throughput(Throughput::Elements(1));
    for size in [1, 16, 64] {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("bare.db")).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
        connection.pragma_update(None, "synchronous", "full").unwrap();
        let table = "CREATE TABLE t (number INTEGER PRIMARY KEY, serial TEXT NOT NULL UNIQUE, der BLOB NOT NULL) STRICT";
        connection.execute_batch(table).unwrap();
        let mut serial = 0_u64;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|rows| {
                let begin = now();
                let mut left = rows;
                while left > 0 {
                    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                    let mut insert =
                        connection.prepare_cached("INSERT INTO t (serial, der) VALUES (?1, ?2)").unwrap();
                    for _ in 0..left.min(size) {
                        serial += 1;
                        insert.execute((format!("{serial:032x}"), [7_u8; 1_000])).unwrap();
                    }
                    drop(insert);
                    connection.execute_batch("COMMIT").unwrap();
                    left -= left.min(size);
                }
                begin.elapsed()
            });
        });
    }
}

fn issue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("issue");
    group.throughput(Throughput::Elements(1));
    for callers in [1, 16, 64] {
        let bench = Bench::new();
        group.bench_function(BenchmarkId::from_parameter(callers), |bencher| {
            bencher.iter_custom(|count| bench.share_out(callers, bench.issuances(count), record));
        });
    }
}

fn issue_with_requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("issue_with_requests");
    group.throughput(Throughput::Elements(1));
    let bench = Bench::new();
    let mut number = 0_u64;
    group.bench_function(BenchmarkId::from_parameter(64), |bencher| {
        bencher.iter_custom(|count| {
            let mut issuances = bench.issuances(count);
            for issuance in &mut issuances {
                number += 1;
                issuance.request = Some(records::request("admin-1", &format!("r{number}"), "content"));
            }
            bench.share_out(64, issuances, record)
        });
    });
}

fn renew(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("renew");
    group.throughput(Throughput::Elements(1));
    let bench = Bench::new();
    group.bench_function(BenchmarkId::from_parameter(64), |bencher| {
        bencher.iter_custom(|count| {
            let first = bench.issuances(count);
            let renew = |issuance: &Issuance| {
                let predecessor = &issuance.certificate;
                let successor = records::successor(predecessor, bench.later(), &bench.random);
                records::renewal(successor, predecessor.reference())
            };
            let renewals: Vec<_> = first.iter().map(renew).collect();
            bench.share_out(256, first, record);
            bench.share_out(64, renewals, record)
        });
    });
}

fn revoke(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("revoke");
    group.throughput(Throughput::Elements(1));
    let bench = Bench::new();
    group.bench_function(BenchmarkId::from_parameter(16), |bencher| {
        bencher.iter_custom(|count| {
            let issuances = bench.issuances(count);
            let references: Vec<_> = issuances.iter().map(|one| one.certificate.reference()).collect();
            bench.share_out(256, issuances, record);
            bench.share_out(16, references, async |stores: Stores, reference: CertificateRef| {
                let target = RevocationTarget::Certificate(reference);
                let entry = audit("certificate.revoke", "x", NOW);
                let reason = RevocationReason::KeyCompromise;
                let revoked = stores.certificates.revoke(&target, reason, entry).await.unwrap();
                assert_eq!(revoked.len(), 1);
            })
        });
    });
}

/// A job's whole life: enqueued, leased, completed.
fn jobs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("jobs");
    group.throughput(Throughput::Elements(1));
    for batch in [1, BATCH] {
        let bench = Bench::new();
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_custom(|count| {
                let mut left = count;
                let mut batches = Vec::new();
                while left > 0 {
                    let size = left.min(batch);
                    batches
                        .push((0..size).map(|_| records::job("holder-0000", NOW, &bench.random)).collect());
                    left -= size;
                }
                bench.share_out(16, batches, async |stores: Stores, jobs: Vec<_>| live(&stores, jobs).await)
            });
        });
    }
}

async fn live(stores: &Stores, jobs: Vec<airunner_core::Job>) {
    let ask = LeaseRequest {
        queues: vec![records::queue("default")],
        order: QueueOrder::Strict,
        turn: 0,
        labels: Labels::new(),
        holder: records::id("holder-0001"),
        worker: None,
        max: u32::try_from(jobs.len()).unwrap(),
        now: NOW,
        deadline: NOW.plus(Duration::from_mins(5)),
    };
    stores.jobs.enqueue_jobs(jobs, None, audit("job.enqueue", "x", NOW)).await.unwrap();
    let leased = stores.jobs.lease_jobs(&ask).await.unwrap();
    let done = |job: &airunner_core::Job| Completion {
        job_id: job.id,
        attempt: job.attempt,
        outcome: AttemptOutcome::Exited(Exit::Code(0)),
        usage: None,
    };
    let completions: Vec<_> = leased.iter().map(done).collect();
    let completed = stores.jobs.complete_jobs(&ask.holder, &completions, NOW).await.unwrap();
    assert!(completed.iter().all(Result::is_ok));
}

/// Batches of 256 KiB of one job, each durable before the next; beside as much written and synced to a bare file.
fn output(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("output");
    group.throughput(Throughput::Bytes(256 * 1024));
    let batch = vec![7; 256 * 1024];
    let mut bare = tempfile::tempfile().unwrap();
    group.bench_function("bare", |bencher| {
        bencher.iter(|| {
            bare.write_all(&batch).unwrap();
            bare.sync_data().unwrap();
        });
    });
    let bench = Bench::new();
    let job = records::job("holder-0000", NOW, &bench.random).id;
    let mut n = 0;
    group.bench_function("kept", |bencher| {
        bencher.iter_custom(|batches| {
            let chunk = |n| OutputChunk {
                sequence: Sequence::new(1, n),
                at: NOW,
                stream: OutputStream::Stdout,
                bytes: vec![7; 256 * 1024].into(),
            };
            let work: Vec<_> = (0..batches)
                .map(|_| {
                    n += 1;
                    n
                })
                .collect();
            bench.share_out(1, work, move |stores: Stores, n: u64| async move {
                stores.output.append_output(&job, &[chunk(n)]).await.unwrap();
            })
        });
    });
    group.finish();
}
