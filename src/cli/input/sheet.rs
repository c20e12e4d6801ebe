//! Texts to ask about, in the rows of a file, and the same rows with cells added: what `predict --file` reads and writes.

use std::{collections::BTreeSet, path::Path};

use csv::{ByteRecord, QuoteStyle, WriterBuilder};
use serde_json::Value;

use super::{
    Fault, Faults, Format, MAX_INPUT_BYTES, check_text,
    delimited::{self, Table},
    fasttext,
    json_lines::{self, Object},
    lines,
    parquet::{self, Record},
    source::Source,
    too_much, utf8,
};
use crate::cli::failure::Failure;

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Layout {
    /// RFC 4180 with a header; the text is in the column `text`, or in the first
    Csv,
    /// The same, separated by tabs; a quote is a character like any other
    Tsv,
    /// An object a line with the string `text`
    Jsonl,
    /// Apache Parquet; the text is in the column `text`, or in the first. Rows come back as JSON, an object a line
    Parquet,
    /// A text a line, behind a label that begins with `__label__` or without; rows come back without it
    #[value(name = "fasttext")]
    FastText,
    /// A text a line
    Text,
}

/// A file of texts.
#[derive(Debug, PartialEq)]
pub(crate) struct Sheet {
    /// The texts, in the order of the file.
    pub(crate) texts: Vec<String>,
    /// The rows that are wrong.
    pub(crate) faults: Faults,
    layout: Layout,
    /// What is kept of the file.
    bytes: usize,
    /// The header of a file that has one.
    header: Option<ByteRecord>,
    /// The row that each text stands in.
    rows: Vec<Row>,
    /// Names that rows have already, as far as they could be in the way.
    taken: BTreeSet<String>,
    /// Names of the cells that are added.
    added: Vec<String>,
}

/// What a row holds besides its text.
#[derive(Debug, PartialEq)]
enum Row {
    Cells(ByteRecord),
    /// The line without the brace that closes it.
    Object(String),
    Line,
}

impl Row {
    /// What it takes beside its text, in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Cells(record) => record.as_slice().len(),
            Self::Object(open) => open.len(),
            Self::Line => 0,
        }
    }
}

impl Layout {
    /// By the ending of a file's name; a text a line where it says nothing.
    pub(crate) fn of(file: &Path) -> Self {
        match Format::of(file) {
            Some(Format::Csv) => Self::Csv,
            Some(Format::Tsv) => Self::Tsv,
            Some(Format::Jsonl) => Self::Jsonl,
            Some(Format::Parquet) => Self::Parquet,
            Some(Format::FastText) => Self::FastText,
            Some(Format::Folder) | None => Self::Text,
        }
    }

    fn delimiter(self) -> u8 {
        if self == Self::Csv { b',' } else { b'\t' }
    }
}

impl Sheet {
    /// Reads a file whose rows are to get these cells.
    ///
    /// # Errors
    /// The file cannot be read, its layout is wrong, or it leaves no name for a cell. Rows that are wrong are among the
    /// faults.
    pub(super) fn read(source: Source, layout: Layout, added: &[&str]) -> Result<Self, Failure> {
        let file = source.name.clone();
        let mut sheet = Self {
            texts: Vec::new(),
            faults: Faults::default(),
            layout,
            bytes: 0,
            header: None,
            rows: Vec::new(),
            taken: BTreeSet::new(),
            added: Vec::new(),
        };
        match layout {
            Layout::Csv | Layout::Tsv => sheet.read_cells(source)?,
            Layout::Jsonl => {
                let names: Vec<_> =
                    added.iter().flat_map(|name| [(*name).to_owned(), prefixed(name)]).collect();
                let mut taken = BTreeSet::new();
                sheet.read_lines(source, |line| {
                    let Object { text, open, value } = json_lines::text(line)?;
                    taken.extend(names.iter().filter(|name| value.get(name).is_some()).cloned());
                    Ok((text, Row::Object(open)))
                })?;
                sheet.taken = taken;
            }
            Layout::Parquet => {
                let columns = parquet::records(source, |row, Record { text, open }| {
                    sheet.take(&file, row, text.map(|text| (text, Row::Object(open))))
                })?;
                sheet.taken = columns.into_iter().collect();
            }
            Layout::FastText => sheet.read_lines(source, |line| {
                let (_, text) = fasttext::cut(line)?;
                Ok((text.to_owned(), Row::Line))
            })?,
            Layout::Text => sheet.read_lines(source, |line| {
                let text = utf8(line).map_err(|what| format!("the text {what}"))?;
                Ok((text.trim_end_matches('\r').to_owned(), Row::Line))
            })?,
        }
        sheet.added = added.iter().map(|name| sheet.free(&file, name)).collect::<Result<_, _>>()?;
        Ok(sheet)
    }

