//! The metrics as Prometheus reads them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry as Exposition,
};
use tokio::sync::watch;
use tracing::warn;

use super::{metrics::Metrics, panics};
use crate::{
    error::Result,
    measure::Distribution,
    predict::{LiveVersions, Predictor},
    registry::{JobState, Registry},
    store::Store,
    train::Jobs,
};

/// How long what is counted by reading the data folder is good for.
const FRESH: Duration = Duration::from_secs(30);

/// Where the numbers come from.
pub(super) struct Sources {
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) jobs: Arc<Jobs>,
    pub(super) predictor: Arc<Predictor>,
    pub(super) live: Arc<LiveVersions>,
    pub(super) store: Store,
    pub(super) data_dir: PathBuf,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) inventory: Mutex<Option<(Instant, Inventory)>>,
}

/// What the data folder holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Inventory {
    models: u64,
    versions: u64,
    bytes: u64,
}

/// A training that runs.
#[derive(Debug)]
struct Training {
    model: String,
    loss: f64,
    examples_per_second: f64,
}

impl Sources {
    /// Whether questions are answered.
    pub(super) fn is_ready(&self) -> bool {
        !*self.stopping.borrow()
    }

    /// All metrics in the text format of OpenMetrics. Reads the data folder, so it blocks.
    pub(super) fn text(self: &Arc<Self>) -> String {
        let mut exposition = Exposition::default();
        exposition.register_collector(Box::new(Snapshot(Arc::clone(self))));
        let mut text = String::new();
        if encode(&mut text, &exposition).is_err() {
            // A string takes whatever is written.
            warn!("the metrics could not be written");
        }
        text
    }

    fn inventory(&self) -> Inventory {
        let mut kept = self.inventory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, inventory)) = *kept
            && at.elapsed() < FRESH
        {
            return inventory;
        }
        let counted = self.count().unwrap_or_else(|cause| {
            warn!(%cause, "the data folder could not be counted");
            Inventory::default()
        });
        *kept = Some((Instant::now(), counted));
        counted
    }

    fn count(&self) -> Result<Inventory> {
        let models = self.registry.models(None, usize::MAX)?;
        let mut versions = 0;
        for model in &models {
            versions +=
                self.registry.versions(&model.id, None, usize::MAX).map_or(0, |found| found.len() as u64);
        }
        let bytes = bytes_below(&self.data_dir).unwrap_or_default();
        Ok(Inventory { models: models.len() as u64, versions, bytes })
    }

    /// Jobs that run and that wait, and what those that run are at.
    fn trainings(&self) -> (u64, u64, Vec<Training>) {
        let (mut running, mut queued, mut trainings) = (0, 0, Vec::new());
        for model in self.registry.models(None, usize::MAX).unwrap_or_default() {
            let Some(id) = self.jobs.running(&model.id) else { continue };
            match self.registry.job(id).map(|job| job.state) {
                Ok(JobState::Running) => running += 1,
                _ => queued += 1,
            }
            if let Some(progress) = self.jobs.progress(id) {
                let (loss, examples_per_second) = (progress.loss, progress.examples_per_second);
                trainings.push(Training { model: model.id.to_string(), loss, examples_per_second });
            }
        }
        (running, queued, trainings)
    }
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file that is removed meanwhile takes nothing.
        let Ok(found) = entry.metadata() else { continue };
        bytes += if found.is_dir() { bytes_below(&entry.path()).unwrap_or_default() } else { found.len() };
    }
    Ok(bytes)
}

/// The numbers of this moment.
#[derive(Debug)]
struct Snapshot(Arc<Sources>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = &self.0;
        let out = &mut Out(&mut encoder);
        rpcs(out, &sources.metrics)?;
        let refusals: Vec<_> = sources.metrics.refusals().collect();
        out.counters("taxond_refused_calls", "Calls that were not let in", "reason", &refusals)?;
        out.counter("taxond_panics", "Panics, wherever in the process", panics::counted())?;

        let (batches, cache) = (sources.predictor.batch_stats(), sources.live.stats());
        let waiting = sources.predictor.waiting_texts() as u64;
        out.gauge("taxond_predict_queue_texts", "Texts that wait for a prediction thread", waiting)?;
        out.histogram("taxond_predict_batch_texts", "Texts of a batch", &batches.texts.get())?;
        out.histogram(
            "taxond_predict_batch_seconds",
            "Time that a batch takes to compute",
            &batches.seconds.get(),
        )?;
        out.counter("taxond_model_cache_hits", "Versions asked for that were in memory", cache.hits.get())?;
        out.counter("taxond_model_cache_loads", "Versions that were loaded", cache.loads.get())?;
        out.counter("taxond_model_cache_evictions", "Versions dropped from memory", cache.evictions.get())?;
        let bytes = sources.live.memory_bytes();
        out.gauge("taxond_model_cache_bytes", "Memory that versions take, with the tokens they read", bytes)?;
        out.counter(
            "taxond_displaced_connections",
            "Connections closed to make room for others, or turned away",
            sources.metrics.displaced_connections.get(),
        )?;
        out.counter("taxond_version_swaps", "Versions that began to serve", sources.metrics.swaps.get())?;

        let (running, queued, trainings) = sources.trainings();
        out.gauge("taxond_jobs_running", "Jobs that run", running)?;
        out.gauge("taxond_jobs_queued", "Jobs that wait for their turn", queued)?;
        let of = |value: fn(&Training) -> f64| {
            trainings.iter().map(|training| (training.model.as_str(), value(training))).collect::<Vec<_>>()
        };
        out.gauges(
            "taxond_training_loss",
            "Mean loss of the epoch that runs, in nats",
            "model",
            &of(|t| t.loss),
        )?;
        let rates = of(|training| training.examples_per_second);
        out.gauges("taxond_training_examples_per_second", "Examples that a training reads", "model", &rates)?;

        let inventory = sources.inventory();
        out.gauge("taxond_models", "Models", inventory.models)?;
        out.gauge("taxond_versions", "Versions of all models", inventory.versions)?;
        out.gauge("taxond_data_bytes", "Bytes of the data folder", inventory.bytes)?;
        let writable = u64::from(sources.store.is_writable());
        out.gauge("taxond_store_writable", "Whether the store takes writes", writable)?;
        let damaged = sources.store.damaged();
        out.gauge("taxond_damaged_values", "Values found damaged when everything was last read", damaged)
    }
}

fn rpcs(out: &mut Out<'_, '_>, metrics: &Metrics) -> fmt::Result {
    let mut family =
        out.0.encode_descriptor("taxond_rpcs", "Calls that have ended", None, MetricType::Counter)?;
    for calls in metrics.calls() {
        for (code, count) in calls.codes() {
            let labels = [("rpc", calls.rpc.path), ("code", name(code))];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
        }
    }
    let mut family = out.0.encode_descriptor(
        "taxond_rpc_seconds",
        "Time from a call to the end of its answer",
        None,
        MetricType::Histogram,
    )?;
    for calls in metrics.calls() {
        let of = calls.seconds.get();
        let labels = [("rpc", calls.rpc.path)];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            of.sum,
            of.count(),
            &of.buckets,
            None,
        )?;
    }
    Ok(())
}

/// The code as gRPC spells it.
fn name(code: tonic::Code) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES[code as usize]
}

/// Where metrics are written to.
struct Out<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            family.encode_family(&[(label, *of)])?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, f64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (of, value) in values {
            family.encode_family(&[(label, *of)])?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, of: &Distribution) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(of.sum, of.count(), &of.buckets, None)
    }
}
