//! `taxond export`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tonic::Request;

use crate::{
    cli::{
        Global,
        connection::Connection,
        download,
        failure::{Exit, Failure},
        names, output,
    },
    proto::v1::{ExportVersionRequest, GetVersionRequest},
};

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The model, or one of its versions or aliases: bank, bank/versions/3, bank@canary
    #[arg(value_parser = names::target)]
    model: String,
    /// The version to export instead of the one that serves
    #[arg(long, value_parser = names::version, value_name = "N", conflicts_with = "alias")]
    version: Option<u64>,
    /// Export the version that this alias points to
    #[arg(long)]
    alias: Option<String>,
    /// The file to write, by custom FILE.safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let name = names::chosen(&self.model, self.version, self.alias.as_deref())
            .map_err(|what| Failure::new(Exit::Usage, what))?;
        let connection = Connection::open(global).await?;
        let mut client = connection.registry();
        // An alias may move meanwhile: which version it is, is settled here.
        let request = connection.request(GetVersionRequest { name });
        let name = client.get_version(request).await?.into_inner().version.unwrap_or_default().name;
        let request = connection.patient(Request::new(ExportVersionRequest { name: name.clone() }));
        let mut chunks = client.export_version(request).await?.into_inner();

        let bytes = download::to_file(&self.out, &mut chunks, |chunk| chunk.data).await?;
        let out = self.out.display().to_string();
        if global.json {
            return output::json(&json!({ "version": name, "file": out, "bytes": bytes }));
        }
        output::line(format!("{} is in {out} ({})", names::short(&name), output::bytes(bytes)))
    }
}
