//! `taxond examples export`

mod fasttext;
mod folder;
mod parquet;
mod writer;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::writer::{Export as Writer, unfit};
use super::filter::FilterOptions;
use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        input::Format,
        names,
        output::{self, count, examples},
        progress::ProgressView,
    },
    proto::v1::{Example, ExampleFilter, GetModelRequest, ListExamplesRequest},
};

/// Largest page that the daemon gives.
const PAGE: u32 = 1000;
/// Examples that a message lists one by one.
const LISTED: usize = 10;

#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    #[command(flatten)]
    filter: FilterOptions,
    /// How to lay the examples out [default: by the ending of the file's name; csv]
    #[arg(long)]
    format: Option<Format>,
    /// Write to this file, packed if it ends in .gz or .zst, or folder; `-` is the standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Leave out examples that the format cannot hold instead of refusing
    #[arg(long)]
    skip_bad: bool,
}

/// Examples that a format cannot hold.
#[derive(Debug, Default)]
struct Unfit {
    count: u64,
    listed: Vec<String>,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let out = (self.out.as_os_str() != "-").then_some(self.out.as_path());
        let format = self.format.or_else(|| out.and_then(Format::of)).unwrap_or(Format::Csv);
        let connection = Connection::open(global).await?;
        let filter = self.filter.filter();
        let is_whole = matches!(format, Format::Csv | Format::Jsonl | Format::Parquet);
        if !is_whole && !self.skip_bad {
            let mut bad = Unfit::default();
            each(&connection, &self.model, &filter, |example| {
                bad.check(format, example);
                Ok(())
            })
            .await?;
            bad.refuse()?;
        }
        let mut view = ProgressView::new(global.json || out.is_none());
        let total = self.total(&connection, &filter).await?;
        let mut writer = Writer::open(format, out)?;
        let (mut written, mut bad) = (0, Unfit::default());
        let writing = each(&connection, &self.model, &filter, |example| {
            if bad.check(format, example) {
                return if self.skip_bad { Ok(()) } else { bad.refuse() };
            }
            writer.write(example)?;
            written += 1;
            if let Some(total) = total {
                view.counted(written, total.max(written), "examples");
            }
            Ok(())
        });
        let written_all = tokio::select! {
            all = writing => all,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        };
        view.clear();
        if let Err(failure) = written_all {
            writer.discard();
            return Err(failure);
        }
        writer.finish()?;
        bad.listed.iter().for_each(|what| output::aside(format!("left out {what}")));
        self.tell(written, bad.count, out.is_some(), global)
    }

    fn tell(&self, written: u64, left_out: u64, is_file: bool, global: &Global) -> Result<(), Failure> {
        let out = self.out.display().to_string();
        if global.json {
            // The standard output holds the examples alone.
            let told = json!({"model": self.model, "file": out, "exported": written, "left_out": left_out});
            return if is_file { output::json(&told) } else { Ok(()) };
        }
        let mut line = format!("{} of {} exported", examples(written), names::short(&self.model));
        if is_file {
            line += &format!(" to {out}");
        }
        if left_out > 0 {
            line += &format!(", {} left out that the format cannot hold", count(left_out));
        }
        if is_file {
            output::line(line)
        } else {
            output::aside(line);
            Ok(())
        }
    }

    /// How many examples there are to write, where that is known before they are read.
    async fn total(&self, connection: &Connection, filter: &ExampleFilter) -> Result<Option<u64>, Failure> {
        let request = connection.request(GetModelRequest { name: self.model.clone() });
        let model = connection.registry().get_model(request).await?.into_inner().model.unwrap_or_default();
        Ok((*filter == ExampleFilter::default()).then_some(model.example_count))
    }
}

/// Hands on all examples that match, in their order. Those that are added meanwhile come as well.
async fn each(
    connection: &Connection,
    model: &str,
    filter: &ExampleFilter,
    mut take: impl FnMut(&Example) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut client = connection.dataset();
    let mut page_token = String::new();
    loop {
        let request = ListExamplesRequest {
            model: model.to_owned(),
            filter: Some(filter.clone()),
            page_size: PAGE,
            page_token,
            ..ListExamplesRequest::default()
        };
        let page = client.list_examples(connection.request(request)).await?.into_inner();
        page.examples.iter().try_for_each(&mut take)?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

impl Unfit {
    /// Notes an example that the format cannot hold, and says whether it is one.
    fn check(&mut self, format: Format, example: &Example) -> bool {
        let Some(what) = unfit(format, example) else { return false };
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(format!("example {}: {what}", example.id));
        }
        true
    }

    fn refuse(&self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let unlisted = self.count - self.listed.len() as u64;
        let more = (unlisted > 0).then(|| format!("and {} more", count(unlisted)));
        let what = format!("the format cannot hold {}, nothing was exported", examples(self.count));
        Err(Failure::new(Exit::Invalid, what)
            .with_details(self.listed.iter().cloned().chain(more))
            .with_hint("choose csv, jsonl or parquet, or leave them out with --skip-bad"))
    }
}

#[cfg(test)]
mod tests;
