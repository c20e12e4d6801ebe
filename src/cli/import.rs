//! `taxond import`

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use clap::Args;
use tonic::Request;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        json, names, output,
    },
    proto::v1::ImportVersionRequest,
};

/// Bytes of a message.
const MESSAGE_BYTES: u64 = 256 << 10;

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The model: one that never had a version, or one that has the same classes
    #[arg(value_parser = names::model)]
    model: String,
    /// A file that `taxond export` wrote
    file: PathBuf,
}

impl Import {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let cannot = |error: &io::Error| {
            let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Invalid };
            Failure::new(exit, format!("cannot read {}: {error}", self.file.display()))
        };
        let file = File::open(&self.file).map_err(|error| cannot(&error))?;
        let connection = Connection::open(global).await?;
        let broken: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let messages = tokio_stream::iter(messages(self.model.clone(), file, Arc::clone(&broken)));
        let request = connection.patient(Request::new(messages));
        let outcome = connection.registry().import_version(request).await;
        // Where reading ended early, the daemon saw half a file, which is not what to tell.
        if let Some(error) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(cannot(&error));
        }
        let version = outcome?.into_inner().version.unwrap_or_default();
        if global.json {
            return output::json(&json::version(&version));
        }
        let model = names::short(&self.model);
        output::line(format!(
            "{} is {}, and serves nobody yet; `taxond promote {model} {}` changes that",
            self.file.display(),
            names::short(&version.name),
            version.number
        ))
    }
}

/// The file in messages, of which the first names the model. An error ends them.
fn messages(
    model: String,
    mut file: File,
    broken: Arc<Mutex<Option<io::Error>>>,
) -> impl Iterator<Item = ImportVersionRequest> + Send {
    let mut first = Some(model);
    std::iter::from_fn(move || {
        let mut data = Vec::new();
        match file.by_ref().take(MESSAGE_BYTES).read_to_end(&mut data) {
            Ok(0) if first.is_none() => None,
            Ok(_) => {
                let model = first.take().unwrap_or_default();
                Some(ImportVersionRequest { model, data, request_id: String::new() })
            }
            Err(error) => {
                *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        }
    })
}
