//! grpc.health.v1, told the truth: reading and writing services apart, and nothing while starting or draining.

use std::time::Duration;

use tokio::task::JoinHandle;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};
use tracing::{error, info};

use crate::{
    service::{READING, WRITING},
    store::Store,
};

/// How often the store is asked whether it still takes writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps the health service informed.
pub(super) struct Reporter {
    reporter: HealthReporter,
    watching: JoinHandle<()>,
}

/// Reports everything as serving, and from then on what the store can do.
pub(super) async fn start(store: Store) -> (Reporter, HealthServer<impl Health>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    report(&reporter, store.is_writable()).await;
    let watching = tokio::spawn({
        let reporter = reporter.clone();
        async move {
            let mut writable = store.is_writable();
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let looking = store.clone();
                // Also where nobody writes, and a disk that hangs holds up no connection. What is wrong is
                // logged there.
                let _told_by_the_store = tokio::task::spawn_blocking(move || looking.check_files()).await;
                if writable != store.is_writable() {
                    writable = !writable;
                    match writable {
                        true => info!("the store takes writes again"),
                        false => {
                            let reason = store.read_only_reason().unwrap_or_default();
                            error!(reason, "the store takes no writes: only predictions are served");
                        }
                    }
                    report(&reporter, writable).await;
                }
            }
        }
    });
    (Reporter { reporter, watching }, service)
}

impl Reporter {
    /// Reports that nothing serves any more.
    pub(super) async fn stop(self) {
        self.watching.abort();
        for name in READING.iter().chain(&WRITING).chain(&[""]) {
            self.reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    }
}

/// The empty name stands for the whole daemon, which serves as long as it can predict.
async fn report(reporter: &HealthReporter, writable: bool) {
    for name in READING.iter().chain(&[""]) {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    let status = if writable { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in WRITING {
        reporter.set_service_status(name, status).await;
    }
}
