//! `taxond apply`

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use crate::{
    cli::{
        Global,
        change::{self, ChangeOptions, LearnOptions},
        connection::Connection,
        failure::{Exit, Failure},
        names,
    },
    proto::v1::{
        AddChange, ApplyChangesRequest, ApplyChangesResponse, ClassChange, ClassPart, MergeChange,
        MoveChange, RemoveChange, RenameChange, SplitChange, apply_changes_response::Result as Step,
        class_change::Change as Kind,
    },
};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Apply {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// The changes: a JSON list; `-` reads the standard input
    file: PathBuf,
    #[command(flatten)]
    options: ChangeOptions,
    #[command(flatten)]
    learning: LearnOptions,
}

const EXAMPLE: &str = r#"A list holds merge, split, add, remove, rename and move, with the fields of the API:
  [{"merge": {"classes": ["a", "b"], "into": "ab"}},
   {"split": {"class_name": "c", "parts": [{"name": "c1", "pattern": "now"}, {"name": "c2", "remaining": true}]}},
   {"add": {"names": ["d"]}}, {"remove": {"classes": ["e"]}},
   {"rename": {"class_name": "f", "new_name": "g"}},
   {"move": {"class_name": "g", "parent": "group", "create_parent": true}}]"#;

/// A change as the file says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    Merge { classes: Vec<String>, into: String },
    Split { class_name: String, parts: Vec<Part> },
    Add { names: Vec<String> },
    Remove { classes: Vec<String> },
    Rename { class_name: String, new_name: String },
    Move(Place),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    class_name: String,
    #[serde(default)]
    parent: String,
    #[serde(default)]
    create_parent: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Part {
    name: String,
    example_ids: Vec<u64>,
    texts: Vec<String>,
    labels: Vec<String>,
    pattern: String,
    remaining: bool,
}

impl From<Change> for ClassChange {
    fn from(change: Change) -> Self {
        let part = |part: Part| {
            let Part { name, example_ids, texts, labels, pattern, remaining } = part;
            ClassPart { name, example_ids, texts, labels, pattern, remaining }
        };
        let change = match change {
            Change::Merge { classes, into } => Kind::Merge(MergeChange { classes, into }),
            Change::Split { class_name, parts } => {
                Kind::Split(SplitChange { class_name, parts: parts.into_iter().map(part).collect() })
            }
            Change::Add { names } => Kind::Add(AddChange { names }),
            Change::Remove { classes } => Kind::Remove(RemoveChange { classes }),
            Change::Rename { class_name, new_name } => Kind::Rename(RenameChange { class_name, new_name }),
            Change::Move(Place { class_name, parent, create_parent }) => {
                Kind::Move(MoveChange { class_name, parent, create_parent })
            }
        };
        Self { change: Some(change) }
    }
}

impl Apply {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let changes = read(&self.file)?;
        let connection = Connection::open(global).await?;
        let detach = self.learning.detach;
        let request = ApplyChangesRequest {
            model: self.model.clone(),
            changes: changes.into_iter().map(ClassChange::from).collect(),
            request_id: String::new(),
            learn: self.learning.learn().into(),
            validate_only: self.options.dry_run,
            expected_revision: self.options.expected_revision,
            reason: self.options.reason,
            detach,
            force: self.learning.force,
        };
        let steps = connection.taxonomy().apply_changes(request).await?.into_inner();
        change::follow(&self.model, steps, told, detach, global.json).await
    }
}

fn read(file: &Path) -> Result<Vec<Change>, Failure> {
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(file),
    };
    let fail = |what: String| Failure::new(Exit::Usage, format!("{}: {what}", file.display()));
    let text = text.map_err(|cause| fail(cause.to_string()))?;
    serde_json::from_str(&text).map_err(|cause| fail(format!("is not a list of changes: {cause}")))
}

change::told!(ApplyChangesResponse, Step);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_help_is_a_list_of_changes() {
        let (_, list) = EXAMPLE.split_once('\n').unwrap();
        let changes: Vec<Change> = serde_json::from_str(list).unwrap();
        let kinds: Vec<ClassChange> = changes.into_iter().map(ClassChange::from).collect();
        assert_eq!(kinds.len(), 6);
        assert!(matches!(&kinds[1].change, Some(Kind::Split(split)) if split.parts[1].remaining));
        assert!(serde_json::from_str::<Vec<Change>>(r#"[{"merge": {"classes": [], "in": "a"}}]"#).is_err());
    }
}
