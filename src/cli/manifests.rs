//! `taxond manifests`: how the classes of a model changed.

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows},
    },
    proto::v1::{ClassState, ListManifestsRequest},
};

#[derive(Debug, Args)]
pub(super) struct Manifests {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
}

impl Manifests {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.taxonomy();
        let mut rows = Rows::new(&[">revision", ">from", "change", ">classes", "reason", "made"]);
        let mut request =
            ListManifestsRequest { model: self.model.clone(), ..ListManifestsRequest::default() };
        loop {
            let page = client.list_manifests(connection.request(request)).await?.into_inner();
            for manifest in page.manifests {
                if global.json {
                    output::json(&json::manifest(&manifest))?;
                    continue;
                }
                let active =
                    manifest.classes.iter().filter(|class| class.state() == ClassState::Active).count();
                let change = match manifest.description.as_str() {
                    "" => json::change(manifest.change()),
                    description => description.to_owned(),
                };
                rows.push([
                    manifest.revision.to_string(),
                    if manifest.parent_revision == 0 {
                        "-".to_owned()
                    } else {
                        manifest.parent_revision.to_string()
                    },
                    change,
                    active.to_string(),
                    manifest.reason,
                    output::moment(manifest.create_time.as_ref()),
                ]);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            let page_token = page.next_page_token;
            request = ListManifestsRequest {
                model: self.model.clone(),
                page_token,
                ..ListManifestsRequest::default()
            };
        }
        if global.json { Ok(()) } else { rows.print("no manifests; the first training makes one") }
    }
}
