//! JSON Lines: one object a line with the strings `text` and `category` (or `label`); other keys are ignored.

use serde_json::Value;

use super::{Fault, Input, Wrong, example, lines, source::Source, utf8};
use crate::{cli::failure::Failure, proto::v1::LabelledText};

pub(super) fn read(source: Source) -> Result<Input, Failure> {
    let name = source.name.clone();
    let mut input = Input::default();
    lines::each(source, |row, line| {
        let checked = line.map_err(Wrong::from).and_then(check);
        input.take(checked, |wrong| Fault::row(&name, row, wrong))
    })?;
    Ok(input)
}

fn check(line: &[u8]) -> Result<LabelledText, Wrong> {
    let value = object(utf8(line).map_err(|what| format!("the line {what}"))?)?;
    let text = string(&value, "text")?.ok_or("has no key 'text'")?;
    let label = match (string(&value, "category")?, string(&value, "label")?) {
        (Some(label), None) | (None, Some(label)) => label,
        (None, None) => return Err("has no key 'category' or 'label'".into()),
        (Some(_), Some(_)) => return Err("has both keys, 'category' and 'label'".into()),
    };
    example(text, label)
}

/// A line that is an object with a text.
pub(super) struct Object {
    /// The text.
    pub(super) text: String,
    /// The line without the brace that closes it.
    pub(super) open: String,
    /// What the line says.
    pub(super) value: Value,
}

/// Reads a line that is an object with a text.
pub(super) fn text(line: &[u8]) -> Result<Object, String> {
    let line = utf8(line).map_err(|what| format!("the line {what}"))?;
    let value = object(line)?;
    let text = string(&value, "text")?.ok_or("has no key 'text'")?.to_owned();
    let open = line.trim_ascii_end().strip_suffix('}').unwrap_or(line);
    Ok(Object { text, open: open.trim_ascii_end().to_owned(), value })
}

fn object(line: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("is not JSON: {}", json_fault(&e)))?;
    if value.is_object() { Ok(value) } else { Err("is not a JSON object".into()) }
}

fn string<'a>(object: &'a Value, key: &str) -> Result<Option<&'a str>, String> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(other) => Err(format!("the key '{key}' must hold a string, it holds {other}")),
    }
}

/// Every line is parsed alone, so that the line number of serde's message would always be 1.
fn json_fault(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Input {
        read(Source::of("a.jsonl", text)).unwrap()
    }

    #[test]
    fn objects_become_examples() {
        let input = parse(
            "{\"text\": \"hello\\nyou\", \"category\": \"greet\", \"id\": 3}\r\n\n{\"label\":\"存款\",\"text\":\"存钱\"}".as_bytes(),
        );
        assert!(input.faults.listed().is_empty(), "{:?}", input.faults);
        let rows: Vec<_> = input.examples.iter().map(|e| (e.text.as_str(), e.label.as_str())).collect();
        assert_eq!(rows, [("hello\nyou", "greet"), ("存钱", "存款")]);
    }

    #[test]
    fn bad_lines_are_named() {
        for (line, part) in [
            ("{\"text\": \"a\"", "is not JSON: EOF while parsing an object at column 12"),
            ("[1]", "not a JSON object"),
            ("{\"category\": \"b\"}", "'text'"),
            ("{\"text\": \"a\"}", "'category' or 'label'"),
            ("{\"text\": \"a\", \"label\": \"b\", \"category\": \"b\"}", "both"),
            ("{\"text\": 3, \"label\": \"b\"}", "must hold a string, it holds 3"),
            ("{\"text\": \"\", \"label\": \"b\"}", "text is empty"),
            ("{\"text\": \"a\", \"label\": \"\"}", "category must not be empty"),
        ] {
            let input = parse(format!("\n{line}\n").as_bytes());
            let [fault] = input.faults.listed() else { panic!("{line}: {:?}", input.faults) };
            assert_eq!(fault.row, Some(2));
            assert!(fault.what.contains(part), "{}", fault.what);
        }
        assert!(parse(b"{\"text\": \"\xff\"}").faults.listed()[0].what.contains("not UTF-8"));
    }
}
