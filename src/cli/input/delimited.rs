//! CSV (RFC 4180) and TSV with a header that names the columns `text` and `category` (or `label`).
//!
//! Other columns are ignored. In TSV a quote is a character like any other.

use std::io::{self, Read};

use csv::{ByteRecord, ReaderBuilder};

use super::{
    Fault, Input, Wrong, example,
    source::{MAX_ROW_BYTES, Source},
    utf8,
};
use crate::{cli::failure::Failure, proto::v1::LabelledText};

/// Names of the column of texts.
pub(super) const TEXT: &[&str] = &["text"];
/// Names of the column of categories.
pub(super) const LABEL: &[&str] = &["category", "label"];

/// A line put after a file of CSV. csv takes the end of the file for the end of a quoted cell, and one forgotten quote would
/// make one example of all that follows; such a cell swallows this line too.
const LAST: &[u8] = b"\n.";

/// The rows of a file, one in memory at a time.
pub(super) struct Table {
    /// The header as it stands in the file.
    pub(super) header: ByteRecord,
    /// The names of the columns: trimmed, in lower case.
    pub(super) columns: Vec<String>,
    name: String,
    reader: csv::Reader<Bounded<Box<dyn Read>>>,
    is_quoted: bool,
    /// The row that comes next, or what ends the file.
    ahead: Option<ByteRecord>,
    /// Number of the row before it.
    row: u64,
}

pub(super) fn read(source: Source, delimiter: u8) -> Result<Input, Failure> {
    let name = source.name.clone();
    let mut table = Table::open(source, delimiter)?;
    let text = column(&name, &table.columns, TEXT)?;
    let label = column(&name, &table.columns, LABEL)?;
    let mut input = Input::default();
    while let Some((row, record)) = table.next()? {
        let checked = check(&record, table.columns.len(), text, label);
        input.take(checked, |wrong| Fault::row(&name, row, wrong))?;
    }
    Ok(input)
}

impl Table {
    /// Reads the header. Rows may be of any width, and cells but those of the header hold any bytes.
    ///
    /// # Errors
    /// The file cannot be read, or holds no row below a header.
    pub(super) fn open(source: Source, delimiter: u8) -> Result<Self, Failure> {
        let name = source.name.clone();
        let is_quoted = delimiter == b',';
        let bytes: Box<dyn Read> = match is_quoted {
            true => Box::new(source.into_reader().chain(LAST)),
            false => Box::new(source.into_reader()),
        };
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(is_quoted)
            .flexible(true)
            .has_headers(false)
            .from_reader(Bounded { reader: bytes, left: 0 });
        let (header, columns) = (ByteRecord::new(), Vec::new());
        let mut table = Self { header, columns, name, reader, is_quoted, ahead: None, row: 0 };
        table.ahead = table.read()?;
        let empty = Fault::file(&table.name, "is empty");
        table.header = table.next()?.ok_or(empty)?.1;
        let columns = table.header.iter().map(|cell| utf8(cell).map(|cell| cell.trim().to_lowercase()));
        let columns = columns.collect::<Result<Vec<_>, _>>();
        table.columns = columns.map_err(|what| Fault::row(&table.name, 1, format!("the header {what}")))?;
        if table.ahead.as_ref().is_none_or(|ahead| is_quoted && is_last(ahead)) {
            return Err(Fault::file(&table.name, "has no row below its header").into());
        }
        Ok(table)
    }

    /// The next row, with its number.
    ///
    /// # Errors
    /// The file cannot be read, a row is too long, or a quote that opens in it is never closed.
    pub(super) fn next(&mut self) -> Result<Option<(u64, ByteRecord)>, Failure> {
        let Some(record) = self.ahead.take() else { return Ok(None) };
        self.row += 1;
        self.ahead = self.read()?;
        if !self.is_quoted || self.ahead.is_some() {
            return Ok(Some((self.row, record)));
        }
        if is_last(&record) {
            return Ok(None);
        }
        Err(Fault::row(&self.name, self.row, "a quote that opens here is never closed").into())
    }

    fn read(&mut self) -> Result<Option<ByteRecord>, Failure> {
        self.reader.get_mut().left = MAX_ROW_BYTES;
        let mut record = ByteRecord::new();
        match self.reader.read_byte_record(&mut record) {
            Ok(more) => Ok(more.then_some(record)),
            // Records may have any width and hold any bytes, so that reading is all that can fail.
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    Err(Fault::row(&self.name, self.row + 1, error.to_string()).into())
                }
                csv::ErrorKind::Io(error) => Err(Failure::read(&self.name, &error)),
                other => Err(Fault::file(&self.name, format!("{other:?}")).into()),
            },
        }
    }
}

/// Bytes that end in an error when more of them are read than are left.
struct Bounded<R> {
    reader: R,
    left: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let what = format!("a row that is longer than {MAX_ROW_BYTES} bytes begins here");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        let wanted = buffer.len().min(self.left);
        let read = self.reader.read(&mut buffer[..wanted])?;
        self.left -= read;
        Ok(read)
    }
}

fn is_last(record: &ByteRecord) -> bool {
    record.len() == 1 && record[0] == LAST[1..]
}

/// The place of the one column that has one of these names.
pub(super) fn column(file: &str, columns: &[String], names: &[&str]) -> Result<usize, Fault> {
    let found: Vec<usize> = (0..columns.len()).filter(|&i| names.contains(&columns[i].as_str())).collect();
    let wanted = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" or ");
    let header = columns.join("', '");
    match found[..] {
        [at] => Ok(at),
        [] => Err(Fault::file(file, format!("needs a column {wanted}, it has '{header}'"))),
        _ => Err(Fault::file(file, format!("has more than one column {wanted}: '{header}'"))),
    }
}

