//! The command line: `taxond serve` is the daemon, `taxond demo` shows it, the rest are its clients over gRPC.
//!
//! One file a subcommand. People get tables and progress bars, programs get JSON documents with `--json`, and every
//! failure says what to do and ends with an exit code of its cause.

mod add;
mod apply;
mod backup;
mod cancel;
mod change;
mod classes;
mod compact;
mod completions;
mod config;
mod confirm;
mod connection;
mod create;
mod credentials;
mod curves;
mod data_folder;
mod delete;
pub mod demo;
mod doctor;
mod download;
mod evaluate;
mod examples;
mod export;
mod failure;
mod follow;
mod fsck;
mod history;
mod import;
mod input;
mod jobs;
mod json;
mod log;
mod man;
mod manifests;
mod merge;
mod models;
mod names;
mod outlet;
mod output;
mod pages;
mod place;
mod predict;
mod progress;
mod promote;
mod remove;
mod rename;
mod report;
mod restore;
mod serve;
mod show;
mod split;
mod suggest;
mod token;
mod train;
mod undo;
mod versions;
mod watch;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::text::person;
use failure::{EXIT_CODES, Exit, Failure};
#[cfg(any(test, fuzzing))]
pub(crate) use input::fuzzing;

/// Text classifiers whose categories keep changing: a gRPC daemon and its command line.
#[derive(Debug, Parser)]
#[command(name = "taxond", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Address of the daemon: http://HOST:PORT, https://HOST:PORT or unix:///PATH
    #[arg(
        long,
        global = true,
        env = "TAXOND_ADDR",
        default_value = "http://127.0.0.1:50061",
        value_name = "URL"
    )]
    pub(crate) addr: String,
    /// Authorities, in PEM, that a daemon behind TLS may have its certificate from
    #[arg(long, global = true, help_heading = "Global options", env = "TAXOND_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Certificate, in PEM, to show to a daemon that asks for one
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "TAXOND_CLIENT_CERT",
        value_name = "FILE"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// Private key of that certificate, in PEM
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "TAXOND_CLIENT_KEY",
        value_name = "FILE"
    )]
    pub(crate) client_key: Option<PathBuf>,
    /// Token that says who calls; the file below does not show in lists of processes
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "TAXOND_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// File that holds the token
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "TAXOND_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Name that the history keeps of who changes something [default: that of the environment]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "TAXOND_USER",
        value_name = "NAME",
        value_parser = person
    )]
    pub(crate) user: Option<String>,
    /// Print JSON documents, one a line, instead of tables
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Give up on a call after this long [default: 30; calls that measure or learn: no limit]
    #[arg(long, global = true, help_heading = "Global options", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(Box<serve::Serve>),
    /// The configuration of the daemon: check it, or show what holds and why
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check that everything in the data folder of a stopped daemon is whole
    Fsck(fsck::Fsck),
    /// Write everything that the daemon keeps to one file, while it serves
    Backup(backup::Backup),
    /// Make a data folder of a backup
    Restore(restore::Restore),
    /// Write the data folder of a stopped daemon anew, without the space that it no longer needs
    Compact(compact::Compact),
    /// Show the whole in two minutes: train on a bank's questions, predict, merge two classes, compare
    Demo(demo::Demo),
    /// Make a model
    Create(create::Create),
    /// Remove a model with its examples, manifests and versions, or one version
    Delete(delete::Delete),
    /// Labelled texts of a model
    #[command(subcommand)]
    Examples(examples::Examples),
    /// Train a model on its examples
    Train(train::Train),
    /// Ask which class texts belong to
    Predict(predict::Predict),
    /// Measure a model on labelled texts
    Evaluate(evaluate::Evaluate),
    /// Make one class of several
    Merge(merge::Merge),
    /// Make several classes of one, and divide its examples among them
    Split(split::Split),
    /// Apply a list of changes as one
    Apply(apply::Apply),
    /// List pairs of classes to merge, classes to split, or labels that are probably wrong
    Suggest(suggest::Suggest),
    /// Give a class another name
    Rename(rename::Rename),
    /// Put a class into a group, or at the top
    Move(place::Move),
    /// Add classes, which get next to no probability until they are learnt
    Add(add::Add),
    /// Take classes out
    Remove(remove::Remove),
    /// Undo the latest change of the classes
    Undo(undo::Undo),
    /// Show one thing with all that is known of it: a model, version, manifest or job
    Show(show::Show),
    /// List models
    Models(models::Models),
    /// List the versions of a model
    Versions(versions::Versions),
    /// Show how a version was learnt, epoch by epoch
    Curves(curves::Curves),
    /// Write a page with pictures: how good a version is, what it confuses, how it came to be
    Report(report::Report),
    /// List the classes of a model
    Classes(classes::Classes),
    /// List how the classes of a model changed
    Manifests(manifests::Manifests),
    /// Tell what was changed, by whom, why, and what it did to the accuracy
    History(history::History),
    /// List jobs
    Jobs(jobs::Jobs),
    /// Follow jobs, each with a bar of its own
    Watch(watch::Watch),
    /// End a job
    Cancel(cancel::Cancel),
    /// Point an alias to a version, `serving` if none is named
    Promote(promote::Promote),
    /// Write a version to a file, which other programs can open as well
    Export(export::Export),
    /// Take a version from a file into a model
    Import(import::Import),
    /// Look at this machine and tell what stands in the way of a daemon
    Doctor(doctor::Doctor),
    /// Make a token for whoever shall call the daemon
    Token(token::Token),
    /// Print a completion script
    Completions(completions::Completions),
    /// Write manual pages
    Man(man::Man),
}

