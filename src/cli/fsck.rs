//! `taxond fsck`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        confirm::confirm,
        data_folder::{DataFolder, blocking},
        failure::{Exit, Failure},
        output::{self, bytes, count},
    },
    server::{self, DataReport, Repaired},
};

const REMEDY: &str = "restore a backup, or a copy of the whole data folder; without one, fsck --repair does without what is damaged";

const NO_REPAIR: &str = "nothing was changed, as nothing can stand in for some of this; restore a backup, or a copy of the whole data folder";

#[derive(Debug, Args)]
pub(super) struct Fsck {
    #[command(flatten)]
    folder: DataFolder,
    /// Do without what is damaged: examples, versions, jobs and receipts; aliases go to the nearest version that is whole
    #[arg(long)]
    repair: bool,
    /// Yes, give up what is damaged: there is no way back
    #[arg(long, requires = "repair")]
    yes: bool,
}

impl Fsck {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.folder.config()?;
        let folder = config.data_dir.display().to_string();
        if self.repair {
            if !self.yes {
                confirm(&format!("this removes what is damaged in {folder} for good; a backup may have it"))?;
            }
            let repaired = blocking(move || server::repair(&config)).await?;
            return print_repaired(&folder, repaired, global.json);
        }
        let report = blocking(move || server::fsck(&config)).await?;
        print(&folder, report, global.json)
    }
}

/// Prints what a repair gave up, and what there is now.
fn print_repaired(folder: &str, repaired: Repaired, as_json: bool) -> Result<(), Failure> {
    let Repaired { lost, report } = repaired;
    if as_json {
        let mut shown = to_json(folder, &report);
        shown["lost"] = json!(lost);
        output::json(&shown)?;
    } else {
        lost.iter().try_for_each(|sentence| output::line(format!("given up: {sentence}")))?;
    }
    if !report.damage.is_empty() {
        return Err(damaged(folder, report.damage, NO_REPAIR));
    }
    if as_json { Ok(()) } else { print(folder, report, false) }
}

/// Prints what a data folder holds.
///
/// # Errors
/// That something is damaged, and what.
pub(super) fn print(folder: &str, report: DataReport, as_json: bool) -> Result<(), Failure> {
    if as_json {
        output::json(&to_json(folder, &report))?;
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
    Err(damaged(folder, report.damage, REMEDY))
}

fn to_json(folder: &str, report: &DataReport) -> serde_json::Value {
    json!({
        "data_dir": folder,
        "values": report.values,
        "bytes": report.bytes,
        "models": report.models,
        "versions": report.versions,
        "manifests": report.manifests,
        "examples": report.examples,
        "damage": report.damage,
    })
}

fn damaged(folder: &str, damage: Vec<String>, hint: &str) -> Failure {
    let message = match damage.len() {
        1 => format!("something in {folder} is damaged"),
        number => format!("{} things in {folder} are damaged", count(number as u64)),
    };
    Failure::new(Exit::Failed, message).with_details(damage).with_hint(hint)
}
