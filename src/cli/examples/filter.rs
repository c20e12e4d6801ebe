//! The options that choose stored examples.

use clap::{Args, ValueEnum};

use crate::proto::v1::{ExampleFilter, Split};

/// Examples that match all options that are given.
#[derive(Debug, Clone, Args)]
pub(super) struct FilterOptions {
    /// Only these examples, by id, separated by commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    ids: Vec<u64>,
    /// Only examples stored under this label
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    /// Only examples whose label means this class now, by name or by `#` and its id; a group stands for all below it
    #[arg(long, default_value = "", hide_default_value = true)]
    class: String,
    /// Only texts that contain this; case, width and white space make no difference
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    contains: String,
    /// Only examples on this side of the split
    #[arg(long)]
    split: Option<Side>,
    /// Only texts that are stored under several classes
    #[arg(long)]
    conflicting: bool,
}

/// Examples to change or remove.
#[derive(Debug, Clone, Args)]
pub(super) struct ChosenOptions {
    #[command(flatten)]
    filter: FilterOptions,
    /// All examples of the model
    #[arg(long, conflicts_with_all = ["ids", "label", "class", "contains", "split", "conflicting"])]
    all: bool,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Side {
    Train,
    Validation,
}

impl FilterOptions {
    /// The filter as the daemon takes it.
    pub(super) fn filter(&self) -> ExampleFilter {
        let split = match self.split {
            None => Split::Unspecified,
            Some(Side::Train) => Split::Train,
            Some(Side::Validation) => Split::Validation,
        };
        ExampleFilter {
            ids: self.ids.clone(),
            label: self.label.clone(),
            class_name: self.class.clone(),
            text_contains: self.contains.clone(),
            split: split.into(),
            conflicting: self.conflicting,
            all: false,
        }
    }
}

impl ChosenOptions {
    /// The filter as the daemon takes it.
    pub(super) fn filter(&self) -> ExampleFilter {
        ExampleFilter { all: self.all, ..self.filter.filter() }
    }
}
