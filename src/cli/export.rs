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
        failure::Failure,
        names::{self, Target},
        output,
    },
    proto::v1::{ExportVersionRequest, GetVersionRequest},
};

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    target: Target,
    /// The file to write, by custom FILE.safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let name = self.target.name()?;
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