/// Runs a command line to its end; prints a failure and turns it into an exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    let json = global.json;
    match dispatch(global, command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.exit as u8)
        }
    }
}

async fn dispatch(global: Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(command) => command.run().await,
        Command::Config(command) => command.run(&global),
        Command::Fsck(command) => command.run(&global).await,
        Command::Backup(command) => command.run(&global).await,
        Command::Restore(command) => command.run(&global).await,
        Command::Compact(command) => command.run(&global).await,
        Command::Demo(command) => command.run(&global).await,
        Command::Create(command) => command.run(&global).await,
        Command::Delete(command) => command.run(&global).await,
        Command::Examples(command) => command.run(&global).await,
        Command::Train(command) => command.run(&global).await,
        Command::Predict(command) => command.run(&global).await,
        Command::Evaluate(command) => command.run(&global).await,
        Command::Merge(command) => command.run(&global).await,
        Command::Split(command) => command.run(&global).await,
        Command::Apply(command) => command.run(&global).await,
        Command::Rename(command) => command.run(&global).await,
        Command::Report(command) => command.run(&global).await,
        Command::Add(command) => command.run(&global).await,
        Command::Suggest(command) => command.run(&global).await,
        Command::Move(command) => command.run(&global).await,
        Command::Remove(command) => command.run(&global).await,
        Command::Undo(command) => command.run(&global).await,
        Command::Show(command) => command.run(&global).await,
        Command::Models(command) => command.run(&global).await,
        Command::Versions(command) => command.run(&global).await,
        Command::Curves(command) => command.run(&global).await,
        Command::Classes(command) => command.run(&global).await,
        Command::Manifests(command) => command.run(&global).await,
        Command::History(command) => command.run(&global).await,
        Command::Jobs(command) => command.run(&global).await,
        Command::Watch(command) => command.run(&global).await,
        Command::Cancel(command) => command.run(&global).await,
        Command::Promote(command) => command.run(&global).await,
        Command::Export(command) => command.run(&global).await,
        Command::Import(command) => command.run(&global).await,
        Command::Doctor(command) => command.run(&global).await,
        Command::Token(command) => command.run(&global),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}

fn report(failure: &Failure, json: bool) {
    if failure.is_silent() {
        return;
    }
    if json {
        output::json_aside(&failure.to_json());
    } else if failure.exit == Exit::Interrupted {
        // What the user asked for is no error.
        output::aside(failure.to_string());
    } else {
        output::aside(format!("error: {failure}"));
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err("must be above 0 and at most 86400".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_tells_the_exit_codes() {
        assert!(Cli::command().render_long_help().to_string().contains("130  interrupted"));
    }

    /// Each command with those below it.
    fn walk(command: clap::Command) -> Vec<clap::Command> {
        let below = command.get_subcommands().cloned().flat_map(walk).collect::<Vec<_>>();
        [command].into_iter().chain(below).collect()
    }

    #[test]
    fn the_help_of_every_command_fits_a_terminal_and_explains_every_word() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let commands = walk(command);
        assert!(commands.len() > 40, "{}", commands.len());
        for mut command in commands {
            let name = command.get_name().to_owned();
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
            }
            for help in [command.render_help(), command.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80 || line.starts_with("Usage:"), "{name}: {line}");
                }
            }
        }
    }

    #[test]
    fn durations_are_checked() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unreachable_daemon_has_an_exit_code_of_its_own() {
        // Port 1 of the loopback is reserved and nobody listens there.
        let cli = Cli::try_parse_from(["taxond", "--addr", "127.0.0.1:1", "models"]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let failure = runtime.block_on(dispatch(cli.global, cli.command)).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.to_string().contains("taxond serve"), "{failure}");
    }
}
