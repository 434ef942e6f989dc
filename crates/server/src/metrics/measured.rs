//! What the use cases and the stores measure by themselves, encoded as it stands when it is asked for.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use airunner_app::App;
use airunner_core::{Durations, Intent};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::MetricType,
};

/// Labels of a series that has none.
type NoLabels = [(&'static str, &'static str); 0];

/// The measures of one server.
pub(super) struct Measured(pub(super) Arc<App>);

impl Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = self.0.counters();
        self.store(&mut encoder)?;
        durations(
            &mut encoder,
            "airunner_revocation_lag_seconds",
            "From the writing of a denial to its being in force on this server",
            &counters.revocation_lag,
        )?;
        durations(
            &mut encoder,
            "airunner_queue_wait_seconds",
            "How long jobs that were leased by this server had waited in their queue",
            &counters.queue_wait,
        )?;
        let help = "How far the clock is ahead of other servers, negative where it is behind the newest time in the store";
        encoder
            .encode_descriptor("airunner_clock_skew_seconds", help, None, MetricType::Gauge)?
            .encode_gauge(&seconds(self.0.fleet.clock_ahead_millis()))
    }
}

impl Measured {
    fn store(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let measures = &self.0.stores().measures;
        let help = "How long the store took, from the asking to the answer";
        let mut family =
            encoder.encode_descriptor("airunner_store_seconds", help, None, MetricType::Histogram)?;
        for intent in Intent::ALL {
            let counts = measures.latency(*intent).counts();
            // What was never asked for has no series.
            if counts.iter().any(|(_, count)| *count > 0) {
                let labels = [("intent", intent.as_str())];
                histogram(family.encode_family(&labels)?, measures.latency(*intent))?;
            }
        }
        let help = "Intents that failed by the store's fault";
        let mut family =
            encoder.encode_descriptor("airunner_store_errors", help, None, MetricType::Counter)?;
        for (label, count) in measures.failures() {
            let labels = [("label", label.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&count, None)?;
        }
        self.traffic(encoder)
    }

    /// Nothing where the store is here: it is asked for nothing over a network.
    fn traffic(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let measures = &self.0.stores().measures;
        let asked = Intent::ALL.iter().map(|intent| (intent, measures.traffic(*intent).totals()));
        let asked: Vec<_> = asked.filter(|(_, (requests, ..))| *requests > 0).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let families = [
            ("airunner_store_requests", "Requests to the store, each try counted"),
            ("airunner_store_sent_bytes", "Bytes of what was sent to the store"),
            ("airunner_store_received_bytes", "Bytes of what the store answered"),
        ];
        for (n, (name, help)) in families.into_iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (intent, (requests, sent, received)) in &asked {
                let total = [*requests, *sent, *received][n];
                let labels = [("intent", intent.as_str())];
                family.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&total, None)?;
            }
        }
        Ok(())
    }
}

fn durations<const FIRST: u64>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    durations: &Durations<FIRST>,
) -> fmt::Result {
    histogram(encoder.encode_descriptor(name, help, None, MetricType::Histogram)?, durations)
}

fn histogram<const FIRST: u64>(mut encoder: MetricEncoder<'_>, durations: &Durations<FIRST>) -> fmt::Result {
    let counts = durations.counts();
    let count = counts.iter().map(|(_, count)| count).sum();
    encoder.encode_histogram::<NoLabels>(durations.sum().as_secs_f64(), count, &counts, None)
}

#[expect(clippy::cast_precision_loss, reason = "a clock is never off by 2^52 milliseconds")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}
