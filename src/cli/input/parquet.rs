//! Parquet, with the columns `text` and `category` (or `label`), both of strings; other columns are not read.

use std::{
    fs::File,
    io::Read as _,
    panic::{self, AssertUnwindSafe},
};

use parquet::{
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row, reader::RowIter},
    schema::types::Type,
};
use serde_json::Value;

use super::{Fault, Input, MAX_INPUT_BYTES, Wrong, delimited::column, example, source::Source, too_much};
use crate::{cli::failure::Failure, proto::v1::LabelledText};

/// Reads labelled texts.
pub(super) fn read(source: Source) -> Result<Input, Failure> {
    let name = source.name.clone();
    caught(&name, || read_rows(source))
}

fn read_rows(source: Source) -> Result<Input, Failure> {
    let name = source.name.clone();
    let file = open(source)?;
    let columns = columns(file.as_ref());
    let [text, label] =
        [super::delimited::TEXT, super::delimited::LABEL].map(|names| column(&name, &columns, names));
    let (text, label) = (text?, label?);
    let mut input = Input::default();
    // The columns of a projection stay in their order.
    let (text_at, label_at) = if text < label { (0, 1) } else { (1, 0) };
    for (row, record) in
        (1..).zip(rows(file.as_ref(), |at| at == text || at == label).map_err(broken(&name))?)
    {
        let record = record.map_err(broken(&name))?;
        input.take(check(&record, text_at, label_at), |wrong| Fault::row(&name, row, wrong))?;
    }
    Ok(input)
}

fn check(row: &Row, text: usize, label: usize) -> Result<LabelledText, Wrong> {
    let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
    let text = string(fields[text]).map_err(|what| format!("the text {what}"))?;
    let label = string(fields[label]).map_err(|what| format!("the category {what}"))?;
    example(&text, &label)
}

/// A row of a file of texts to ask about.
pub(super) struct Record {
    /// The text, or what is wrong with it.
    pub(super) text: Result<String, String>,
    /// The row as a JSON object without the brace that closes it.
    pub(super) open: String,
}

/// Reads texts to ask about: the names of all columns, and every row. The text is in the column `text`, else in the first.
pub(super) fn records(
    source: Source,
    take: impl FnMut(u64, Record) -> Result<(), Failure>,
) -> Result<Vec<String>, Failure> {
    let name = source.name.clone();
    caught(&name, || read_records(source, take))
}

fn read_records(
    source: Source,
    mut take: impl FnMut(u64, Record) -> Result<(), Failure>,
) -> Result<Vec<String>, Failure> {
    let name = source.name.clone();
    let file = open(source)?;
    let text = columns(file.as_ref()).iter().position(|name| name == "text").unwrap_or(0);
    for (row, record) in (1..).zip(rows(file.as_ref(), |_| true).map_err(broken(&name))?) {
        let record = record.map_err(broken(&name))?;
        let fields: Vec<_> = record.get_column_iter().collect();
        let found = fields.get(text).ok_or_else(|| "has no column".to_owned());
        let text = found.and_then(|(_, field)| string(field).map_err(|what| format!("the text {what}")));
        let cells =
            fields.iter().map(|(name, field)| format!("{}:{}", Value::from(name.as_str()), json(field)));
        let open = format!("{{{}", cells.collect::<Vec<_>>().join(","));
        take(row, Record { text, open })?;
    }
    let schema = file.metadata().file_metadata().schema();
    Ok(schema.get_fields().iter().map(|field| field.name().to_owned()).collect())
}

fn open(source: Source) -> Result<Box<dyn FileReader>, Failure> {
    let name = source.name.clone();
    if let Some(path) = source.plain() {
        let file = File::open(path).map_err(|e| Failure::read(&name, &e))?;
        return Ok(Box::new(SerializedFileReader::new(file).map_err(broken(&name))?));
    }
    // What the file holds where is said at its end.
    let mut bytes = Vec::new();
    let mut reader = source.into_reader().take(MAX_INPUT_BYTES as u64 + 1);
    reader.read_to_end(&mut bytes).map_err(|e| Failure::read(&name, &e))?;
    if bytes.len() > MAX_INPUT_BYTES {
        return Err(too_much(&name));
    }
    let bytes = prost::bytes::Bytes::from(bytes);
    Ok(Box::new(SerializedFileReader::new(bytes).map_err(broken(&name))?))
}

/// The library panics on some damage. What was read until then is dropped with the failure.
fn caught<T>(name: &str, read: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Fault::file(name, "cannot be read as Parquet: it is damaged").into()))
}

fn broken(name: &str) -> impl Fn(ParquetError) -> Failure {
    move |error| Fault::file(name, format!("cannot be read as Parquet: {error}")).into()
}

/// The names of the columns: trimmed, in lower case.
fn columns(file: &dyn FileReader) -> Vec<String> {
    let schema = file.metadata().file_metadata().schema();
    schema.get_fields().iter().map(|field| field.name().trim().to_lowercase()).collect()
}

