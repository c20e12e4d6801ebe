//! `taxond config`

use clap::{ArgMatches, Args, CommandFactory as _, Subcommand, parser::ValueSource};
use serde_json::{Map, json};

use crate::{
    cli::{Cli, Global, failure::Failure, output, serve::Given},
    server,
};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration, with the files that it names, and start nothing
    Check(Box<Check>),
    /// Show every setting, its value, and where that comes from
    Show(Box<Show>),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    given: Given,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    given: Given,
}

impl ConfigCommand {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Check(command) => {
                server::check(&command.given.config()?)?;
                match global.json {
                    true => output::json(&json!({"sound": true})),
                    false => output::line("the configuration is sound"),
                }
            }
            Self::Show(command) => command.run(global),
        }
    }
}

impl Show {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let in_file = self.given.file()?.values();
        // What was parsed knows no more where it came from, so the command line is read again.
        let matches = Cli::command().get_matches();
        let mut matches = &matches;
        while let Some((_, deeper)) = matches.subcommand() {
            matches = deeper;
        }
        let settings = self.given.config()?.resolved().values();
        let rows = settings
            .into_iter()
            .zip(in_file)
            .map(|((name, value), (_, in_file))| (name, value, source(matches, name, in_file.is_some())));
        if global.json {
            let object: Map<_, _> = rows
                .map(|(name, value, source)| (name.to_owned(), json!({"value": value, "source": source})))
                .collect();
            return output::json(&object.into());
        }
        for (name, value, source) in rows {
            let value = value.unwrap_or_else(|| "none".to_owned());
            output::line(format!("{name:22} {value}  ({source})"))?;
        }
        Ok(())
    }
}

fn source(matches: &ArgMatches, name: &str, is_in_file: bool) -> &'static str {
    match matches.value_source(name) {
        Some(ValueSource::CommandLine) => "flag",
        Some(ValueSource::EnvVariable) => "environment",
        _ if is_in_file => "file",
        _ => "default",
    }
}
