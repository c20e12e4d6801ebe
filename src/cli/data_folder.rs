//! The data folder of a daemon that does not run, for the commands that work on it without one.

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::failure::{Exit, Failure},
    config::{Config, Settings},
    error,
};

/// Which folder.
#[derive(Debug, Args)]
pub(super) struct DataFolder {
    /// Folder of the store [default: $XDG_DATA_HOME/taxond or ~/.local/share/taxond]
    #[arg(long, env = "TAXOND_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML) of the daemon
    #[arg(long, env = "TAXOND_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DataFolder {
    /// The configuration of the daemon whose folder it is.
    pub(super) fn config(self) -> Result<Config, Failure> {
        let file = self.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
        let settings = Settings { data_dir: self.data_dir, ..Settings::default() };
        Ok(Config::new(settings.or(file))?)
    }
}

/// Runs work on a folder, which reads and writes files for long.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> error::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let outcome = tokio::task::spawn_blocking(work).await;
    Ok(outcome.map_err(|_| Failure::new(Exit::Failed, "working on the data folder panicked"))??)
}
