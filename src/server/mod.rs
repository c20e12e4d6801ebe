//! The daemon put together: store, registry, jobs, predictor and the services over them, from start to drained stop.

mod audit;
mod auth;
mod certificate;
mod connection;
mod crowd;
mod deadline;
mod doctor;
mod door;
mod exposition;
mod fsck;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gate;
mod health;
mod hints;
mod idle;
mod listen;
mod metrics;
mod notify;
mod offline;
mod panics;
mod places;
mod probes;
mod process;
mod rate;
mod reload;
mod repair;
mod request_body;
mod roles;
mod session;
mod signals;
mod tls;
mod traces;
#[cfg(unix)]
mod unix;
mod upkeep;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::transport::Server;
use tracing::{error, info, warn};

use crowd::{Crowd, Patience};
pub use doctor::{Finding, examine};
use door::Door;
use exposition::Sources;
pub use fsck::{DataReport, fsck};
use gate::GateLayer;
use hints::Hints;
pub use listen::Address;
use listen::Listeners;
use metrics::Metrics;
pub use notify::ServiceManager;
pub use offline::{compact, free_bytes, restore};
pub use process::{Process, SetLog, serve};
use reload::Reloadable;
pub use repair::{Repaired, repair};
pub use roles::{Needs, Rpc, rpcs};
use tls::Tls;
pub use traces::TraceExporter;
use upkeep::{Upkeep, UpkeepThread};

use crate::{
    admission::{Admission, Limits},
    cancel::{Cancellation, Shutdown},
    config::Config,
    dataset::{Dataset, FeatureCache},
    error::{Error, Result},
    model::{Device, Network},
    niceness::give_way,
    predict::{LiveVersions, Predictor, QueueLimits},
    proto::{inference, v1},
    registry::{ModelId, Quotas, Registry, Retention, Version},
    service::{BackgroundThreads, PageTokens, Requests, Services},
    store::{Closing, OpenFiles, Pending, Store, StoreOptions},
    train::{Host, Jobs, Tolerance, VectorsDir},
};

/// Streams that one connection may have open. tonic would set no limit.
const MAX_STREAMS: u32 = 128;
/// Resets that a client may cause before its connection is closed (CVE-2023-44487).
const MAX_RESETS: usize = 1024;
/// Resets of calls that were not begun yet, at which a connection is closed.
const MAX_PENDING_RESETS: usize = 20;
/// Bytes of the headers of a call, metadata included.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How often a connection is asked whether it is alive, and how long it may take to say so before it is closed.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the training thread may take to end, and the upkeep with it. With the three limits below, this is what a stop takes
/// beyond the time to drain.
const JOBS_END: Duration = Duration::from_secs(10);
/// How long work for calls may go on after it was cancelled.
const WORK_ENDS: Duration = Duration::from_secs(5);
/// How long the data folder may take to close after the last call has ended.
const CLOSING: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);

/// A daemon that serves.
#[derive(Debug)]
pub struct Running {
    /// Where it listens: the TCP address if there is one, else the unix socket. The port is the real one where the
    /// configuration said 0.
    pub address: Address,
    /// Everything it listens on, TCP first.
    pub addresses: Vec<Address>,
    /// Where metrics and probes are, if they are asked for.
    pub metrics: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<()>>,
    closing: Closing,
    /// Writes to the store that have not ended.
    pending: Pending,
    /// Ends the work for calls.
    shutdown: Shutdown,
    /// The files of the store.
    open_files: OpenFiles,
    reloadable: Arc<Reloadable>,
    watching: JoinHandle<()>,
    probes: Option<JoinHandle<()>>,
}

