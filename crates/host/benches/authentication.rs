//! What it costs to know who calls: once a connection, against the store on a disk, and then for every request.
//!
//! `cargo bench -p airunner-host`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{fs, hint::black_box, path::Path, sync::Arc};

use airunner_app::authn::VerifiedPeer;
use airunner_core::{Clock, Permission};
use airunner_host::{
    Home, OpenHost,
    bootstrap::Plan,
    config::Environment,
    local::{self, CloudPlan, LocalPlan, Means},
    open_app,
};
use airunner_net::system::{SystemClock, SystemRandom};
use airunner_pki::certificates_from_pem;
use criterion::{Criterion, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;

criterion_group!(authentication, connection, request);
criterion_main!(authentication);

/// An environment on a disk, and its admin's certificate.
struct Bench {
    runtime: Runtime,
    host: OpenHost,
    peer: VerifiedPeer,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let host = runtime.block_on(bootstrapped(&home));
        let peer = VerifiedPeer { certificate: leaf(&home.admin().cert), address: "127.0.0.1:1".to_owned() };
        Self { runtime, host, peer, _folder: folder }
    }
}

async fn bootstrapped(home: &Home) -> OpenHost {
    let random = Arc::new(SystemRandom::new());
    let means = Means {
        variable: &|_| None,
        flags: Vec::new(),
        watch: &|_| Ok(()),
        clock: Arc::new(SystemClock),
        random: random.clone(),
    };
    let plan = LocalPlan {
        environment: Environment::Local,
        domain: None,
        profile: None,
        api_addr: None,
        public_addr: None,
        plain_addr: None,
        metrics_addr: None,
        key_passphrase_file: None,
        same_user: true,
        cloud: CloudPlan::default(),
        steps: Plan::first_admin().unwrap(),
    };
    let local = local::bootstrap(home, &plan, &means).await.unwrap();
    open_app(&local.config, Some(home), &|_| None, Arc::new(SystemClock), random).await.unwrap()
}

fn leaf(path: &Path) -> Vec<u8> {
    certificates_from_pem(&fs::read(path).unwrap()).unwrap().remove(0)
}

/// From a certificate that TLS has verified to a standing: parse it, enter the live registry, read the store.
fn connection(criterion: &mut Criterion) {
    let bench = Bench::new();
    let authenticator = &bench.host.app.authenticator;
    criterion.bench_function("authentication/connection", |bencher| {
        bencher.to_async(&bench.runtime).iter(|| async {
            let connection = authenticator.connection(bench.peer.clone()).await.unwrap();
            assert!(connection.standing.denial().is_none());
        });
    });
}

/// From a standing to a caller that holds a permission.
fn request(criterion: &mut Criterion) {
    let bench = Bench::new();
    let app = &bench.host.app;
    let connection = bench.runtime.block_on(app.authenticator.connection(bench.peer.clone())).unwrap();
    let id: Arc<str> = "1".into();
    criterion.bench_function("authentication/request", |bencher| {
        bencher.iter(|| {
            let caller = connection.standing.caller(SystemClock.now(), &id).unwrap();
            caller.require(black_box(Permission::CertsManage)).unwrap();
            caller
        });
    });
}
