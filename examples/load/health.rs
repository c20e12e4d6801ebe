//! The health service, asked while the load is on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::tally::Tally;

/// Time between two questions.
const INTERVAL: Duration = Duration::from_millis(50);
/// An answer that takes longer is an error.
const DEADLINE: Duration = Duration::from_secs(5);

/// How it answered within the measured time.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Nanoseconds of each answer that says SERVING, sorted.
    pub(crate) latencies: Vec<u64>,
    /// Failures and other answers.
    pub(crate) errors: u64,
}

/// Asks on a connection of its own until the time is over.
///
/// # Errors
/// It cannot connect.
pub(crate) async fn watch(address: String, tally: Arc<Tally>) -> Result<Health, tonic::transport::Error> {
    let url = if address.contains("://") { address } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url)?.tcp_nodelay(true).timeout(DEADLINE);
    let mut client = HealthClient::new(endpoint.connect().await?);
    let mut health = Health::default();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !tally.is_over() {
        ticks.tick().await;
        let asked = Instant::now();
        let answer = client.check(HealthCheckRequest::default()).await;
        if asked < tally.begin {
            continue;
        }
        match answer {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => {
                health.latencies.push(asked.elapsed().as_nanos() as u64);
            }
            _ => health.errors += 1,
        }
    }
    health.latencies.sort_unstable();
    Ok(health)
}
