//! `taxond examples stats`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        names,
        output::{self, Rows, count},
    },
    proto::v1::GetStatsRequest,
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
        let request = connection.request(GetStatsRequest { model: self.model.clone() });
        let stats = connection.dataset().get_stats(request).await?.into_inner();
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
        ))
    }
}
