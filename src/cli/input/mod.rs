//! Labelled texts: CSV and TSV with a header, JSON Lines, Parquet, fastText, or a folder. And files of texts to ask about,
//! whose rows come back with the answers.
//!
//! A file is read and checked as a whole before anything of it is sent, and every fault names its file and row. Of what is
//! read, only what is kept is in memory, and that is bounded.

mod delimited;
pub(crate) mod fasttext;
mod fault;
pub(crate) mod folder;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod json_lines;
mod lines;
mod parquet;
mod sheet;
mod source;

use std::path::Path;

pub(crate) use fault::{Fault, Faults};
pub(crate) use format::Format;
pub(crate) use sheet::{Layout, Sheet};

use self::{fault::Wrong, source::Source};
use crate::{cli::failure::Failure, proto::v1::LabelledText, taxonomy::ClassName, text::MAX_TEXT_BYTES};

/// Most that is kept of what is read, in bytes.
const MAX_INPUT_BYTES: usize = 1024 * 1024 * 1024;

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The rows that are right, in the order of the file.
    pub(crate) examples: Vec<LabelledText>,
    /// The rows that are not.
    pub(crate) faults: Faults,
    /// What the examples take.
    bytes: usize,
}

impl Input {
    /// Takes a row that was checked. `of` says where one stands that is wrong.
    ///
    /// # Errors
    /// The rows are more than is kept.
    fn take(
        &mut self,
        checked: Result<LabelledText, Wrong>,
        of: impl Fn(Wrong) -> Fault,
    ) -> Result<(), Failure> {
        match checked {
            Ok(example) => {
                self.bytes += size_of::<LabelledText>() + example.text.len() + example.label.len();
                if self.bytes > MAX_INPUT_BYTES {
                    return Err(too_much(&of("".into()).file));
                }
                self.examples.push(example);
            }
            Err(wrong) => self.faults.push(of(wrong)),
        }
        Ok(())
    }
}

/// Reads labelled texts from a file, from a folder, or from the standard input for `-`.
///
/// # Errors
/// The file cannot be read, its layout is wrong or unknown, or some of its rows are wrong and `skip_bad` is off.
pub(crate) fn read(path: &Path, format: Option<Format>, skip_bad: bool) -> Result<Input, Failure> {
    let name = path.display().to_string();
    let input = match (path.is_dir(), format) {
        (true, None | Some(Format::Folder)) => folder::read(path)?,
        (true, Some(_)) => return Err(Fault::file(&name, "is a folder, --format says it is none").into()),
        (false, Some(Format::Folder)) if path.exists() => {
            return Err(Fault::file(&name, "is no folder, --format says it is").into());
        }
        (false, format) => read_file(Source::open(path)?, format.or_else(|| Format::of(path)))?,
    };
    if input.faults.count() > 0 && !skip_bad {
        return Err(input.faults.refuse());
    }
    if input.examples.is_empty() {
        let what = match input.faults.count() {
            0 => "is empty",
            _ => "holds no example that could be used",
        };
        return Err(Fault::file(&name, what).into());
    }
    Ok(input)
}

fn read_file(source: Source, format: Option<Format>) -> Result<Input, Failure> {
    match format.or_else(|| Format::of_bytes(source.head())) {
        Some(Format::Csv) => delimited::read(source, b','),
        Some(Format::Tsv) => delimited::read(source, b'\t'),
        Some(Format::Jsonl) => json_lines::read(source),
        Some(Format::Parquet) => parquet::read(source),
        Some(Format::FastText) => fasttext::read(source),
        Some(Format::Folder) | None => {
            let what = "neither name nor content tells how it is laid out; --format does, or an ending \
                .csv, .tsv, .jsonl, .parquet or .ft";
            Err(Fault::file(&source.name, what).into())
        }
    }
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
    let source = Source::open(Path::new(file))?;
    let name = source.name.clone();
    let sheet = Sheet::read(source, layout.unwrap_or_else(|| Layout::of(Path::new(file))), cells)?;
    if sheet.faults.count() > 0 && !skip_bad {
        return Err(sheet.faults.refuse());
    }
    if sheet.texts.is_empty() {
        return Err(Fault::file(&name, "holds no text to classify").into());
    }
    Ok(sheet)
}