/// Starts a daemon. It serves once this returns.
///
/// # Errors
/// The device is not there, the data folder cannot be opened, or the address cannot be bound.
pub async fn start(config: Config) -> Result<Running> {
    let tls = config.network.tls.clone().map(|files| Tls::load(files).map(Arc::new)).transpose()?;
    let asks_nobody =
        config.auth_file.is_none() && config.network.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none());
    if let Some(address) = config.network.listen.filter(|address| !address.ip().is_loopback() && asks_nobody)
    {
        warn!(%address, "whoever reaches this address may do everything: auth_file says who may do what");
    }
    let door = Arc::new(Door::open(config.auth_file.clone(), config.network.rate_limit)?);
    let patience = Patience {
        burst: config.predict_queue_time,
        standing: config.predict_standing_time.or(config.predict_queue_time),
    };
    // For each thread a batch that is computed and one that waits.
    let crowd = Arc::new(Crowd::new(2 * config.threads * Network::BATCH, patience));
    let limits = Limits { calls: config.max_heavy_calls, bytes: config.heavy_call_bytes };
    let admission = Arc::new(Admission::new(limits));
    let reloadable = Arc::new(Reloadable { tls: tls.clone(), door: Arc::clone(&door) });
    let listeners = Listeners::bind(&config.network).await?;
    let addresses = listeners.addresses()?;
    // The configuration sees to it that there is one.
    let address = addresses.first().cloned().ok_or_else(|| Error::Internal("nothing is bound".into()))?;
    let probes = bind_probes(config.network.metrics_listen).await?;
    panics::count();
    let metrics = Arc::new(Metrics::new());
    let (drain, data_dir, traces) = (config.drain, config.data_dir.clone(), config.traces.is_some());
    let (stop_streams, stopping) = watch::channel(false);
    let (store, live, upkeep, services) = tokio::task::spawn_blocking({
        let (metrics, stopping) = (Arc::clone(&metrics), stopping.clone());
        move || open(&config, stopping, metrics)
    })
    .await
    .unwrap_or_else(|_| Err(Error::Internal("opening the data folder panicked".into())))?;

    let (closing, pending, open_files) = (store.closing(), store.pending(), store.open_files());
    let shutdown = services.shutdown.clone();
    let (metrics_address, probes) = match probes {
        Some((listener, address)) => {
            let sources = Sources {
                metrics: Arc::clone(&metrics),
                registry: Arc::clone(&services.registry),
                jobs: Arc::clone(&services.jobs),
                predictor: Arc::clone(&services.predictor),
                live,
                store: store.clone(),
                data_dir,
                stopping,
                inventory: Mutex::default(),
            };
            (Some(address), Some(probes::serve(listener, Arc::new(sources))))
        }
        None => (None, None),
    };
    let (health, health_service) = health::start(store).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(inference::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let internal = |cause: tonic_reflection::server::Error| Error::Internal(format!("reflection: {cause}"));
    let jobs = Arc::clone(&services.jobs);
    let counted = Arc::clone(&metrics);
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(GateLayer { door, crowd, admission, metrics, hints: Hints::new(services.clone()), traces })
        .add_routes(services.routes())
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(internal)?)
        .add_service(reflection().build_v1alpha().map_err(internal)?);

    let (stop, stopped) = oneshot::channel::<()>();
    let (draining, drained) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let serve = server.serve_with_incoming_shutdown(listeners.accept(tls, &counted), async {
            // A sender that is dropped stops the server as well.
            let _asked = stopped.await;
            let started = Instant::now();
            health.stop().await;
            stop_streams.send_replace(true);
            // Jobs end as interrupted, which ends the streams that follow them.
            let closed = tokio::task::spawn_blocking(move || {
                drop(upkeep);
                jobs.close();
            });
            let closed = matches!(tokio::time::timeout(JOBS_END, closed).await, Ok(Ok(())));
            info!(jobs_closed = closed, seconds = started.elapsed().as_secs_f64(), "draining");
            let _deadline_starts = draining.send(());
        });
        let deadline = async {
            if drained.await.is_ok() {
                tokio::time::sleep(drain).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = serve => result.map_err(|cause| Error::Internal(format!("serving: {cause}"))),
            () = deadline => {
                warn!(seconds = drain.as_secs_f64(), "calls were still open when the time to drain was over");
                Ok(())
            }
        }
    });
    let watching = Arc::clone(&reloadable).watch();
    Ok(Running {
        address,
        addresses,
        metrics: metrics_address,
        stop,
        serving,
        closing,
        pending,
        shutdown,
        open_files,
        reloadable,
        watching,
        probes,
    })
}

/// Checks a configuration with the files that it names, and starts nothing.
///
/// # Errors
/// What a start would refuse of them.
pub fn check(config: &Config) -> Result<()> {
    config.network.tls.clone().map(Tls::load).transpose()?;
    Door::open(config.auth_file.clone(), config.network.rate_limit)?;
    VectorsDir::new(config.vectors_dir.clone())?;
    Ok(())
}

impl Running {
    /// Reads certificates and the file of identities again. What is wrong is logged and stays as it was.
    pub async fn reload(&self) {
        let reloadable = Arc::clone(&self.reloadable);
        if let Err(cause) = tokio::task::spawn_blocking(move || reloadable.reload()).await {
            error!(%cause, "reading again failed");
        }
    }

    /// Stops: jobs are interrupted, open calls get the time to drain, then their work is cancelled, the store is flushed and the
    /// data folder closed.
    ///
    /// # Errors
    /// What made serving end; [`Error::Unavailable`] where work did not end although it was cancelled: then a thread still runs, and
    /// the process is to end without it; or where the data folder is not at its path any more, so that a restart would not
    /// find what was acknowledged.
    pub async fn stop(self) -> Result<()> {
        // A receiver that is gone has stopped already.
        let _stopped = self.stop.send(());
        self.watching.abort();
        let probes = self.probes;
        let result = flatten(self.serving.await);
        // Until the last call has ended, /readyz says that it is about to.
        if let Some(probes) = probes {
            probes.abort();
            let _aborted = probes.await;
        }
        let shutdown = self.shutdown;
        shutdown.end_work();
        let left = tokio::task::spawn_blocking(move || shutdown.wait(WORK_ENDS)).await.unwrap_or(0);
        if left > 0 {
            error!(
                calls = left,
                "work for calls does not end; the process ends without it; what was acknowledged is kept"
            );
            return result.and(Err(Error::Unavailable(format!(
                "stopped while the work for {left} calls did not end; what was acknowledged is kept"
            ))));
        }
        // The tasks of connections let go of the store a little later.
        let closing = self.closing;
        let closed = tokio::task::spawn_blocking(move || closing.wait(CLOSING)).await;
        if !closed.unwrap_or(false) {
            warn!("the data folder is still open when serving has ended");
        }
        info!("stopped");
        result.and_then(|()| self.open_files.check())
    }
}

