//! `taxond split`

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::{
        Global,
        change::{self, ChangeOptions, LearnOptions},
        connection::Connection,
        failure::{Exit, Failure},
        input::{self, Format},
        names,
    },
    proto::v1::{ClassPart, SplitClassRequest, SplitClassResponse, split_class_response::Result as Step},
};

#[derive(Debug, Args)]
pub(super) struct Split {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// The class to split, by name or by `#` and id
    class: String,
    /// Name of a class it becomes; at least twice. One may keep the name: it takes what no other does
    #[arg(long, required = true, value_name = "NAME")]
    into: Vec<String>,
    /// Examples that match a regular expression go to a part
    #[arg(long, value_name = "NAME=REGEX", value_parser = rule)]
    pattern: Vec<(String, String)>,
    /// Examples stored under a label go to a part
    #[arg(long, value_name = "NAME=LABEL", value_parser = rule)]
    label: Vec<(String, String)>,
    /// Examples go to a part by their ids
    #[arg(long, value_name = "NAME=ID,ID..", value_parser = rule)]
    ids: Vec<(String, String)>,
    /// Labelled texts: each example with such a text goes to the part that the label names
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How that file is laid out [default: by the ending of its name]
    #[arg(long, requires = "file")]
    format: Option<Format>,
    /// The part that takes what no other does
    #[arg(long, value_name = "NAME")]
    rest: Option<String>,
    #[command(flatten)]
    options: ChangeOptions,
    #[command(flatten)]
    learning: LearnOptions,
}

fn rule(text: &str) -> Result<(String, String), String> {
    let (name, rule) = text.split_once('=').ok_or("must read NAME=.., where NAME is a part")?;
    Ok((name.trim().to_owned(), rule.to_owned()))
}

impl Split {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let parts = self.parts()?;
        let connection = Connection::open(global).await?;
        let detach = self.learning.detach;
        let request = SplitClassRequest {
            model: self.model.clone(),
            class_name: self.class,
            parts,
            request_id: String::new(),
            learn: self.learning.learn().into(),
            validate_only: self.options.dry_run,
            expected_revision: self.options.expected_revision,
            reason: self.options.reason,
            detach,
            force: self.learning.force,
        };
        let steps = connection.taxonomy().split_class(request).await?.into_inner();
        change::follow(&self.model, steps, told, detach, global.json).await
    }

    /// The parts with the rules that name them.
    fn parts(&self) -> Result<Vec<ClassPart>, Failure> {
        let part = |name: &String| ClassPart { name: name.clone(), ..ClassPart::default() };
        let mut parts: Vec<ClassPart> = self.into.iter().map(part).collect();
        for (name, pattern) in &self.pattern {
            let part = find(&mut parts, "--pattern", name)?;
            if !part.pattern.is_empty() {
                part.pattern.push('|');
            }
            part.pattern.push_str(&format!("(?:{pattern})"));
        }
        for (name, label) in &self.label {
            find(&mut parts, "--label", name)?.labels.push(label.clone());
        }
        for (name, ids) in &self.ids {
            let ids: Result<Vec<u64>, Failure> = ids.split(',').map(id).collect();
            find(&mut parts, "--ids", name)?.example_ids.extend(ids?);
        }
        if let Some(file) = &self.file {
            for example in input::read(file, self.format, false)?.examples {
                find(&mut parts, &file.display().to_string(), &example.label)?.texts.push(example.text);
            }
        }
        if let Some(name) = &self.rest {
            find(&mut parts, "--rest", name)?.remaining = true;
        }
        Ok(parts)
    }
}

fn id(text: &str) -> Result<u64, Failure> {
    let text = text.trim();
    text.parse()
        .map_err(|_| Failure::new(Exit::Usage, format!("--ids: '{text}' is not the id of an example")))
}

fn find<'a>(parts: &'a mut [ClassPart], flag: &str, name: &str) -> Result<&'a mut ClassPart, Failure> {
    let names = parts.iter().map(|part| part.name.clone()).collect::<Vec<_>>().join("', '");
    parts.iter_mut().find(|part| part.name == name).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{flag}: '{name}' is none of the parts, which are '{names}'"))
    })
}

change::told!(SplitClassResponse, Step);
