//! A daemon that is a process: it says where it listens, minds signals, and tells a service manager.

use std::time::Duration;

use tracing::{error, info};

use super::{
    flatten,
    notify::ServiceManager,
    reload,
    signals::{Asked, Signals},
    start,
};
use crate::{
    config::Config,
    error::{Error, Result},
    store::Pending,
};

/// How often writes to the store are looked at, and how often one may be seen: a mebibyte that is written, or a disk that is
/// asked whether all is there, takes less than these three minutes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOKS: u32 = 18;

/// Changes what is logged.
pub type SetLog = Box<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// What a process has around a daemon that runs in it.
pub struct Process {
    /// Reads the configuration again.
    pub load: Box<dyn Fn() -> Result<Config> + Send + Sync>,
    /// Changes what is logged.
    pub set_log: SetLog,
    /// Who is told what becomes of the daemon.
    pub manager: ServiceManager,
}

/// Serves until a signal asks to stop; a second signal ends at once. Prints the bound addresses on standard output.
///
/// # Errors
/// As [`start`], or what made serving end.
pub async fn serve(config: Config, process: Process) -> Result<()> {
    let mut signals = Signals::new()?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %config.data_dir.display(),
        device = %config.device,
        threads = config.threads,
        "starting"
    );
    let mut running = tokio::select! {
        started = start(config.clone()) => started?,
        // Whatever is being opened: nothing was acknowledged yet.
        () = signals.stop() => {
            return Err(Error::Unavailable("ended while it was starting, as a signal asked".to_owned()));
        }
    };
    for address in &running.addresses {
        info!(%address, "serving");
        println!("listening on {address}");
    }
    if let Some(address) = running.metrics {
        info!(%address, "metrics and probes");
        println!("metrics on {address}");
    }
    process.manager.ready();
    let _alive = process.manager.keep_alive();
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => {
                    reload::configuration(&config, &process);
                    running.reload().await;
                }
                Asked::Stop => break,
            },
            result = &mut running.serving => return flatten(result),
            () = stuck(running.pending.clone(), LOOK_EVERY) => {
                error!(
                    seconds = (LOOKS * LOOK_EVERY).as_secs(),
                    "a write to the store does not end; the process does, so that it is started anew; what was acknowledged \
                     is kept"
                );
                // Whoever waits for that write would keep it from ending otherwise.
                std::process::exit(1);
            }
        }
    }
    info!("stopping; a second signal ends at once");
    process.manager.stopping();
    tokio::select! {
        result = running.stop() => result,
        () = signals.stop() => Err(Error::Unavailable(
            "ended at once, as a second signal asked; what was acknowledged is kept".to_owned(),
        )),
    }
}

/// Returns once the same write was seen at so many looks in a row. A process that was halted for a while looks but once
/// meanwhile.
async fn stuck(pending: Pending, look_every: Duration) {
    let (mut seen, mut looks) = (None, 0);
    while looks < LOOKS {
        tokio::time::sleep(look_every).await;
        let first = pending.first();
        looks = if first.is_some() && first == seen { looks + 1 } else { 0 };
        seen = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_write_that_does_not_end_is_waited_for_to_the_end() {
        let (pending, often) = (Pending::default(), Duration::from_millis(1));
        let nothing = tokio::time::timeout(often * 5 * LOOKS, stuck(pending.clone(), often));
        assert!(nothing.await.is_err());
        pending.hold();
        stuck(pending, often).await;
    }
}