    fn read_cells(&mut self, source: Source) -> Result<(), Failure> {
        let file = source.name.clone();
        let mut table = Table::open(source, self.layout.delimiter())?;
        let column = table.columns.iter().position(|name| name == "text").unwrap_or(0);
        while let Some((row, record)) = table.next()? {
            let text = delimited::text(&record, table.columns.len(), column);
            self.take(&file, row, text.map(|text| (text, Row::Cells(record))))?;
        }
        self.header = Some(table.header);
        self.taken = table.columns.into_iter().collect();
        Ok(())
    }

    fn read_lines(
        &mut self,
        source: Source,
        mut read: impl FnMut(&[u8]) -> Result<(String, Row), String>,
    ) -> Result<(), Failure> {
        let file = source.name.clone();
        lines::each(source, |row, line| self.take(&file, row, line.and_then(&mut read)))
    }

    fn take(&mut self, file: &str, number: u64, read: Result<(String, Row), String>) -> Result<(), Failure> {
        let (text, row) = match read {
            Ok(read) => read,
            Err(what) => {
                self.faults.push(Fault::row(file, number, what));
                return Ok(());
            }
        };
        if let Err(wrong) = check_text(&text) {
            self.faults.push(Fault::row(file, number, wrong));
            return Ok(());
        }
        self.bytes += size_of::<Row>() + size_of::<String>() + text.len() + row.len();
        if self.bytes > MAX_INPUT_BYTES {
            return Err(too_much(file));
        }
        self.texts.push(text);
        self.rows.push(row);
        Ok(())
    }

    /// A name for a cell that no row has: `predicted_label` where `label` is taken.
    fn free(&self, file: &str, name: &str) -> Result<String, Fault> {
        let prefixed = prefixed(name);
        match (self.taken.contains(name), self.taken.contains(&prefixed)) {
            (false, _) => Ok(name.to_owned()),
            (true, false) => Ok(prefixed),
            (true, true) => {
                let what =
                    format!("has '{name}' and '{prefixed}' already, so that the answer finds no place");
                Err(Fault::file(file, what))
            }
        }
    }

    /// The first line of the output, if the layout has a header.
    pub(crate) fn head(&self) -> Option<Vec<u8>> {
        let header = self.header.as_ref()?;
        Some(self.cells(header, self.added.iter().map(String::as_bytes)))
    }

    /// A row with its cells, one a name, as a line of the output.
    pub(crate) fn line(&self, index: usize, cells: &[Value]) -> Vec<u8> {
        match &self.rows[index] {
            Row::Cells(record) => {
                let cells: Vec<String> = cells.iter().map(plain).collect();
                self.cells(record, cells.iter().map(String::as_bytes))
            }
            Row::Object(object) => {
                let added = self.added.iter().zip(cells);
                let added = added.map(|(name, cell)| format!(",{}:{cell}", Value::from(name.as_str())));
                format!("{object}{}}}\n", added.collect::<String>()).into_bytes()
            }
            Row::Line => {
                let cells = cells.iter().map(|cell| format!("\t{}", plain(cell)));
                format!("{}{}\n", self.texts[index], cells.collect::<String>()).into_bytes()
            }
        }
    }

    fn cells<'a>(&self, record: &'a ByteRecord, added: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let quoting = if self.layout == Layout::Csv { QuoteStyle::Necessary } else { QuoteStyle::Never };
        let mut writer = WriterBuilder::new()
            .delimiter(self.layout.delimiter())
            .quote_style(quoting)
            .buffer_capacity(256)
            .from_writer(Vec::new());
        writer.write_record(record.iter().chain(added)).expect("a vector takes every record");
        writer.into_inner().expect("a vector takes every record")
    }
}

fn prefixed(name: &str) -> String {
    format!("predicted_{name}")
}

