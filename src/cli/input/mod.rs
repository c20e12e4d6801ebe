//! Files of labelled texts: CSV and TSV with a header, JSON Lines, or a folder with one file a class. And files of texts
//! to ask about, whose rows come back with the answers.
//!
//! A file is read and checked as a whole before anything of it is sent, and every fault names its file and row.

mod delimited;
mod folder;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod json_lines;
mod sheet;

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
};

pub(crate) use sheet::{Layout, Sheet};

use crate::{
    cli::failure::{Exit, Failure},
    proto::v1::LabelledText,
    taxonomy::ClassName,
    text::MAX_TEXT_BYTES,
};

/// Faults that a message lists one by one.
const LISTED_FAULTS: usize = 10;

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The rows that are right, in the order of the file.
    pub(crate) examples: Vec<LabelledText>,
    /// The rows that are not.
    pub(crate) faults: Vec<Fault>,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file, as it was named.
    pub(crate) file: String,
    /// The row, counted from 1 with the header as the first, or nothing if the file as a whole is wrong.
    pub(crate) row: Option<u64>,
    /// What is wrong.
    pub(crate) what: String,
}

impl Fault {
    fn file(file: &str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), row: None, what: what.into() }
    }

    fn row(file: &str, row: u64, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), row: Some(row), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(row) => write!(f, "{}: row {row}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::new(Exit::Invalid, fault.to_string())
    }
}

/// Reads labelled texts from a file or a folder.
///
/// # Errors
/// The file cannot be read, its layout is wrong, or some of its rows are and `skip_bad` is off.
pub(crate) fn read(path: &Path, skip_bad: bool) -> Result<Input, Failure> {
    let input = if path.is_dir() { folder::read(path)? } else { read_file(path)? };
    if !input.faults.is_empty() && !skip_bad {
        return Err(refuse(&input.faults));
    }
    if input.examples.is_empty() {
        return Err(Fault::file(&path.display().to_string(), "holds no example that could be used").into());
    }
    Ok(input)
}

fn read_file(path: &Path) -> Result<Input, Failure> {
    let name = path.display().to_string();
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let parse: fn(&str, &[u8]) -> Result<Input, Fault> = match extension.as_str() {
        "csv" => |name, bytes| delimited::parse(name, bytes, b','),
        "tsv" | "tab" => |name, bytes| delimited::parse(name, bytes, b'\t'),
        "jsonl" | "ndjson" => |name, bytes| Ok(json_lines::parse(name, bytes)),
        _ => {
            let what = "the name must end in .csv, .tsv, .jsonl or .ndjson, or be that of a folder";
            return Err(Fault::file(&name, what).into());
        }
    };
    let bytes = fs::read(path).map_err(|e| Failure::read(&name, &e))?;
    let bytes = without_mark(&bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::file(&name, "is empty").into());
    }
    Ok(parse(&name, bytes)?)
}

/// Reads texts to ask about from a file, or from the standard input for `-`. The rows shall get these cells.
///
/// # Errors
/// The file cannot be read, its layout is wrong, or some of its rows are and `skip_bad` is off.
pub(crate) fn read_sheet(
    file: &str,
    layout: Option<Layout>,
    cells: &[&str],
    skip_bad: bool,
) -> Result<Sheet, Failure> {
    let name = if file == "-" { "the standard input" } else { file };
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.map_err(|e| Failure::read(name, &e))?;
    let layout = layout.unwrap_or_else(|| Layout::of(file));
    let sheet = Sheet::parse(name, without_mark(&bytes), layout, cells)?;
    if !sheet.faults.is_empty() && !skip_bad {
        return Err(refuse(&sheet.faults));
    }
    if sheet.texts.is_empty() {
        return Err(Fault::file(name, "holds no text to classify").into());
    }
    Ok(sheet)
}

fn refuse(faults: &[Fault]) -> Failure {
    let rows = faults.len();
    let listed = faults.iter().take(LISTED_FAULTS).map(ToString::to_string);
    let more = (rows > LISTED_FAULTS).then(|| format!("and {} more", rows - LISTED_FAULTS));
    Failure::new(
        Exit::Invalid,
        format!("{rows} bad row{}, nothing was sent", if rows == 1 { "" } else { "s" }),
    )
    .with_details(listed.chain(more))
    .with_hint("correct the file, or leave bad rows out with --skip-bad")
}

/// Checks one row; the error says what is wrong with it.
fn example(text: &str, label: &str) -> Result<LabelledText, String> {
    check_text(text)?;
    let label = ClassName::new(label).map_err(|what| format!("the category {what}"))?;
    Ok(LabelledText { text: text.to_owned(), label: label.as_str().to_owned() })
}

fn check_text(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the text is empty".into());
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("the text has {} bytes, more than {MAX_TEXT_BYTES}", text.len()));
    }
    Ok(())
}

/// Drops the byte order mark that some editors put first.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|e| format!("is not UTF-8 (byte {} of it)", e.valid_up_to() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn rows_are_checked() {
        assert_eq!(example(" a ", " b ").unwrap(), LabelledText { text: " a ".into(), label: "b".into() });
        for (text, label, part) in [
            (" \t", "b", "text is empty"),
            ("a", " ", "category must not be empty"),
            (&"x".repeat(MAX_TEXT_BYTES + 1), "b", "65537 bytes"),
            ("a", "#3", "'#3'"),
        ] {
            let what = example(text, label).unwrap_err();
            assert!(what.contains(part), "{what}");
        }
        assert!(example(&"x".repeat(MAX_TEXT_BYTES), "b").is_ok());
    }

    #[test]
    fn bad_rows_refuse_the_file_unless_skipped() {
        let (_folder, path) = write("a.csv", "text,category\nhello,greet\n,greet\n".as_bytes());
        let failure = read(&path, false).unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert!(failure.to_string().contains("a.csv: row 3: the text is empty"), "{failure}");
        assert!(failure.to_string().contains("--skip-bad"), "{failure}");
        let input = read(&path, true).unwrap();
        assert_eq!((input.examples.len(), input.faults.len()), (1, 1));
    }

    #[test]
    fn files_without_examples_are_refused_even_when_skipping() {
        for (name, bytes, part) in [
            ("a.csv", "", "is empty"),
            ("a.csv", "\u{feff}\n", "is empty"),
            ("a.jsonl", "", "is empty"),
            ("a.csv", "text,category\n", "no row below its header"),
            ("a.csv", "text,category\n,\n", "no example that could be used"),
            ("a.xml", "<a/>", ".jsonl"),
        ] {
            let (_folder, path) = write(name, bytes.as_bytes());
            let failure = read(&path, true).unwrap_err();
            assert_eq!(failure.exit, Exit::Invalid);
            assert!(failure.to_string().contains(part), "{failure}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = read(Path::new("nowhere/a.csv"), false).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.to_string().contains("nowhere/a.csv"), "{failure}");
    }

    #[test]
    fn many_faults_are_counted() {
        let (_folder, path) = write("a.csv", format!("text,category\n{}", ",b\n".repeat(25)).as_bytes());
        let failure = read(&path, false).unwrap_err().to_string();
        assert!(failure.contains("25 bad rows") && failure.contains("and 15 more"), "{failure}");
    }
}
