//! `taxond serve`

use std::{env, io::IsTerminal as _, path::PathBuf};

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::failure::Failure,
    config::{Config, LogFormat, Settings},
    error::{Error, Result},
    server::{Process, ServiceManager, SetLog},
};

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
        let set_log = start_logging(&config)?;
        let watchdog = env::var("WATCHDOG_USEC").ok().and_then(|usec| usec.parse().ok());
        let process = Process {
            load: Box::new(move || self.given.config()),
            set_log,
            manager: ServiceManager::new(env::var_os("NOTIFY_SOCKET").as_deref(), watchdog),
        };
        Ok(crate::server::serve(config, process).await?)
    }
}

/// Logs to the standard error, which leaves the standard output to the address that the daemon prints. Returns what
/// changes the filter.
fn start_logging(config: &Config) -> Result<SetLog> {
    let first = filter(&config.log)?;
    let terminal = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(first).with_writer(std::io::stderr).with_ansi(terminal);
    let failed = |cause: &dyn std::fmt::Display| Error::Internal(format!("the log: {cause}"));
    macro_rules! start {
        ($builder:expr) => {{
            let builder = $builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|cause| failed(&cause))?;
            Box::new(move |log: &str| handle.reload(filter(log)?).map_err(|cause| failed(&cause)))
        }};
    }
    Ok(match config.log_format {
        LogFormat::Pretty => start!(builder),
        LogFormat::Json => start!(builder.json()),
    })
}

fn filter(log: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(log).map_err(|cause| Error::invalid("log", cause.to_string()))
}
