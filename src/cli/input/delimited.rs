//! CSV (RFC 4180) and TSV with a header that names the columns `text` and `category` (or `label`).
//!
//! Other columns are ignored. In TSV a quote is a character like any other.

use csv::{ByteRecord, ReaderBuilder};

use super::{Fault, Input, example, utf8};

const TEXT: &[&str] = &["text"];
const LABEL: &[&str] = &["category", "label"];

/// The rows of a file.
pub(super) struct Grid {
    /// The header as it stands in the file.
    pub(super) header: ByteRecord,
    /// The names of the columns: trimmed, in lower case.
    pub(super) columns: Vec<String>,
    /// The rows below it, at least one.
    pub(super) rows: Vec<ByteRecord>,
}

pub(super) fn parse(file: &str, bytes: &[u8], delimiter: u8) -> Result<Input, Fault> {
    let Grid { columns, rows, .. } = read(file, bytes, delimiter)?;
    let text = column(file, &columns, TEXT)?;
    let label = column(file, &columns, LABEL)?;
    let mut input = Input::default();
    for (row, record) in (2..).zip(&rows) {
        match check(record, columns.len(), text, label) {
            Ok(example) => input.examples.push(example),
            Err(what) => input.faults.push(Fault::row(file, row, what)),
        }
    }
    Ok(input)
}

/// Cuts a file into cells. Rows may be of any width, and cells but those of the header hold any bytes.
pub(super) fn read(file: &str, bytes: &[u8], delimiter: u8) -> Result<Grid, Fault> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(delimiter == b',')
        .flexible(true)
        .has_headers(false)
        .from_reader(bytes);
    let mut records = reader.byte_records();
    // Reading from memory, csv has nothing to fail at: records may have any length and hold any bytes.
    let mut next = move || records.next().transpose().map_err(|e| Fault::file(file, e.to_string()));

    let header = next()?.ok_or_else(|| Fault::file(file, "is empty"))?;
    let columns = header
        .iter()
        .map(|cell| utf8(cell).map(|cell| cell.trim().to_lowercase()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|what| Fault::row(file, 1, format!("the header {what}")))?;
    let mut rows = Vec::new();
    while let Some(record) = next()? {
        rows.push(record);
    }
    let Some(last) = rows.last() else { return Err(Fault::file(file, "has no row below its header")) };
    let last = last.position().map_or(0, csv::Position::byte);
    if delimiter == b',' && unclosed(&bytes[last as usize..]) {
        let row = rows.len() as u64 + 1;
        return Err(Fault::row(file, row, "a quote that opens here is never closed"));
    }
    Ok(Grid { header, columns, rows })
}

fn column(file: &str, columns: &[String], names: &[&str]) -> Result<usize, Fault> {
    let found: Vec<usize> = (0..columns.len()).filter(|&i| names.contains(&columns[i].as_str())).collect();
    let wanted = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" or ");
    let header = columns.join("', '");
    match found[..] {
        [at] => Ok(at),
        [] => Err(Fault::file(file, format!("the header needs a column {wanted}, it has '{header}'"))),
        _ => Err(Fault::file(file, format!("the header has more than one column {wanted}: '{header}'"))),
    }
}

fn check(
    record: &ByteRecord,
    width: usize,
    text: usize,
    label: usize,
) -> Result<crate::proto::v1::LabelledText, String> {
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

/// Whether the last record ends within a quoted cell: csv takes the end of the file for the end of the cell, and one
/// forgotten quote would make one example of all that follows. Such a cell swallows a line put after it.
fn unclosed(record: &[u8]) -> bool {
    let with_line = [record, b"\n."].concat();
    let mut reader = ReaderBuilder::new().flexible(true).has_headers(false).from_reader(&with_line[..]);
    reader.byte_records().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Result<Input, Fault> {
        parse("a.csv", text.as_bytes(), b',')
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
        assert!(input.faults.is_empty());
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
            assert_eq!(fault.row, None);
            assert!(fault.what.contains(part), "{}", fault.what);
        }
    }

    #[test]
    fn bad_rows_are_named_and_the_others_kept() {
        let mut bytes = b"text,category\nhello,greet\nbye\na,b,c\n,greet\nhi,\n".to_vec();
        bytes.extend(b"\xff\xfe,greet\nok,\xe5\x8f\n\"two\nlines\",greet\nx,#1\n");
        let input = parse("a.csv", &bytes, b',').unwrap();
        assert_eq!(rows(&input), [("hello", "greet"), ("two\nlines", "greet")]);
        let faults: Vec<_> = input.faults.iter().map(|f| (f.row.unwrap(), f.what.as_str())).collect();
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
        assert_eq!(fault.row, Some(3));
        assert!(fault.what.contains("never closed"), "{}", fault.what);
        assert_eq!(rows(&csv("text,category\n5\" disk,\"part\"\n").unwrap()), [("5\" disk", "part")]);
    }

    #[test]
    fn tabs_separate_and_quotes_mean_nothing_in_tsv() {
        let input = parse("a.tsv", "text\tcategory\n\"hi, you\tgreet\n".as_bytes(), b'\t').unwrap();
        assert_eq!(rows(&input), [("\"hi, you", "greet")]);
    }

    #[test]
    fn header_alone_is_no_data() {
        assert!(csv("text,category\n\n").unwrap_err().what.contains("no row"));
    }
}
