//! `taxond undo`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{Global, connection::Connection, failure::Failure, json, names, output},
    proto::v1::UndoChangeRequest,
};

#[derive(Debug, Args)]
pub(super) struct Undo {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Only if the manifest being served has this revision
    #[arg(long, value_name = "N")]
    expected_revision: Option<u64>,
    /// Why, kept in the manifest
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl Undo {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let request = UndoChangeRequest {
            model: self.model.clone(),
            expected_revision: self.expected_revision,
            reason: self.reason,
            request_id: String::new(),
        };
        let undone = connection.taxonomy().undo_change(connection.request(request)).await?.into_inner();
        let (manifest, version) = (undone.manifest.unwrap_or_default(), undone.version.unwrap_or_default());
        if global.json {
            return output::json(
                &json!({"manifest": json::manifest(&manifest), "version": json::version(&version)}),
            );
        }
        output::line(format!(
            "{}: {}; version {} answers in revision {}",
            names::short(&self.model),
            manifest.description,
            version.number,
            manifest.revision
        ))
    }
}
