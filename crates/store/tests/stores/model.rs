//! Any interleaving of what can happen to jobs, against a model of them. It is in the testkit, for every backend.

use airunner_store::{MemoryStore, SqliteStore};
use airunner_testkit::{conformance::OUTPUT_LIMIT, job_model::check};
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any},
    proptest,
};
use tokio::runtime::Runtime;

use crate::world::{Place, options};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn in_memory_each_job_ends_once_whatever_happens(acts in vec(any::<[u8; 4]>(), 1..120)) {
        let stores = MemoryStore::new(OUTPUT_LIMIT).stores();
        Runtime::new().unwrap().block_on(check(&acts, stores.clone(), async || stores.clone()));
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn in_a_file_each_job_ends_once_whatever_happens(acts in vec(any::<[u8; 4]>(), 1..120)) {
        let place = Place::new();
        let mut store = Some(place.open());
        let stores = store.as_ref().unwrap().stores();
        Runtime::new().unwrap().block_on(check(&acts, stores, async || {
            // What a server that is started again finds is the file alone.
            tokio::task::block_in_place(|| store.take().map(SqliteStore::close));
            let again = SqliteStore::open(options(place.path())).unwrap();
            let stores = again.stores();
            store = Some(again);
            stores
        }));
    }
}
