//! `taxond export`

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use tonic::{Request, Streaming};

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        names, output,
    },
    proto::v1::{ExportVersionRequest, ExportVersionResponse, GetVersionRequest},
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

        let partial = partial(&self.out);
        let bytes = match write(&partial, &mut chunks).await {
            Ok(bytes) => bytes,
            Err(failure) => {
                // A part of a file is of no use; one that cannot be removed is overwritten by the next export.
                let _removed = fs::remove_file(&partial);
                return Err(failure);
            }
        };
        fs::rename(&partial, &self.out).map_err(|error| cannot_write(&self.out, &error))?;
        let out = self.out.display().to_string();
        if global.json {
            return output::json(&json!({ "version": name, "file": out, "bytes": bytes }));
        }
        output::line(format!("{} is in {out} ({})", names::short(&name), output::bytes(bytes)))
    }
}

/// Writes a file as it comes, to the disk, and returns how many bytes there were.
async fn write(path: &Path, chunks: &mut Streaming<ExportVersionResponse>) -> Result<u64, Failure> {
    let failed = |error: io::Error| cannot_write(path, &error);
    let mut file = File::create(path).map_err(failed)?;
    let mut bytes = 0;
    while let Some(chunk) = chunks.message().await? {
        file.write_all(&chunk.data).map_err(failed)?;
        bytes += chunk.data.len() as u64;
    }
    file.sync_all().map_err(failed)?;
    Ok(bytes)
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
}

/// `bank.safetensors.partial` beside `bank.safetensors`, where the file stands until it is whole.
fn partial(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".partial");
    name.into()
}
