//! `taxond doctor`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        connection::Connection,
        data_folder::{DataFolder, blocking},
        failure::Failure,
        output::{self, Rows},
    },
    proto::v1::ListModelsRequest,
    server::{self, Finding},
};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    folder: DataFolder,
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.folder.config()?;
        let mut findings = vec![Finding {
            what: "taxond",
            found: format!("version {}", env!("CARGO_PKG_VERSION")),
            advice: None,
        }];
        findings.extend(blocking(move || Ok(server::examine(&config))).await?);
        findings.push(daemon(global).await);
        if global.json {
            for Finding { what, found, advice } in findings {
                output::json(&json!({ "what": what, "found": found, "advice": advice }))?;
            }
            return Ok(());
        }
        let mut rows = Rows::new(&["", "what", "found"]);
        for Finding { what, found, advice } in &findings {
            let mark = if advice.is_some() { "!" } else { "ok" };
            rows.push([mark.to_owned(), (*what).to_owned(), found.clone()]);
        }
        rows.print("")?;
        for Finding { what, advice, .. } in &findings {
            if let Some(advice) = advice {
                output::line(format!("{what}: {advice}"))?;
            }
        }
        Ok(())
    }
}

/// Whether a daemon answers where commands look for it.
async fn daemon(global: &Global) -> Finding {
    let asked = async {
        let connection = Connection::open(global).await?;
        let request = connection.request(ListModelsRequest { page_size: 1000, ..Default::default() });
        Ok::<_, Failure>(connection.registry().list_models(request).await?.into_inner())
    };
    let (found, advice) = match asked.await {
        Ok(page) => {
            let more = if page.next_page_token.is_empty() { "" } else { " and more" };
            (format!("answers at {} with {} models{more}", global.addr, page.models.len()), None)
        }
        Err(failure) => (
            format!("does not answer: {}", failure.to_string().lines().next().unwrap_or_default()),
            Some("start it with `taxond serve`, or say where it is with --addr or TAXOND_ADDR".to_owned()),
        ),
    };
    Finding { what: "daemon", found, advice }
}