/// The rows, with those columns only that are wanted, by their places.
fn rows(file: &dyn FileReader, wanted: impl Fn(usize) -> bool) -> Result<RowIter<'_>, ParquetError> {
    let schema = file.metadata().file_metadata().schema();
    let fields = (0..).zip(schema.get_fields()).filter(|(at, _)| wanted(*at)).map(|(_, field)| field.clone());
    let projection = Type::group_type_builder(schema.name()).with_fields(fields.collect()).build()?;
    file.get_row_iter(Some(projection))
}

fn string(field: &Field) -> Result<String, String> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        // Older writers do not say that bytes are text.
        Field::Bytes(bytes) => super::utf8(bytes.data()).map(str::to_owned),
        Field::Null => Err("is null".into()),
        other => Err(format!("must be a string, it is {other}")),
    }
}

fn json(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(of) => (*of).into(),
        Field::Byte(of) => (*of).into(),
        Field::Short(of) => (*of).into(),
        Field::Int(of) => (*of).into(),
        Field::Long(of) => (*of).into(),
        Field::UByte(of) => (*of).into(),
        Field::UShort(of) => (*of).into(),
        Field::UInt(of) => (*of).into(),
        Field::ULong(of) => (*of).into(),
        Field::Float(of) => (*of).into(),
        Field::Double(of) => (*of).into(),
        Field::Str(of) => of.as_str().into(),
        other => string(other).unwrap_or_else(|_| other.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    /// Files that pyarrow 26 wrote, in row groups of two:
    ///
    /// ```python
    /// t = pa.table({"id": pa.array([7, 8, 9, 10, 11]),
    ///     "Label": pa.array(["greet", "greet", None, "存款", "part"]).dictionary_encode(),
    ///     "when": pa.array([0, 1, 2, 3, 4], pa.timestamp("ms")),
    ///     "tags": pa.array([["a"], [], None, ["b", "c"], ["d"]]),
    ///     "text": pa.array(["hello", 'two\nlines, "quoted"', "no label", "存钱 👩‍👧", ""], pa.large_string())})
    /// for c in ("snappy", "gzip", "zstd"):
    ///     pq.write_table(t, f"{c}.parquet", compression=c, row_group_size=2, store_schema=False, write_statistics=False)
    /// ```
    fn file(name: &str) -> PathBuf {
        PathBuf::from(format!("{}/tests/parquet/{name}.parquet", env!("CARGO_MANIFEST_DIR")))
    }

    #[test]
    fn columns_are_found_by_name_however_they_are_packed() {
        for name in ["snappy", "gzip", "zstd"] {
            let bytes = fs::read(file(name)).unwrap();
            for source in [Source::open(&file(name)).unwrap(), Source::of("a", &bytes)] {
                let input = read(source).unwrap();
                let rows: Vec<_> =
                    input.examples.iter().map(|e| (e.text.as_str(), e.label.as_str())).collect();
                let expected = [("hello", "greet"), ("two\nlines, \"quoted\"", "greet"), ("存钱 👩‍👧", "存款")];
                assert_eq!(rows, expected, "{name}");
                let faults: Vec<_> = input.faults.listed().iter().map(|f| (f.row, f.what.as_str())).collect();
                assert_eq!(faults, [(Some(3), "the category is null"), (Some(5), "the text is empty")]);
            }
        }
    }

    #[test]
    fn rows_to_ask_about_keep_their_columns() {
        let mut rows = Vec::new();
        let columns = records(Source::open(&file("zstd")).unwrap(), |row, record| {
            rows.push((row, record.text.unwrap(), format!("{}}}", record.open)));
            Ok(())
        });
        assert_eq!(columns.unwrap(), ["id", "Label", "when", "tags", "text"]);
        assert_eq!((rows.len(), rows[3].0, rows[3].1.as_str()), (5, 4, "存钱 👩‍👧"));
        let object: Value = serde_json::from_str(&rows[2].2).unwrap();
        assert_eq!((&object["id"], &object["Label"]), (&Value::from(9), &Value::Null));
        assert!(object["when"].is_string() && object["text"] == "no label");
    }

    #[test]
    fn what_is_no_parquet_or_lacks_a_column_is_named() {
        let bytes = fs::read(file("snappy")).unwrap();
        for damaged in [&b"PAR1"[..], b"text,label\n", &bytes[..bytes.len() - 20], &bytes[400..]] {
            let failure = read(Source::of("a.parquet", damaged)).err();
            let failure = failure.unwrap_or_else(|| panic!("{} bytes were read", damaged.len())).to_string();
            assert!(failure.starts_with("a.parquet: cannot be read as Parquet"), "{failure}");
        }
        assert!(caught("a", || -> Result<(), _> { panic!("on purpose") }).is_err());
        let fields = [Field::Null, Field::Int(3), Field::Bool(true)].map(|field| string(&field).unwrap_err());
        assert_eq!(fields, ["is null", "must be a string, it is 3", "must be a string, it is true"]);
    }
}
