//! `taxond fsck`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        data_folder::{DataFolder, blocking},
        failure::{Exit, Failure},
        output::{self, bytes, count},
    },
    server::{self, DataReport},
};

#[derive(Debug, Args)]
pub(super) struct Fsck {
    #[command(flatten)]
    folder: DataFolder,
}

impl Fsck {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.folder.config()?;
        let folder = config.data_dir.display().to_string();
        let report = blocking(move || server::fsck(&config)).await?;
        print(&folder, report, global.json)
    }
}

/// Prints what a data folder holds.
///
/// # Errors
/// That something is damaged, and what.
pub(super) fn print(folder: &str, report: DataReport, as_json: bool) -> Result<(), Failure> {
    if as_json {
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
        return if as_json { Ok(()) } else { output::line("everything is whole") };
    }
    let message = match report.damage.len() {
        1 => format!("something in {folder} is damaged"),
        number => format!("{} things in {folder} are damaged", count(number as u64)),
    };
    let hint =
        "restore a backup, or a copy of the whole data folder; docs/durability.md says what else can be done";
    Err(Failure::new(Exit::Failed, message).with_details(report.damage).with_hint(hint))
}
