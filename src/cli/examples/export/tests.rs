//! What is exported is read back as it was.

use std::path::Path;

use super::*;
use crate::{cli::input, proto::v1::Split};

const TEXTS: &[&str] = &[
    "plain",
    "two\nlines",
    "two\r\nlines\r",
    "ends with a line\n",
    "ends with two\r\n\n",
    "a\ttab",
    "commas, \"quotes\" and 'others'",
    "\"",
    "  leading and trailing  ",
    "__label__greet hello",
    "hello __label__part",
    "emoji 👩‍👩‍👧 and 存钱 e\u{301}",
    "\u{feff}marked",
    "nul \0 and \u{1b}[31m",
    "{\"text\": \"json\"}",
    ".",
    "=1+1",
    "\\n \\t \\",
];

fn stored() -> Vec<Example> {
    let example = |(at, text): (usize, &&str)| Example {
        id: at as u64 + 1,
        text: (*text).to_owned(),
        label: ["greet", "存款", "card, \"lost\""][at % 3].to_owned(),
        class_name: String::new(),
        split: Split::Train.into(),
        create_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 500_000_000 }),
    };
    TEXTS.iter().enumerate().map(example).collect()
}

/// Exports what the format can hold and reads it again; how many it could not hold.
fn round_trip(format: Format, out: &Path) -> u64 {
    let (mut writer, mut bad) = (Writer::open(format, Some(out)).unwrap(), Unfit::default());
    let mut written = Vec::new();
    for example in stored().iter().filter(|example| !bad.check(format, example)) {
        writer.write(example).unwrap();
        written.push((example.label.clone(), example.text.clone()));
    }
    writer.finish().unwrap();
    let read = input::read(out, None, false).unwrap().examples;
    let mut read: Vec<_> = read.into_iter().map(|example| (example.label, example.text)).collect();
    if format == Format::Folder {
        written.sort();
        read.sort();
    }
    assert_eq!(read, written, "{format:?}");
    bad.count
}

#[test]
fn what_is_exported_is_read_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for (format, name, unfit) in [
        (Format::Csv, "a.csv", 0),
        (Format::Csv, "a.csv.gz", 0),
        (Format::Tsv, "a.tsv", 5),
        (Format::Jsonl, "a.jsonl.zst", 0),
        (Format::Parquet, "a.parquet", 0),
        (Format::Parquet, "a.parquet.gz", 0),
        // Every third label holds a space, and of the others six texts are unfit.
        (Format::FastText, "a.ft", 11),
        (Format::FastText, "a.ft.zst", 11),
        (Format::Folder, "a", 0),
    ] {
        assert_eq!(round_trip(format, &folder.path().join(name)), unfit, "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 9);
}

#[test]
fn a_folder_lists_its_classes_unless_one_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    for (name, label, is_listed) in [("a", "greet", true), ("b", "classes", false)] {
        let out = folder.path().join(name);
        let mut writer = Writer::open(Format::Folder, Some(&out)).unwrap();
        writer.write(&Example { label: label.into(), ..stored()[0].clone() }).unwrap();
        writer.finish().unwrap();
        assert_eq!(out.join("classes").is_file(), is_listed);
        assert_eq!(input::read(&out, None, false).unwrap().examples[0].label, label);
        let failure = Writer::open(Format::Folder, Some(&out)).err().unwrap();
        assert!(failure.to_string().contains("is there already"), "{failure}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_named_and_counted() {
    let mut bad = Unfit::default();
    let label = |label: &str| Example { label: label.into(), ..stored()[0].clone() };
    for (format, example, what) in [
        (Format::Tsv, &stored()[5], "example 6: the text holds a tab"),
        (Format::FastText, &stored()[1], "example 2: the text holds the end of a line"),
        (Format::FastText, &stored()[9], "begins with __label__"),
        (Format::FastText, &label("card lost"), "the label holds a space"),
        (Format::Folder, &label("a/b"), "the label is no name"),
        (Format::Folder, &label(".."), "the label is no name"),
    ] {
        assert!(bad.check(format, example));
        let told = bad.listed.last().unwrap();
        assert!(told.contains(what), "{told}");
    }
    assert_eq!(bad.count, 6);
    for _ in 0..20 {
        bad.check(Format::Tsv, &stored()[5]);
    }
    let told = bad.refuse().unwrap_err().to_string();
    assert!(told.contains("cannot hold 26 examples") && told.contains("and 16 more"), "{told}");
}

#[test]
fn what_is_cut_short_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (format, name) in [(Format::Csv, "a.csv"), (Format::Parquet, "a.parquet"), (Format::Folder, "a")] {
        let mut writer = Writer::open(format, Some(&folder.path().join(name))).unwrap();
        writer.write(&stored()[0]).unwrap();
        writer.discard();
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
