//! `taxond compact`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        data_folder::{DataFolder, blocking},
        failure::Failure,
        output::{self, bytes},
    },
    server,
};

#[derive(Debug, Args)]
pub(super) struct Compact {
    #[command(flatten)]
    folder: DataFolder,
    /// Write it into this folder, which is empty or not there, and leave the data folder as it is: for a disk
    /// that is full
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Compact {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.folder.config()?;
        let folder = config.data_dir.display().to_string();
        let to = self.to.as_ref().map(|to| to.display().to_string());
        let sizes = blocking(move || server::compact(&config, self.to.as_deref())).await?;
        if global.json {
            let document = json!({
                "data_dir": folder,
                "to": to,
                "bytes_before": sizes.before,
                "bytes_after": sizes.after,
            });
            return output::json(&document);
        }
        match to {
            Some(to) => output::line(format!(
                "{folder} stays as it is, {}; {to} holds the same, {}; start taxond with --data-dir {to}",
                bytes(sizes.before),
                bytes(sizes.after)
            )),
            None => {
                output::line(format!("{folder}: {} before, {} now", bytes(sizes.before), bytes(sizes.after)))
            }
        }
    }
}
