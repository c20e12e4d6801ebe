//! `taxond backup`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tonic::Request;

use crate::{
    cli::{Global, connection::Connection, download, failure::Failure, output},
    proto::v1::BackupRequest,
};

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to write, or `-` for standard output
    file: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let request = connection.patient(Request::new(BackupRequest {}));
        let mut stream = connection.admin().backup(request).await?.into_inner();
        if self.file == Path::new("-") {
            let bytes = download::to_stdout(&mut stream, |message| message.data).await?;
            output::aside(format!("backup sent ({})", output::bytes(bytes)));
            return Ok(());
        }
        let bytes = download::to_file(&self.file, &mut stream, |message| message.data).await?;
        let file = self.file.display().to_string();
        if global.json {
            return output::json(&json!({ "file": file, "bytes": bytes }));
        }
        output::line(format!("everything is in {file} ({})", output::bytes(bytes)))
    }
}
