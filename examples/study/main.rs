//! Trains networks on CSV files (header `text,category`) without a daemon, and measures them: for choosing recipes and for
//! timing.
//!
//! ```text
//! cargo run --release --example study -- train --train train.csv --test test.csv --seed 1 --json
//! cargo run --release --example study -- splits --train train.csv --seed 1 --thin
//! cargo run --release --example study -- transfer --train train.csv --test test.csv --change split --json
//! ```
//!
//! A tenth of the training file, every tenth row, validates and chooses the best epoch. Without `--test` that tenth is
//! all that is measured.

mod daemon;
mod data;
mod splits;
mod train;
mod transfer;

use clap::{Parser, Subcommand};

/// Trains and measures networks without a daemon.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains from scratch and measures accuracy and seconds.
    Train(train::Options),
    /// Joins random pairs of classes, trains, and measures whether the suggested splits find them.
    Splits(splits::Options),
    /// Changes the classes of a trained network and measures what each stage of learning makes of it.
    Transfer(transfer::Options),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Train(options) => train::run(&options),
        Command::Splits(options) => splits::run(&options),
        Command::Transfer(options) => transfer::run(&options),
    }
}
