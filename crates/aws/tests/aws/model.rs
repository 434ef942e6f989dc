//! What can happen to jobs, against a model of them: a few runs, each drawn by a number. SQLite and memory have many.

use airunner_core::SecureRandom;
use airunner_testkit::{job_model::check, random::SeededRandom};

use crate::world::Place;

#[tokio::test(flavor = "multi_thread")]
async fn each_job_ends_once_whatever_happens() {
    for seed in 0..3 {
        let random: &dyn SecureRandom = &SeededRandom::new(100 + seed);
        let acts: Vec<[u8; 4]> = (0..60).map(|_| random.array()).collect();
        let place = Place::new().await;
        // Another server over the same tables knows nothing of what this one has in mind.
        check(&acts, place.open().stores(), async || place.open().stores()).await;
    }
}
