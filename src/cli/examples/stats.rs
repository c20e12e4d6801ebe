//! `taxond examples stats`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows, count},
        pages,
    },
    proto::v1::Conflict,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Stats {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
}

impl Stats {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let stats = pages::stats(&connection, &self.model).await?;
        if global.json {
            let labels = stats.labels.iter().map(|l| {
                json!({"label": l.label, "class_name": l.class_name, "train": l.train, "validation": l.validation})
            });
            return output::json(&json!({
                "model": self.model,
                "total": stats.total,
                "train": stats.train,
                "validation": stats.validation,
                "labels": labels.collect::<Vec<_>>(),
                "small_classes": stats.small_classes,
                "conflicts": stats.conflicts,
                "first_conflicts": stats.first_conflicts.iter().map(json::conflict).collect::<Vec<_>>(),
            }));
        }
        let mut rows = Rows::new(&["label", "class", ">train", ">validation"]);
        for label in stats.labels {
            rows.push([label.label, label.class_name, count(label.train), count(label.validation)]);
        }
        rows.print("no examples")?;
        output::line(format!(
            "{} examples: {} train, {} validate",
            count(stats.total),
            count(stats.train),
            count(stats.validation)
        ))?;
        if !stats.small_classes.is_empty() {
            output::line(small(&stats.small_classes))?;
        }
        match stats.conflicts {
            0 => Ok(()),
            texts => conflicts(names::short(&self.model), texts, &stats.first_conflicts),
        }
    }
}

/// What a training makes of classes with few examples.
fn small(classes: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = match classes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {} more", count(more as u64)),
    };
    let shown = classes[..classes.len().min(SHOWN)].join(", ");
    format!("too few examples to hold some out, so all of them train: {shown}{more}")
}

/// Prints texts that are stored under several classes, and how to put one right.
fn conflicts(model: &str, texts: u64, first: &[Conflict]) -> Result<(), Failure> {
    let mut rows = Rows::new(&[">id", "text", "label"]);
    for conflict in first {
        for (at, example) in conflict.examples.iter().enumerate() {
            let text = if at == 0 { output::excerpt(&conflict.text, 120) } else { String::new() };
            rows.push([example.id.to_string(), text, example.label.clone()]);
        }
    }
    output::line("")?;
    rows.print("")?;
    let texts = if texts == 1 { "1 text is".to_owned() } else { format!("{} texts are", count(texts)) };
    output::line(format!(
        "{texts} stored under several classes; `taxond examples relabel {model} --ids ID --to LABEL` puts one right"
    ))
}
