//! What a fuzzer tries on the files that commands read: the first byte says the layout, the others are the file.

use serde_json::{Value, json};

use super::{Fault, Input, Layout, Sheet, delimited, json_lines};
use crate::{taxonomy::ClassName, text::MAX_TEXT_BYTES};

const LAYOUTS: [Layout; 4] = [Layout::Csv, Layout::Tsv, Layout::Jsonl, Layout::Text];

/// Every row is an example that the daemon would take, or a fault that names it; a file of questions comes back with its texts
/// as they were.
pub fn tables(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let layout = LAYOUTS[usize::from(first) % LAYOUTS.len()];
    let labelled = match layout {
        Layout::Csv => delimited::parse("a", bytes, b','),
        Layout::Tsv => delimited::parse("a", bytes, b'\t'),
        Layout::Jsonl => Ok(json_lines::parse("a", bytes)),
        Layout::Text => Ok(Input::default()),
    };
    let lines = bytes.split(|&byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    let fits = |text: &str| !text.trim().is_empty() && text.len() <= MAX_TEXT_BYTES;
    let names = |fault: &Fault| fault.file == "a" && fault.row.is_none_or(|row| (1..=lines).contains(&row));
    match labelled {
        Ok(Input { examples, faults }) => {
            let is_name = |raw: &str| ClassName::new(raw).is_ok_and(|name| name.as_str() == raw);
            assert!(examples.iter().all(|example| fits(&example.text) && is_name(&example.label)));
            assert!(faults.iter().all(names), "{faults:?}");
        }
        Err(fault) => assert!(names(&fault), "{fault}"),
    }

    let sheet = match Sheet::parse("a", bytes, layout, &["label", "score"]) {
        Ok(sheet) => sheet,
        Err(fault) => return assert!(names(&fault), "{fault}"),
    };
    assert!(sheet.texts.iter().all(|text| fits(text)));
    assert!(sheet.faults.iter().all(names), "{:?}", sheet.faults);
    let answered = answered(&sheet);
    if layout == Layout::Text {
        assert_eq!(answered.split(|&byte| byte == b'\n').count(), sheet.texts.len() + 1);
    } else if !sheet.texts.is_empty() {
        let again = Sheet::parse("b", &answered, layout, &[]).expect("what was written is read");
        assert_eq!((again.texts, again.faults), (sheet.texts, Vec::new()));
    }
}

/// The file with an answer to each text.
fn answered(sheet: &Sheet) -> Vec<u8> {
    let cells: [Value; 2] = [json!("a, \"b\""), json!(0.5)];
    let lines = (0..sheet.texts.len()).map(|index| sheet.line(index, &cells));
    sheet.head().into_iter().chain(lines).flatten().collect()
}