fn check(record: &ByteRecord, width: usize, text: usize, label: usize) -> Result<LabelledText, Wrong> {
    let text = self::text(record, width, text)?;
    let label = utf8(&record[label]).map_err(|what| format!("the category {what}"))?;
    example(&text, label)
}

/// The text of a row that has as many cells as the header.
pub(super) fn text(record: &ByteRecord, width: usize, column: usize) -> Result<String, String> {
    if record.len() != width {
        let columns = if record.len() == 1 { "column" } else { "columns" };
        return Err(format!("has {} {columns}, the header has {width}", record.len()));
    }
    utf8(&record[column]).map(str::to_owned).map_err(|what| format!("the text {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Result<Input, Failure> {
        read(Source::of("a.csv", text.as_bytes()), b',')
    }

    fn rows(input: &Input) -> Vec<(&str, &str)> {
        input.examples.iter().map(|e| (e.text.as_str(), e.label.as_str())).collect()
    }

    #[test]
    fn columns_are_found_by_name() {
        for header in ["text,category", "Text,LABEL", "\"text\" , category"] {
            let input = csv(&format!("{header}\nhello,greet\n")).unwrap();
            assert_eq!(rows(&input), [("hello", "greet")], "{header}");
        }
        let input = csv("id,label,text\r\n7,greet,hello\r\n8,part,bye\r\n").unwrap();
        assert_eq!(rows(&input), [("hello", "greet"), ("bye", "part")]);
    }

    #[test]
    fn quoted_cells_hold_commas_quotes_and_newlines() {
        let input = csv("text,category\n\"a, \"\"b\"\"\nc\",x\nd,y\n").unwrap();
        assert_eq!(rows(&input), [("a, \"b\"\nc", "x"), ("d", "y")]);
        assert!(input.faults.listed().is_empty());
    }

    #[test]
    fn a_header_without_the_columns_says_what_it_has() {
        for (header, part) in [
            ("text,kind", "'category' or 'label', it has 'text', 'kind'"),
            ("sentence,category", "'text', it has"),
            ("text\tcategory", "'text', it has"),
            ("text,category,label", "more than one column"),
        ] {
            let fault = csv(&format!("{header}\nhello,greet\n")).unwrap_err();
            assert!(fault.to_string().starts_with("a.csv: ") && fault.to_string().contains(part), "{fault}");
        }
    }

    #[test]
    fn bad_rows_are_named_and_the_others_kept() {
        let mut bytes = b"text,category\nhello,greet\nbye\na,b,c\n,greet\nhi,\n".to_vec();
        bytes.extend(b"\xff\xfe,greet\nok,\xe5\x8f\n\"two\nlines\",greet\nx,#1\n");
        let input = read(Source::of("a.csv", &bytes), b',').unwrap();
        assert_eq!(rows(&input), [("hello", "greet"), ("two\nlines", "greet")]);
        let faults: Vec<_> =
            input.faults.listed().iter().map(|f| (f.row.unwrap(), f.what.as_str())).collect();
        let expected = [
            (3, "has 1 column, the header has 2"),
            (4, "has 3 columns, the header has 2"),
            (5, "the text is empty"),
            (6, "the category must not be empty"),
            (7, "the text is not UTF-8"),
            (8, "the category is not UTF-8"),
            (10, "the category must not begin with '#'"),
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for ((row, what), (expected_row, part)) in faults.into_iter().zip(expected) {
            assert_eq!(row, expected_row, "{what}");
            assert!(what.contains(part), "{what}");
        }
    }

    #[test]
    fn a_quote_that_never_closes_is_a_fault_of_the_file() {
        let fault = csv("text,category\nhello,greet\n\"bye,part\nsee you,part\n").unwrap_err();
        assert!(
            fault.to_string().contains("a.csv: row 3: a quote that opens here is never closed"),
            "{fault}"
        );
        assert!(csv("text,\"category\na,b\n").unwrap_err().to_string().contains("row 1: a quote"));
        assert_eq!(rows(&csv("text,category\n5\" disk,\"part\"\n").unwrap()), [("5\" disk", "part")]);
    }

    #[test]
    fn tabs_separate_and_quotes_mean_nothing_in_tsv() {
        let input = read(Source::of("a.tsv", b"text\tcategory\n\"hi, you\tgreet\n"), b'\t').unwrap();
        assert_eq!(rows(&input), [("\"hi, you", "greet")]);
    }

    #[test]
    fn header_alone_is_no_data() {
        assert!(csv("text,category\n\n").unwrap_err().to_string().contains("no row"));
    }

    #[test]
    fn a_point_is_a_row_like_any_other() {
        assert_eq!(rows(&csv("text,label\na,b\n.,c").unwrap()), [("a", "b"), (".", "c")]);
        assert_eq!(csv("text,label\na,b\n.\n").unwrap().faults.count(), 1);
    }

    #[test]
    fn a_row_without_end_takes_no_memory() {
        let endless = (&b"text,label\na,b\n\""[..]).chain(io::repeat(b'x').take(1 << 26));
        let bytes = zstd::encode_all(endless, 1).unwrap();
        let fault = read(Source::of("a.csv", &bytes), b',').unwrap_err();
        assert!(fault.to_string().contains("a.csv: row 3: a row that is longer than"), "{fault}");
    }
}
