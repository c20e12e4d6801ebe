//! The daemon put together: store, registry, jobs, predictor and the services over them, from start to drained stop.

mod fsck;
mod health;
mod offline;
mod upkeep;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::transport::{Server, server::TcpIncoming};
use tracing::{info, info_span, warn};

pub use fsck::{DataReport, fsck};
pub use offline::{compact, restore};

use upkeep::{Upkeep, UpkeepThread};

use crate::{
    config::Config,
    dataset::{Dataset, FeatureCache},
    error::{Error, Result},
    model::Device,
    predict::{LiveVersions, Predictor},
    proto::{inference, v1},
    registry::{ModelId, Registry, Retention, Version},
    service::{Requests, Services},
    store::{Closing, Store, StoreOptions},
    train::{Host, Jobs, Tolerance, VectorsDir, give_way},
};

/// Streams that one connection may have open. tonic would set no limit.
const MAX_STREAMS: u32 = 128;
/// Resets that a client may cause before its connection is closed (CVE-2023-44487).
const MAX_RESETS: usize = 1024;
/// A connection that answers no ping for this long is closed.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long the data folder may take to close after the last call has ended.
const CLOSING: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);

/// A daemon that serves.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port is the real one where the configuration said 0.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<()>>,
    closing: Closing,
}

/// Starts a daemon. It serves once this returns.
///
/// # Errors
/// The device is not there, the data folder cannot be opened, or the address cannot be bound.
pub async fn start(config: Config) -> Result<Running> {
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| Error::io(format!("listening on {}", config.listen), source))?;
    let address = listener.local_addr().map_err(|source| Error::io("reading the bound address", source))?;
    let drain = config.drain;
    let (stop_streams, stopping) = watch::channel(false);
    let (store, upkeep, services) = tokio::task::spawn_blocking(move || open(&config, stopping))
        .await
        .unwrap_or_else(|_| Err(Error::Internal("opening the data folder panicked".into())))?;

    let closing = store.closing();
    let (health, health_service) = health::start(store).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(inference::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let internal = |cause: tonic_reflection::server::Error| Error::Internal(format!("reflection: {cause}"));
    let jobs = Arc::clone(&services.jobs);
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .trace_fn(|request| info_span!("rpc", path = request.uri().path()))
        .add_routes(services.routes())
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(internal)?)
        .add_service(reflection().build_v1alpha().map_err(internal)?);

    let (stop, stopped) = oneshot::channel::<()>();
    let (draining, drained) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        // Or an answer in two pieces waits 40 ms for the acknowledgement of the first.
        let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = server.serve_with_incoming_shutdown(connections, async {
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
            let closed = closed.await;
            info!(jobs_closed = closed.is_ok(), seconds = started.elapsed().as_secs_f64(), "draining");
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
    Ok(Running { address, stop, serving, closing })
}

/// Serves until a signal asks to stop; a second signal ends at once. Prints the bound address on standard output.
///
/// # Errors
/// As [`start`], or what made serving end.
pub async fn serve(config: Config) -> Result<()> {
    let mut signals = Signals::new()?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %config.data_dir.display(),
        device = %config.device,
        threads = config.threads,
        "starting"
    );
    let mut running = start(config).await?;
    info!(address = %running.address, "serving");
    println!("listening on {}", running.address);
    tokio::select! {
        () = signals.next() => {}
        result = &mut running.serving => return flatten(result),
    }
    info!("stopping; a second signal ends at once");
    tokio::select! {
        result = running.stop() => result,
        () = signals.next() => Err(Error::Cancelled),
    }
}

impl Running {
    /// Stops: jobs are interrupted, open calls get the time to drain, the store is flushed and the data folder closed.
    ///
    /// # Errors
    /// What made serving end.
    pub async fn stop(self) -> Result<()> {
        // A receiver that is gone has stopped already.
        let _stopped = self.stop.send(());
        let result = flatten(self.serving.await);
        // The tasks of connections let go of the store a little later.
        let closing = self.closing;
        let closed = tokio::task::spawn_blocking(move || closing.wait(CLOSING)).await;
        if !closed.unwrap_or(false) {
            warn!("the data folder is still open when serving has ended");
        }
        info!("stopped");
        result
    }
}

fn flatten(result: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    result.unwrap_or_else(|cause| Err(Error::Internal(format!("serving: {cause}"))))
}

/// Opens everything that the services stand on.
fn open(config: &Config, stopping: watch::Receiver<bool>) -> Result<(Store, UpkeepThread, Services)> {
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
    let registry = Arc::new(Registry::open(store.clone())?);
    let dataset = Dataset::open(store.clone(), &registry.uids()?)?;
    let pinned = config.pin.iter().map(|id| ModelId::new(id).map_err(|what| Error::invalid("pin", what)));
    let pinned = pinned.collect::<Result<HashSet<_>>>()?;
    let live = Arc::new(LiveVersions::new(Arc::clone(&registry), config.model_cache_bytes, pinned));
    live.load_pinned()?;
    let predictor =
        Arc::new(Predictor::start(Arc::clone(&registry), live, config.predict_queue, config.threads)?);
    let warm = {
        let predictor = Arc::clone(&predictor);
        Box::new(move |version: &Version| {
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
    Ok((
        store,
        upkeep,
        Services { registry, dataset, jobs, predictor, stopping, requests: Requests::default() },
    ))
}

fn retention(config: &Config) -> Retention {
    Retention {
        versions: (config.keep_versions > 0).then_some(config.keep_versions),
        age: (config.keep_days > 0.0).then(|| HOUR.mul_f64(24.0 * config.keep_days)),
        bytes: (config.keep_bytes > 0).then_some(config.keep_bytes),
    }
}

/// The signals that ask to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate())
            .map_err(|source| Error::io("listening for the signal to terminate", source))?;
        Ok(Self { terminate })
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self> {
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            // Without a handler for Ctrl-C the system ends the process, which is safe as well.
            _ = tokio::signal::ctrl_c() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ended_by_the_system_otherwise = tokio::signal::ctrl_c().await;
    }
}
