//! `taxond serve`

use std::{io::IsTerminal as _, path::PathBuf};

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::failure::Failure,
    config::{Config, LogFormat, Settings},
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Configuration file (TOML); the environment and the flags below win over it
    #[arg(long, env = "TAXOND_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let file = self.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
        let config = Config::new(self.settings.or(file))?;
        start_logging(&config)?;
        Ok(crate::server::serve(config).await?)
    }
}

/// Logs to the standard error, which leaves the standard output to the address that the daemon prints.
fn start_logging(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log).map_err(|e| Error::invalid("log", e.to_string()))?;
    let terminal = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let started = match config.log_format {
        LogFormat::Pretty => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|e| Error::Internal(format!("logging cannot start: {e}")))
}
