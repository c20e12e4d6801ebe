//! `taxond restore`

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    cli::{
        Global,
        data_folder::{DataFolder, blocking},
        failure::{Exit, Failure},
        fsck,
    },
    server,
};

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The file of `taxond backup`, or `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    folder: DataFolder,
}

impl Restore {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.folder.config()?;
        let folder = config.data_dir.display().to_string();
        let input: Box<dyn Read + Send> = if self.file == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(&self.file).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot read {}: {error}", self.file.display()))
            })?)
        };
        let report =
            blocking(move || server::restore(&config, BufReader::with_capacity(READ_BYTES, input))).await?;
        fsck::print(&folder, report, global.json)
    }
}
