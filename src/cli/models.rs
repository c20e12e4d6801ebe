//! `taxond models`

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows, count},
    },
    proto::v1::ListModelsRequest,
};

#[derive(Debug, Args)]
pub(super) struct Models {}

impl Models {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.registry();
        let mut rows = Rows::new(&["model", ">classes", ">examples", "aliases", ">latest", "job", "made"]);
        let mut request = ListModelsRequest::default();
        loop {
            let page = client.list_models(connection.request(request)).await?.into_inner();
            for model in page.models {
                if global.json {
                    output::json(&json::model(&model))?;
                    continue;
                }
                let mut aliases: Vec<_> =
                    model.aliases.iter().map(|(alias, version)| format!("{alias}={version}")).collect();
                aliases.sort();
                rows.push([
                    names::short(&model.name).to_owned(),
                    count(model.class_count.into()),
                    count(model.example_count),
                    aliases.join(" "),
                    model.latest_version.to_string(),
                    model.running_job,
                    output::moment(model.create_time.as_ref()),
                ]);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request = ListModelsRequest { page_token: page.next_page_token, ..ListModelsRequest::default() };
        }
        if global.json { Ok(()) } else { rows.print("no models; make one with `taxond create MODEL`") }
    }
}
