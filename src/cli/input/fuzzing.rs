//! What a fuzzer tries on the files that commands read: the first byte says the layout, the others are the file.

use std::io::Cursor;

use serde_json::{Value, json};

use super::{Failure, Fault, Format, Input, Layout, Sheet, Source, read_file};
use crate::{taxonomy::ClassName, text::MAX_TEXT_BYTES};

const LAYOUTS: [(Layout, Option<Format>); 6] = [
    (Layout::Csv, Some(Format::Csv)),
    (Layout::Tsv, Some(Format::Tsv)),
    (Layout::Jsonl, Some(Format::Jsonl)),
    (Layout::Text, None),
    (Layout::Parquet, Some(Format::Parquet)),
    (Layout::FastText, Some(Format::FastText)),
];

/// Every row is an example that the daemon would take, or a fault that names it; a file of questions comes back with its texts
/// as they were.
pub fn tables(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let (layout, format) = LAYOUTS[usize::from(first) % LAYOUTS.len()];
    let fits = |text: &str| !text.trim().is_empty() && text.len() <= MAX_TEXT_BYTES;
    let names = |fault: &Fault| fault.file == "a" && fault.row != Some(0);
    if let Some(Ok(Input { examples, faults, .. })) =
        source("a", bytes).map(|source| read_file(source, format))
    {
        let is_name = |raw: &str| ClassName::new(raw).is_ok_and(|name| name.as_str() == raw);
        assert!(examples.iter().all(|example| fits(&example.text) && is_name(&example.label)));
        assert!(faults.listed().iter().all(names), "{faults:?}");
    }

    let read = |name: &str, bytes: &[u8], cells: &[&str]| -> Option<Result<Sheet, Failure>> {
        Some(Sheet::read(source(name, bytes)?, layout, cells))
    };
    let Some(Ok(sheet)) = read("a", bytes, &["label", "score"]) else { return };
    assert!(sheet.texts.iter().all(|text| fits(text)));
    assert!(sheet.faults.listed().iter().all(names), "{:?}", sheet.faults);
    let answered = answered(&sheet);
    match layout {
        Layout::Text | Layout::FastText => {
            assert_eq!(answered.split(|&byte| byte == b'\n').count(), sheet.texts.len() + 1);
        }
        Layout::Csv | Layout::Tsv | Layout::Jsonl if !sheet.texts.is_empty() => {
            let again = read("b", &answered, &[]).expect("it begins as no packed file does");
            let again = again.expect("what was written is read");
            assert_eq!((again.texts, again.faults.count()), (sheet.texts, 0));
        }
        // The rows of Parquet come back as lines of JSON.
        Layout::Csv | Layout::Tsv | Layout::Jsonl | Layout::Parquet => {}
    }
}

/// None where the bytes begin as those of a packed file and are none.
fn source(name: &str, bytes: &[u8]) -> Option<Source> {
    Source::new(name, Box::new(Cursor::new(bytes.to_vec()))).ok()
}

/// The file with an answer to each text.
fn answered(sheet: &Sheet) -> Vec<u8> {
    let cells: [Value; 2] = [json!("a, \"b\""), json!(0.5)];
    let lines = (0..sheet.texts.len()).map(|index| sheet.line(index, &cells));
    sheet.head().into_iter().chain(lines).flatten().collect()
}
