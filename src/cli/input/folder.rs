//! A folder with one file a class: the name without its extension is the class, every line that is not blank a text.
//!
//! Hidden files are ignored. This is how many teams keep their data by hand.

use std::{fs, path::Path};

use super::{Fault, Input, example, utf8, without_mark};
use crate::{cli::failure::Failure, taxonomy::ClassName};

pub(super) fn read(folder: &Path) -> Result<Input, Failure> {
    let name = folder.display().to_string();
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<_> =
        entries.map_err(|e| Failure::read(&name, &e))?.into_iter().map(|e| e.path()).collect();
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    // The order of a folder is not defined, and that of the examples shall be.
    paths.sort();
    if paths.is_empty() {
        return Err(Fault::file(&name, "the folder holds no file").into());
    }

    let mut input = Input::default();
    for path in paths {
        let file = path.display().to_string();
        if path.is_dir() {
            input.faults.push(Fault::file(&file, "is a folder; only files are read, one a class"));
            continue;
        }
        let Some(class) = path.file_stem().and_then(|stem| stem.to_str()) else {
            input.faults.push(Fault::file(&file, "the name is not UTF-8"));
            continue;
        };
        let bytes = fs::read(&path).map_err(|e| Failure::read(&file, &e))?;
        parse(&file, class, without_mark(&bytes), &mut input);
    }
    Ok(input)
}

fn parse(file: &str, class: &str, bytes: &[u8], input: &mut Input) {
    if let Err(what) = ClassName::new(class) {
        input.faults.push(Fault::file(file, format!("the category, which is the name of the file, {what}")));
        return;
    }
    let before = (input.examples.len(), input.faults.len());
    for (row, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let checked = utf8(line).map_err(|what| format!("the text {what}"));
        match checked.and_then(|text| example(text.trim_end_matches('\r'), class)) {
            Ok(example) => input.examples.push(example),
            Err(what) => input.faults.push(Fault::row(file, row, what)),
        }
    }
    if (input.examples.len(), input.faults.len()) == before {
        input.faults.push(Fault::file(file, "holds no text"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_classes_and_lines_texts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("取款.txt", "\u{feff}取钱\r\n\n取 500 元\n".as_bytes());
        write("greet", b"hello");
        write(".hidden", b"\xff");
        let input = read(folder.path()).unwrap();
        assert!(input.faults.is_empty(), "{:?}", input.faults);
        let rows: Vec<_> = input.examples.iter().map(|e| (e.text.as_str(), e.label.as_str())).collect();
        assert_eq!(rows, [("hello", "greet"), ("取钱", "取款"), ("取 500 元", "取款")]);
    }

    #[test]
    fn faults_name_the_file_and_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("a.txt", b"fine\n\xff\xfe\n");
        write("b.txt", b"\n\n");
        write("#c.txt", b"hello\n");
        fs::create_dir(folder.path().join("d")).unwrap();
        let input = read(folder.path()).unwrap();
        assert_eq!(input.examples.len(), 1);
        let faults: Vec<_> = input.faults.iter().map(ToString::to_string).collect();
        for part in [
            "a.txt: row 2: the text is not UTF-8",
            "b.txt: holds no text",
            "name of the file",
            "d: is a folder",
        ] {
            assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:?}");
        }
        assert_eq!(faults.len(), 4);
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("holds no file"));
    }
}
