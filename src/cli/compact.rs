//! `taxond compact`

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
}

impl Compact {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.folder.config()?;
        let folder = config.data_dir.display().to_string();
        let sizes = blocking(move || server::compact(&config)).await?;
        if global.json {
            let document =
                json!({ "data_dir": folder, "bytes_before": sizes.before, "bytes_after": sizes.after });
            return output::json(&document);
        }
        output::line(format!("{folder}: {} before, {} now", bytes(sizes.before), bytes(sizes.after)))
    }
}
