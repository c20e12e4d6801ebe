//! Parquet: the columns of the other tables, `create_time` as a timestamp in microseconds; pages packed with zstd.

use std::{io, mem, sync::Arc};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};

use super::writer::Write;
use crate::{
    cli::{json, outlet::Packer},
    proto::v1::Example,
};

/// The columns, in the order of those of other tables.
const SCHEMA: &str = "
    message examples {
        REQUIRED INT64 id;
        REQUIRED BINARY text (STRING);
        REQUIRED BINARY label (STRING);
        REQUIRED BINARY class_name (STRING);
        REQUIRED BINARY split (STRING);
        REQUIRED INT64 create_time (TIMESTAMP(MICROS, true));
    }";
/// Examples of a row group.
const GROUP_EXAMPLES: usize = 65_536;
/// Bytes of the texts of a row group, which stand in memory until it is whole.
const GROUP_BYTES: usize = 64 * 1024 * 1024;

pub(super) struct Writer {
    file: SerializedFileWriter<Packer>,
    ids: Vec<i64>,
    /// Text, label, class and side of the split of each example.
    strings: [Vec<ByteArray>; 4],
    times: Vec<i64>,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(packer: Packer) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(io_error)?);
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let file = SerializedFileWriter::new(packer, schema, properties).map_err(io_error)?;
        Ok(Self { file, ids: Vec::new(), strings: Default::default(), times: Vec::new(), bytes: 0 })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        write_numbers(&mut group, &mem::take(&mut self.ids))?;
        for strings in &mut self.strings {
            write_strings(&mut group, &mem::take(strings))?;
        }
        write_numbers(&mut group, &mem::take(&mut self.times))?;
        self.bytes = 0;
        group.close().map(drop)
    }
}

impl Write for Writer {
    fn write(&mut self, example: &Example) -> io::Result<()> {
        self.ids.push(example.id as i64);
        let split = json::split(example.split());
        let cells = [&example.text, &example.label, &example.class_name, &split];
        for (column, cell) in self.strings.iter_mut().zip(cells) {
            column.push(cell.as_bytes().to_vec().into());
        }
        let time = example.create_time.unwrap_or_default();
        self.times.push(time.seconds * 1_000_000 + i64::from(time.nanos) / 1000);
        self.bytes += example.text.len();
        if self.ids.len() == GROUP_EXAMPLES || self.bytes >= GROUP_BYTES {
            self.write_group().map_err(io_error)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if !self.ids.is_empty() {
            self.write_group().map_err(io_error)?;
        }
        self.file.into_inner().map_err(io_error)?.finish()
    }
}

type Group<'a> = SerializedRowGroupWriter<'a, Packer>;

fn write_numbers(group: &mut Group<'_>, numbers: &[i64]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(too_few)?;
    column.typed::<Int64Type>().write_batch(numbers, None, None)?;
    column.close()
}

fn write_strings(group: &mut Group<'_>, strings: &[ByteArray]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(too_few)?;
    column.typed::<ByteArrayType>().write_batch(strings, None, None)?;
    column.close()
}

fn too_few() -> ParquetError {
    ParquetError::General("the schema has fewer columns than are written".into())
}

fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    }
}
