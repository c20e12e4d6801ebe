//! `taxond examples list`

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows},
    },
    proto::v1::ListExamplesRequest,
};

use super::filter::FilterOptions;

/// Largest page that the daemon gives.
const PAGE: u64 = 1000;

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    #[command(flatten)]
    filter: FilterOptions,
    /// Examples to print at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u64,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.dataset();
        let mut rows = Rows::new(&[">id", "text", "label", "class", "split"]);
        let (mut left, mut page_token) = (self.limit, String::new());
        let filter = self.filter.filter();
        while left > 0 {
            let request = ListExamplesRequest {
                model: self.model.clone(),
                filter: Some(filter.clone()),
                page_size: left.min(PAGE) as u32,
                page_token,
                ..ListExamplesRequest::default()
            };
            let page = client.list_examples(connection.request(request)).await?.into_inner();
            left -= left.min(page.examples.len() as u64);
            for example in page.examples {
                if global.json {
                    output::json(&json::example(&example))?;
                    continue;
                }
                let split = json::split(example.split());
                let text = output::excerpt(&example.text, 120);
                rows.push([example.id.to_string(), text, example.label, example.class_name, split]);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if global.json {
            return Ok(());
        }
        rows.print("no examples")?;
        if page_token.is_empty() { Ok(()) } else { output::line("there are more; see --limit") }
    }
}