async fn bind_probes(address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| Error::io(format!("listening on {address} for metrics"), source);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok(Some((listener, bound)))
}

fn flatten(result: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    result.unwrap_or_else(|cause| Err(Error::Internal(format!("serving: {cause}"))))
}

/// Opens everything that the services stand on.
fn open(
    config: &Config,
    stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) -> Result<(Store, Arc<LiveVersions>, UpkeepThread, Services)> {
    let started = Instant::now();
    let device = config.device.open()?;
    if let Device::Cuda(cuda) = &device {
        let refused = |error| Error::Unavailable(format!("device '{}': {error}", config.device));
        cuda.round_products(config.tf32).map_err(refused)?;
    }
    info!(%device, "networks learn here");
    let vectors = VectorsDir::new(config.vectors_dir.clone())?;
    // The pool of a process is set once; a second daemon in the same process (in a test) shares the first one's.
    let niceness = config.training_niceness;
    let _already_set = rayon::ThreadPoolBuilder::new()
        .num_threads(config.threads)
        .thread_name(|number| format!("compute-{number}"))
        .start_handler(move |_| give_way(niceness))
        .build_global();
    let options = StoreOptions { cache_bytes: config.cache_bytes, min_free_bytes: config.min_free_bytes };
    let store = Store::open(&config.data_dir, options)?;
    let quotas = Quotas { models: config.max_models, classes: config.max_classes };
    let registry = Arc::new(Registry::open(store.clone())?.with_quotas(quotas));
    let dataset = Dataset::open(store.clone(), &registry.uids()?)?.with_limit(config.max_examples);
    let pinned = config.pin.iter().map(|id| ModelId::new(id).map_err(|what| Error::invalid("pin", what)));
    let pinned = pinned.collect::<Result<HashSet<_>>>()?;
    let (budget, weights) = (config.model_cache_bytes, config.predict_weights);
    let live = Arc::new(LiveVersions::new(Arc::clone(&registry), budget, pinned, weights));
    live.load_pinned()?;
    let predictor = Arc::new(Predictor::start(
        Arc::clone(&registry),
        Arc::clone(&live),
        QueueLimits { texts: config.predict_queue, time: config.predict_queue_time },
        config.threads,
    )?);
    let warm = {
        let predictor = Arc::clone(&predictor);
        Box::new(move |version: &Version| {
            metrics.swaps.add_one();
            if let Err(cause) = predictor.warm(version) {
                warn!(%cause, version = %version.number, "a promoted version could not be loaded");
            }
        })
    };
    let tolerance = Tolerance { accuracy: config.gate_accuracy, class_f1: config.gate_class_f1 };
    let memory_limit = config.training_memory_limit;
    let features = FeatureCache::new(config.data_dir.join("features"), config.feature_cache_bytes);
    let host = Host { device, vectors, memory_limit, tolerance, features: Arc::new(features), niceness };
    let jobs = Arc::new(Jobs::start(Arc::clone(&registry), dataset.clone(), host, warm)?);
    let upkeep = Upkeep {
        store: store.clone(),
        registry: Arc::clone(&registry),
        predictor: Arc::clone(&predictor),
        jobs: Arc::clone(&jobs),
        retention: retention(config),
        scrub_every: (config.scrub_hours > 0.0).then(|| HOUR.mul_f64(config.scrub_hours)),
    };
    let upkeep = upkeep.start()?;
    info!(millis = started.elapsed().as_millis(), "data folder open");
    let pages = PageTokens::new(&registry.page_key()?)?;
    // A call has one piece of work at a time, and as many calls are admitted.
    let background = BackgroundThreads::new(niceness, 2 * config.max_heavy_calls)?;
    let services = Services {
        registry,
        dataset,
        jobs,
        predictor,
        stopping,
        requests: Requests::default(),
        pages,
        shutdown: Shutdown::default(),
        cancel: Cancellation::default(),
        background: Arc::new(background),
        stream_idle: config.network.idle,
    };
    Ok((store, live, upkeep, services))
}

fn retention(config: &Config) -> Retention {
    Retention {
        versions: (config.keep_versions > 0).then_some(config.keep_versions),
        age: (config.keep_days > 0.0).then(|| HOUR.mul_f64(24.0 * config.keep_days)),
        bytes: (config.keep_bytes > 0).then_some(config.keep_bytes),
    }
}
