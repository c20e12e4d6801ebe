//! `taxond examples`: labelled texts of a model.

mod add;
mod delete;
mod export;
mod filter;
mod list;
mod relabel;
mod stats;

use clap::Subcommand;

use crate::cli::{Global, failure::Failure};

pub(super) use add::{pack, upload};

#[derive(Debug, Subcommand)]
pub(super) enum Examples {
    /// Store labelled texts: all of a file, or nothing
    Add(add::Add),
    /// Print stored texts
    List(list::List),
    /// Count stored texts by label, and show those that are stored under several classes
    Stats(stats::Stats),
    /// Give stored texts another label
    Relabel(relabel::Relabel),
    /// Write stored texts to a file or folder that `examples add` reads
    Export(export::Export),
    /// Remove stored texts
    Delete(delete::Delete),
}

impl Examples {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Add(command) => command.run(global).await,
            Self::List(command) => command.run(global).await,
            Self::Stats(command) => command.run(global).await,
            Self::Relabel(command) => command.run(global).await,
            Self::Export(command) => command.run(global).await,
            Self::Delete(command) => command.run(global).await,
        }
    }
}
