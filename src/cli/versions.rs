//! `taxond versions`

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows, percent_or_dash},
    },
    proto::v1::{GetModelRequest, ListVersionsRequest, Version, VersionOrigin},
};

#[derive(Debug, Args)]
pub(super) struct Versions {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
}

impl Versions {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.registry();
        let request = connection.request(GetModelRequest { name: self.model.clone() });
        let aliases = client.get_model(request).await?.into_inner().model.unwrap_or_default().aliases;

        let titles = [">version", "from", "how", ">revision", ">accuracy", ">size", "made", "aliases"];
        let mut rows = Rows::new(&titles);
        let mut request = ListVersionsRequest { model: self.model.clone(), ..ListVersionsRequest::default() };
        loop {
            let page = client.list_versions(connection.request(request)).await?.into_inner();
            for version in page.versions {
                if global.json {
                    output::json(&json::version(&version))?;
                    continue;
                }
                let mut pointing: Vec<_> = aliases
                    .iter()
                    .filter(|(_, number)| **number == version.number)
                    .map(|(alias, _)| &**alias)
                    .collect();
                pointing.sort_unstable();
                rows.push([
                    version.number.to_string(),
                    if version.parent == 0 { "-".to_owned() } else { version.parent.to_string() },
                    how(&version),
                    version.manifest_revision.to_string(),
                    percent_or_dash(version.report.as_ref().and_then(|report| report.validation_accuracy)),
                    output::bytes(version.size_bytes),
                    output::moment(version.create_time.as_ref()),
                    pointing.join(" "),
                ]);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            let page_token = page.next_page_token;
            request = ListVersionsRequest {
                model: self.model.clone(),
                page_token,
                ..ListVersionsRequest::default()
            };
        }
        if global.json { Ok(()) } else { rows.print("no versions; make one with `taxond train MODEL`") }
    }
}

/// How a version came to be, in a word.
fn how(version: &Version) -> String {
    match version.origin() {
        VersionOrigin::Training => json::mode(version.mode()),
        origin => json::origin(origin),
    }
}
