//! Puts load on a daemon and measures its answers; and, as `serve-echo`, a server that does nothing but answer.
//!
//! ```text
//! cargo run --release --example load -- --addr 127.0.0.1:50061 --model bank --file test.csv --scenario c64 --json
//! cargo run --release --example load -- serve-echo --addr 127.0.0.1:50070
//! ```
//!
//! What the scenarios are, and how to read the figures: docs/performance.md.

mod client;
mod echo;
mod health;
mod process;
mod report;
mod scenario;
mod tally;
mod texts;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use scenario::Scenario;

/// Puts load on Predict and measures its answers.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Option<Options>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers every text at once with the same class: what transport and protobuf cost by themselves
    ServeEcho(echo::ServeEcho),
}

#[derive(Debug, Args)]
struct Options {
    /// Where the daemon listens, for example 127.0.0.1:50061
    #[arg(long)]
    addr: String,
    /// Model, version or alias that is asked
    #[arg(long)]
    model: String,
    /// Texts to ask about: the column `text` of a .csv file, else one a line
    #[arg(long)]
    file: PathBuf,
    /// How they are asked
    #[arg(long, value_enum)]
    scenario: Scenario,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    seconds: f64,
    /// Seconds of load before these, which do not count
    #[arg(long, default_value_t = 2.0, value_parser = not_negative)]
    warmup: f64,
    /// Connections, which take turns; a daemon allows 128 calls at once on each [default: 1; overload: 32]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// Requests, or messages of a stream, that wait for answers at once; the most that do with overload
    /// [default: by the scenario]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: Option<u32>,
    /// Texts of a request [default: by the scenario]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    texts: Option<u32>,
    /// Requests a second of overload, sent whatever is answered
    #[arg(long, value_parser = positive, required_if_eq("scenario", "overload"))]
    rate: Option<f64>,
    /// Process of the daemon, whose memory is reported
    #[arg(long)]
    pid: Option<u32>,
    /// Ask grpc.health.v1 every 50 ms meanwhile, and report how long its answers take
    #[arg(long)]
    health: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("error: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    match (cli.command, cli.options) {
        (Some(Command::ServeEcho(echo)), _) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(echo.run())
        }
        (None, Some(options)) => {
            // One thread: what measures shares the processor with what is measured.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let report = runtime.block_on(scenario::run(&options))?;
            if options.json {
                println!("{}", report.json())
            } else {
                println!("{}", report.table())
            }
            Ok(())
        }
        (None, None) => Err("nothing to do; see --help".into()),
    }
}

fn positive(value: &str) -> Result<f64, String> {
    not_negative(value).and_then(|value| if value > 0.0 { Ok(value) } else { Err("must be above 0".into()) })
}

fn not_negative(value: &str) -> Result<f64, String> {
    let value: f64 = value.parse().map_err(|_| "is no number".to_owned())?;
    if (0.0..=1e9).contains(&value) { Ok(value) } else { Err("must be 0 to 1e9".into()) }
}