fn too_much(file: &str) -> Failure {
    let what = format!("holds more than {} GiB; give it in parts", MAX_INPUT_BYTES >> 30);
    Fault::file(file, what).into()
}

/// Checks one row; the error says what is wrong with it.
fn example(text: &str, label: &str) -> Result<LabelledText, Wrong> {
    check_text(text)?;
    let label = ClassName::new(label).map_err(|what| format!("the category {what}"))?;
    Ok(LabelledText { text: text.to_owned(), label: label.as_str().to_owned() })
}

fn check_text(text: &str) -> Result<(), Wrong> {
    if text.trim().is_empty() {
        return Err("the text is empty".into());
    }
    if text.len() > MAX_TEXT_BYTES {
        let what = format!("the text has {} bytes, more than {MAX_TEXT_BYTES}", text.len());
        return Err(Wrong::too_long(what));
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|e| format!("is not UTF-8 (byte {} of it)", e.valid_up_to() + 1))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::failure::Exit;

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
            let what = example(text, label).unwrap_err().what;
            assert!(what.contains(part), "{what}");
        }
        assert!(example(&"x".repeat(MAX_TEXT_BYTES), "b").is_ok());
    }

    #[test]
    fn bad_rows_refuse_the_file_unless_skipped() {
        let (_folder, path) = write("a.csv", "text,category\nhello,greet\n,greet\n".as_bytes());
        let failure = read(&path, None, false).unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert!(failure.to_string().contains("a.csv: row 3: the text is empty"), "{failure}");
        assert!(failure.to_string().contains("--skip-bad"), "{failure}");
        let input = read(&path, None, true).unwrap();
        assert_eq!((input.examples.len(), input.faults.count()), (1, 1));
    }

    #[test]
    fn files_without_examples_are_refused_even_when_skipping() {
        for (name, bytes, part) in [
            ("a.csv", "", "is empty"),
            ("a.csv", "\u{feff}\n", "is empty"),
            ("a.jsonl", "", "is empty"),
            ("a.csv", "text,category\n", "no row below its header"),
            ("a.jsonl.gz", "\n\n", "is empty"),
            ("a.csv", "text,category\n,\n", "no example that could be used"),
            ("a.xml", "<a/>", ".jsonl"),
            ("a.parquet", "text,category\na,b\n", "cannot be read as Parquet"),
        ] {
            let (_folder, path) = write(name, bytes.as_bytes());
            let failure = read(&path, None, true).unwrap_err();
            assert_eq!(failure.exit, Exit::Invalid);
            assert!(failure.to_string().contains(part), "{failure}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = read(Path::new("nowhere/a.csv"), None, false).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.to_string().contains("nowhere/a.csv"), "{failure}");
    }

    #[test]
    fn a_format_that_is_named_goes_before_the_name_and_content_tells_where_neither_does() {
        let (folder, path) = write("a.csv", b"text\tcategory\nhello\tgreet\n");
        assert_eq!(read(&path, Some(Format::Tsv), false).unwrap().examples.len(), 1);
        for (path, format, part) in [
            (folder.path(), Format::Csv, "is a folder"),
            (&path, Format::Folder, "is no folder"),
            (Path::new("nowhere"), Format::Folder, "cannot read nowhere"),
        ] {
            let failure = read(path, Some(format), false).unwrap_err();
            assert!(failure.to_string().contains(part), "{failure}");
        }
        let (_folder, path) = write("train.txt", b"__label__greet hello\n");
        assert_eq!(read(&path, None, false).unwrap().examples, [example("hello", "greet").unwrap()]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut input = Input { bytes: MAX_INPUT_BYTES - 60, ..Input::default() };
        let mut take = |text: &str| input.take(example(text, "a"), |wrong| Fault::row("a.csv", 1, wrong));
        assert!(take("a").is_ok());
        assert!(take(" ").is_ok());
        assert!(take("a").unwrap_err().to_string().contains("a.csv: holds more than 1 GiB"));
    }
}