/// A cell where there is no JSON around it.
fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ADDED: [&str; 2] = ["label", "score"];

    fn parse(layout: Layout, text: &str) -> Result<Sheet, Failure> {
        Sheet::read(Source::of("a", text.as_bytes()), layout, &ADDED)
    }

    /// What is written for answers `greet, 0.5`.
    fn written(sheet: &Sheet) -> String {
        let mut bytes = sheet.head().unwrap_or_default();
        for index in 0..sheet.texts.len() {
            bytes.extend(sheet.line(index, &[json!("greet"), json!(0.5)]));
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn rows_come_back_with_their_cells() {
        for (layout, input, texts, output) in [
            (
                Layout::Csv,
                "id,Text\r\n7,\"a, \"\"b\"\"\nc\"\r\n8,d\r\n",
                ["a, \"b\"\nc", "d"],
                "id,Text,label,score\n7,\"a, \"\"b\"\"\nc\",greet,0.5\n8,d,greet,0.5\n",
            ),
            (
                Layout::Csv,
                "question,n\nhi,1\nyou,2\n",
                ["hi", "you"],
                "question,n,label,score\nhi,1,greet,0.5\nyou,2,greet,0.5\n",
            ),
            (
                Layout::Tsv,
                "n\ttext\n1\t\"hi, you\n2\td\n",
                ["\"hi, you", "d"],
                "n\ttext\tlabel\tscore\n1\t\"hi, you\tgreet\t0.5\n2\td\tgreet\t0.5\n",
            ),
            (
                Layout::Jsonl,
                "{\"text\": \"h\\ni\", \"z\": [1, {}]} \r\n\n{ \"a\": null, \"text\": \"存钱\" }",
                ["h\ni", "存钱"],
                "{\"text\": \"h\\ni\", \"z\": [1, {}],\"label\":\"greet\",\"score\":0.5}\n\
                 { \"a\": null, \"text\": \"存钱\",\"label\":\"greet\",\"score\":0.5}\n",
            ),
            (
                Layout::FastText,
                "__label__part hi, you\r\n\nbye\t2",
                ["hi, you", "bye\t2"],
                "hi, you\tgreet\t0.5\nbye\t2\tgreet\t0.5\n",
            ),
            (Layout::Text, "hi\r\n\n  \n you\t2", ["hi", " you\t2"], "hi\tgreet\t0.5\n you\t2\tgreet\t0.5\n"),
        ] {
            let sheet = parse(layout, input).unwrap();
            assert_eq!(sheet.faults.listed(), []);
            assert_eq!(sheet.texts, texts);
            assert_eq!(written(&sheet), output);
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_a_prefix() {
        let sheet = parse(Layout::Csv, "text,label\nhi,part\n").unwrap();
        assert_eq!(written(&sheet), "text,label,predicted_label,score\nhi,part,greet,0.5\n");
        let sheet = parse(Layout::Jsonl, "{\"text\":\"hi\"}\n{\"text\":\"you\",\"score\":3}").unwrap();
        assert!(
            written(&sheet).starts_with("{\"text\":\"hi\",\"label\":\"greet\",\"predicted_score\":0.5}\n")
        );
        let fault = parse(Layout::Csv, "text,label,predicted_label\nhi,part,part\n").unwrap_err();
        assert!(fault.to_string().contains("'label' and 'predicted_label'"), "{fault}");
    }

    #[test]
    fn no_answer_is_an_empty_cell() {
        let sheet = parse(Layout::Csv, "text\nhi\n").unwrap();
        assert_eq!(sheet.line(0, &[Value::Null, Value::Null]), b"hi,,\n");
        let sheet = parse(Layout::Jsonl, "{\"text\":\"hi\"}").unwrap();
        let line = sheet.line(0, &[Value::Null, Value::Null]);
        assert_eq!(String::from_utf8(line).unwrap(), "{\"text\":\"hi\",\"label\":null,\"score\":null}\n");
    }

    #[test]
    fn bad_rows_are_named() {
        for (layout, input, row, part) in [
            (Layout::Csv, &b"text,n\nhi,1\n,2\n"[..], 3, "the text is empty"),
            (Layout::Csv, b"text,n\nhi\n", 2, "has 1 column, the header has 2"),
            (Layout::Tsv, b"text\n\xff\n", 2, "not UTF-8"),
            (Layout::Jsonl, b"{\"text\":\"hi\"}\n{\"txt\":\"hi\"}", 2, "has no key 'text'"),
            (Layout::Jsonl, b"[]", 1, "not a JSON object"),
            (Layout::Text, b"ok\nfine\n\xff\n", 3, "not UTF-8"),
        ] {
            let sheet = Sheet::read(Source::of("a", input), layout, &ADDED).unwrap();
            let [fault] = sheet.faults.listed() else { panic!("{:?}", sheet.faults) };
            assert_eq!(fault.row, Some(row));
            assert!(fault.what.contains(part), "{}", fault.what);
        }
    }

    #[test]
    fn the_name_tells_the_layout() {
        for (file, layout) in [
            ("a.csv", Layout::Csv),
            ("a.TSV.gz", Layout::Tsv),
            ("a.parquet", Layout::Parquet),
            ("b/a.x.ndjson", Layout::Jsonl),
            ("a.txt", Layout::Text),
            ("-", Layout::Text),
        ] {
            assert_eq!(Layout::of(Path::new(file)), layout);
        }
    }
}
