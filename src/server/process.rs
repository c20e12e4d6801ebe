//! A daemon that is a process: it says where it listens, minds signals, and tells a service manager.

use tracing::info;

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
};

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
    let mut running = start(config.clone()).await?;
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
