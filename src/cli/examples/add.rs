//! `taxond examples add`

use std::path::PathBuf;

use clap::Args;
use prost::Message as _;
use serde_json::json;
use tonic::Request;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        input::{self, Fault, Format},
        names, output,
        progress::ProgressView,
    },
    proto::v1::{AddExamplesRequest, AddExamplesResponse, LabelledText},
};

/// Examples of a message.
const MESSAGE_EXAMPLES: usize = 1000;
/// Bytes of a message, well below the 4 MiB that the daemon takes; one text alone may have 64 KiB.
const MESSAGE_BYTES: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// CSV, TSV, JSON Lines or Parquet with text and category; fastText; also as gzip or zstd; `-` for the standard input; or
    /// a folder with a file, or a folder of files, a class
    path: PathBuf,
    /// How it is laid out [default: by the ending of the name; Parquet and fastText show themselves]
    #[arg(long)]
    format: Option<Format>,
    /// Leave bad rows out instead of refusing the file
    #[arg(long)]
    skip_bad: bool,
}

impl Add {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let input = input::read(&self.path, self.format, self.skip_bad)?;
        input.faults.tell_skipped();
        let connection = Connection::open(global).await?;
        let stored = upload(&connection, &self.model, input.examples, global.json).await?;
        if global.json {
            let row = |fault: &Fault| json!({"file": fault.file, "row": fault.row, "what": fault.what});
            return output::json(&json!({
                "model": self.model,
                "added": stored.added,
                "duplicates": stored.duplicates,
                "conflicts": stored.conflicts,
                "skipped": input.faults.count(),
                "too_long": input.faults.too_long(),
                "skipped_rows": input.faults.listed().iter().map(row).collect::<Vec<_>>(),
                "total": stored.total,
            }));
        }
        let name = names::short(&self.model);
        let mut skipped = format!("{} bad rows skipped", output::count(input.faults.count()));
        if input.faults.too_long() > 0 {
            skipped += &format!(", {} of them too long", output::count(input.faults.too_long()));
        }
        output::line(format!(
            "{} examples added, {} were there already, {skipped}; {name} has {} now",
            output::count(stored.added),
            output::count(stored.duplicates),
            output::count(stored.total),
        ))?;
        match stored.conflicts {
            0 => Ok(()),
            conflicts => output::line(format!(
                "{} added with a text that is there with another label; `taxond examples stats {name}` shows such texts",
                output::examples(conflicts)
            )),
        }
    }
}

/// Sends examples in one stream, which the daemon stores as a whole.
pub(in crate::cli) async fn upload(
    connection: &Connection,
    model: &str,
    examples: Vec<LabelledText>,
    quiet: bool,
) -> Result<AddExamplesResponse, Failure> {
    let mut view = ProgressView::new(quiet);
    let total = examples.len() as u64;
    let model = model.to_owned();
    let mut sent = 0;
    // Messages are taken as the connection has room for them, so that the bar shows what has left.
    let messages = pack(examples).into_iter().map(move |examples| {
        let message = AddExamplesRequest { model: model.clone(), examples, request_id: String::new() };
        sent += message.examples.len() as u64;
        view.counted(sent, total, "examples sent");
        if sent == total {
            view.clear();
        }
        message
    });
    let request = connection.patient(Request::new(tokio_stream::iter(messages)));
    Ok(connection.dataset().add_examples(request).await?.into_inner())
}

/// Cuts examples into messages.
pub(in crate::cli) fn pack(examples: Vec<LabelledText>) -> Vec<Vec<LabelledText>> {
    let mut messages = Vec::new();
    let mut message = Vec::new();
    let mut bytes = 0;
    for example in examples {
        // The key and the length of the field around it take at most six bytes.
        let size = example.encoded_len() + 6;
        if !message.is_empty() && (message.len() == MESSAGE_EXAMPLES || bytes + size > MESSAGE_BYTES) {
            messages.push(std::mem::take(&mut message));
            bytes = 0;
        }
        bytes += size;
        message.push(example);
    }
    if !message.is_empty() {
        messages.push(message);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_and_lose_nothing() {
        let short = |n: usize| LabelledText { text: format!("text {n}"), label: "a".into() };
        let long = |n: usize| LabelledText { text: "x".repeat(60_000 + n), label: "b".into() };
        let examples: Vec<_> = (0..2500).map(short).chain((0..100).map(long)).collect();
        let messages = pack(examples.clone());
        for message in &messages {
            let bytes = AddExamplesRequest { examples: message.clone(), ..AddExamplesRequest::default() }
                .encoded_len();
            assert!(
                !message.is_empty() && message.len() <= MESSAGE_EXAMPLES && bytes <= MESSAGE_BYTES,
                "{bytes}"
            );
        }
        assert_eq!(messages.concat(), examples);
        assert!(pack(Vec::new()).is_empty());
    }
}
