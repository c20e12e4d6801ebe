//! `taxond fsck`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        failure::{Exit, Failure},
        output::{self, bytes, count},
    },
    config::{Config, Settings},
    server,
};

#[derive(Debug, Args)]
pub(super) struct Fsck {
    /// Folder of the store [default: $XDG_DATA_HOME/taxond or ~/.local/share/taxond]
    #[arg(long, env = "TAXOND_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML) of the daemon
    #[arg(long, env = "TAXOND_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Fsck {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let file = self.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
        let settings = Settings { data_dir: self.data_dir, ..Settings::default() };
        let config = Config::new(settings.or(file))?;
        let folder = config.data_dir.display().to_string();
        let report = tokio::task::spawn_blocking(move || server::fsck(&config))
            .await
            .map_err(|_| Failure::new(Exit::Failed, "checking the data folder panicked"))??;
        if global.json {
            output::json(&json!({
                "data_dir": folder,
                "values": report.values,
                "bytes": report.bytes,
                "models": report.models,
                "versions": report.versions,
                "manifests": report.manifests,
                "examples": report.examples,
                "damage": report.damage,
            }))?;
        } else {
            output::line(format!(
                "{} values, {}: {} models, {} versions, {} manifests, {} examples",
                count(report.values),
                bytes(report.bytes),
                count(report.models),
                count(report.versions),
                count(report.manifests),
                count(report.examples)
            ))?;
        }
        if report.damage.is_empty() {
            return if global.json { Ok(()) } else { output::line("everything is whole") };
        }
        let message = match report.damage.len() {
            1 => format!("something in {folder} is damaged"),
            number => format!("{} things in {folder} are damaged", count(number as u64)),
        };
        let hint = "restore a copy of the whole data folder; docs/durability.md says what else can be done";
        Err(Failure::new(Exit::Failed, message).with_details(report.damage).with_hint(hint))
    }
}
