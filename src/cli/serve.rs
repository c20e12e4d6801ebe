//! `taxond serve`

use std::{env, io::IsTerminal as _, path::PathBuf, time::Duration};

use clap::Args;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{
    cli::{failure::Failure, log},
    config::{Config, LogFormat, Settings},
    error::{Error, Result},
    server::{Process, ServiceManager, SetLog, TraceExporter},
};

/// Without it a client that sends answers to pings which nobody sent fills the log: HTTP/2's library warns of each.
const PONGS: &str = "h2::proto::ping_pong=error";

/// How long the collector of spans may take for the last of them.
const COLLECTOR_ENDS: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    given: Given,
}

/// What a configuration is made of, beside defaults.
#[derive(Debug, Clone, Args)]
pub(super) struct Given {
    /// Configuration file (TOML); the environment and the flags below win over it
    #[arg(long, env = "TAXOND_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Given {
    /// What the file says; nothing without one.
    pub(super) fn file(&self) -> Result<Settings> {
        Ok(self.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default())
    }

    /// The checked configuration.
    pub(super) fn config(&self) -> Result<Config> {
        Config::new(self.settings.clone().or(self.file()?))
    }
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.given.config()?;
        let exporter = config.traces.as_ref().map(TraceExporter::start).transpose()?;
        let set_log = start_logging(&config, exporter.as_ref())?;
        let watchdog = env::var("WATCHDOG_USEC").ok().and_then(|usec| usec.parse().ok());
        let process = Process {
            load: Box::new(move || self.given.config()),
            set_log,
            manager: ServiceManager::new(env::var_os("NOTIFY_SOCKET").as_deref(), watchdog),
        };
        let outcome = crate::server::serve(config, process).await;
        if let Some(exporter) = exporter {
            // It waits for the collector.
            let closed = tokio::task::spawn_blocking(|| exporter.close());
            let _closed_or_too_slow = tokio::time::timeout(COLLECTOR_ENDS, closed).await;
        }
        Ok(outcome?)
    }
}

/// Logs to the standard error, which leaves the standard output to the address that the daemon prints, and sends spans where that is
/// asked for. Returns what changes the filter of the log.
fn start_logging(config: &Config, exporter: Option<&TraceExporter>) -> Result<SetLog> {
    let (filter_of_log, handle) = reload::Layer::new(filter(&config.log)?);
    // https://no-color.org
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::stderr().is_terminal() && !plain;
    let log = match config.log_format {
        LogFormat::Pretty => {
            fmt::layer().with_writer(std::io::stderr).with_ansi(colours).fmt_fields(log::fields()).boxed()
        }
        LogFormat::Json => {
            fmt::layer().json().with_writer(|| log::JsonLines(std::io::stderr())).with_ansi(false).boxed()
        }
    };
    let failed = |cause: &dyn std::fmt::Display| Error::Internal(format!("the log: {cause}"));
    tracing_subscriber::registry()
        .with(log.with_filter(filter_of_log))
        .with(exporter.map(TraceExporter::layer))
        .try_init()
        .map_err(|cause| failed(&cause))?;
    Ok(Box::new(move |log: &str| handle.reload(filter(log)?).map_err(|cause| failed(&cause))))
}

fn filter(log: &str) -> Result<EnvFilter> {
    let filter = EnvFilter::try_new(log).and_then(|filter| Ok(filter.add_directive(PONGS.parse()?)));
    filter.map_err(|cause| Error::invalid("log", cause.to_string()))
}
