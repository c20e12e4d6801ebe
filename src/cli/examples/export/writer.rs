//! What writes examples, and what it cannot write.

use std::{
    io::{self, Write as _},
    path::Path,
};

use csv::{QuoteStyle, WriterBuilder};

use super::{fasttext, folder, parquet};
use crate::{
    cli::{
        failure::Failure,
        input::Format,
        json,
        outlet::{Outlet, Packer},
    },
    proto::v1::Example,
};

/// Columns of a table of examples, as in the documents of `examples list`.
pub(super) const COLUMNS: [&str; 6] = ["id", "text", "label", "class_name", "split", "create_time"];

/// Writes examples one by one.
pub(super) trait Write {
    fn write(&mut self, example: &Example) -> io::Result<()>;

    /// Writes what ends the file.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Why a format cannot hold an example so that it is read back as it is.
pub(super) fn unfit(format: Format, example: &Example) -> Option<&'static str> {
    match format {
        Format::Csv | Format::Jsonl | Format::Parquet => None,
        Format::Tsv => {
            example.text.contains(['\t', '\n', '\r']).then_some("the text holds a tab or the end of a line")
        }
        Format::FastText => fasttext::unfit(example),
        Format::Folder => folder::unfit(example),
    }
}

/// A file under way, or a folder.
pub(super) struct Export {
    writer: Box<dyn Write>,
    place: Place,
}

enum Place {
    File(Outlet),
    Folder(folder::Place),
}

impl Export {
    /// # Errors
    /// The file or folder cannot be made.
    pub(super) fn open(format: Format, out: Option<&Path>) -> Result<Self, Failure> {
        let writer: fn(Packer) -> io::Result<Box<dyn Write>> = match format {
            Format::Csv => |packer| Ok(Box::new(Table::new(packer, b',', QuoteStyle::Necessary)?)),
            Format::Tsv => |packer| Ok(Box::new(Table::new(packer, b'\t', QuoteStyle::Never)?)),
            Format::Jsonl => |packer| Ok(Box::new(JsonLines(packer))),
            Format::Parquet => |packer| Ok(Box::new(parquet::Writer::new(packer)?)),
            Format::FastText => |packer| Ok(Box::new(fasttext::Writer(packer))),
            Format::Folder => {
                let (place, writer) = folder::open(out)?;
                return Ok(Self { writer: Box::new(writer), place: Place::Folder(place) });
            }
        };
        let (outlet, packer) = Outlet::open(out)?;
        let writer = writer(packer).map_err(|e| outlet.failed(&e))?;
        Ok(Self { writer, place: Place::File(outlet) })
    }

    pub(super) fn write(&mut self, example: &Example) -> Result<(), Failure> {
        self.writer.write(example).map_err(|e| self.place.failed(&e))
    }

    /// Ends the file and puts it in its place.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if let Err(error) = self.writer.finish() {
            let failure = self.place.failed(&error);
            self.place.discard();
            return Err(failure);
        }
        match self.place {
            Place::File(outlet) => outlet.settle(),
            Place::Folder(place) => place.settle(),
        }
    }

    /// Removes what there is of it.
    pub(super) fn discard(self) {
        drop(self.writer);
        self.place.discard();
    }
}

impl Place {
    fn failed(&self, error: &io::Error) -> Failure {
        match self {
            Self::File(outlet) => outlet.failed(error),
            Self::Folder(place) => place.failed(error),
        }
    }

    fn discard(self) {
        match self {
            Self::File(outlet) => outlet.discard(),
            Self::Folder(place) => place.discard(),
        }
    }
}

/// CSV or TSV.
struct Table(csv::Writer<Packer>);

impl Table {
    fn new(packer: Packer, delimiter: u8, quoting: QuoteStyle) -> io::Result<Self> {
        let mut writer = WriterBuilder::new().delimiter(delimiter).quote_style(quoting).from_writer(packer);
        writer.write_record(COLUMNS)?;
        Ok(Self(writer))
    }
}

impl Write for Table {
    fn write(&mut self, example: &Example) -> io::Result<()> {
        let (id, split) = (example.id.to_string(), json::split(example.split()));
        let time = example.create_time.as_ref().map(ToString::to_string).unwrap_or_default();
        let row = [&id, &example.text, &example.label, &example.class_name, &split, &time];
        Ok(self.0.write_record(row)?)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.into_inner().map_err(csv::IntoInnerError::into_error)?.finish()
    }
}

/// The documents that `examples list --json` prints.
struct JsonLines(Packer);

impl Write for JsonLines {
    fn write(&mut self, example: &Example) -> io::Result<()> {
        writeln!(self.0, "{}", json::example(example))
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.finish()
    }
}
