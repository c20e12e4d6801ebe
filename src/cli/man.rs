//! `taxond man`

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use crate::cli::{
    Cli,
    failure::{Exit, Failure},
    output,
};

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The folder to write the pages to, one for each command; it is made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Failed, format!("cannot write to {}: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.folder).map_err(failed)?;
        output::line(format!("the pages are in {0}; read one with `man {0}/taxond.1`", self.folder.display()))
    }
}
