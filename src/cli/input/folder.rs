//! A folder that tells classes apart by names: a folder a class with one text a file, or a file a class with one text a
//! line, the name of the file without its ending being the class.
//!
//! A file `classes` lists the classes, one a line; then there are these and no others, and examples come in that order.
//! Hidden files are ignored. This is how many teams keep their data by hand.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{Fault, Input, Wrong, example, format::is_compression, lines, source::Source, utf8};
use crate::{cli::failure::Failure, proto::v1::LabelledText, taxonomy::ClassName, text::MAX_TEXT_BYTES};

/// Name of the file that lists the classes.
pub(crate) const CLASSES: &str = "classes";

pub(super) fn read(folder: &Path) -> Result<Input, Failure> {
    let name = folder.display().to_string();
    let mut input = Input::default();
    let list = folder.join(CLASSES);
    let listed = if list.is_file() { Some(classes(&list)?) } else { None };
    let mut places = Vec::new();
    for path in entries(folder)? {
        if listed.is_some() && path == list {
            continue;
        }
        let file = path.display().to_string();
        match class(&path) {
            Ok(class) => places.push((class, path)),
            Err(what) => input.faults.push(Fault::file(&file, what)),
        }
    }
    if places.is_empty() && input.faults.count() == 0 {
        return Err(Fault::file(&name, "the folder holds no file").into());
    }
    if let Some(listed) = &listed {
        let place_of = |class: &ClassName| listed.iter().position(|name| name == class);
        for (class, path) in &places {
            if place_of(class).is_none() {
                let what = format!("'{class}' is none of the names in {}", list.display());
                input.faults.push(Fault::file(&path.display().to_string(), what));
            }
        }
        for (row, class) in (1..).zip(listed).filter(|(_, class)| places.iter().all(|(of, _)| of != *class)) {
            let what = format!("there is no file or folder for '{class}', class {row} of the list");
            input.faults.push(Fault::file(&list.display().to_string(), what));
        }
        places.retain(|(class, _)| place_of(class).is_some());
        places.sort_by_key(|(class, _)| place_of(class));
    }
    for (class, path) in &places {
        let before = (input.examples.len(), input.faults.count());
        if path.is_dir() {
            read_files(path, class, &mut input)?;
        } else {
            read_lines(path, class, &mut input)?;
        }
        if (input.examples.len(), input.faults.count()) == before {
            input.faults.push(Fault::file(&path.display().to_string(), "holds no text"));
        }
    }
    Ok(input)
}

/// What is in a folder and not hidden, by name: the order of a folder is not defined, and that of the examples shall be.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|e| Failure::read(&folder.display().to_string(), &e))?;
    let mut paths: Vec<_> = entries.into_iter().map(|e| e.path()).collect();
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

/// The names of a list of classes.
fn classes(list: &Path) -> Result<Vec<ClassName>, Failure> {
    let file = list.display().to_string();
    let mut names = Vec::new();
    lines::each(Source::open(list)?, |row, line| {
        let name =
            line.and_then(|line| ClassName::new(utf8(line)?).map_err(|what| format!("the category {what}")));
        let name = name.map_err(|what| Fault::row(&file, row, what))?;
        if names.contains(&name) {
            return Err(Fault::row(&file, row, format!("'{name}' is listed twice")).into());
        }
        names.push(name);
        Ok(())
    })?;
    Ok(names)
}

/// The class that the name of a file or folder stands for.
fn class(path: &Path) -> Result<ClassName, String> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("the name is not UTF-8")?;
    let ending = |name: &str| Path::new(name).extension().and_then(|e| e.to_str()).map(str::to_owned);
    let stem = |name: &str| Path::new(name).file_stem().and_then(|e| e.to_str()).unwrap_or(name).to_owned();
    let class = if path.is_dir() {
        name.to_owned()
    } else if ending(name).is_some_and(|ending| is_compression(&ending)) {
        stem(&stem(name))
    } else {
        stem(name)
    };
    ClassName::new(&class).map_err(|what| format!("the category, which is the name, {what}"))
}

fn read_lines(path: &Path, class: &ClassName, input: &mut Input) -> Result<(), Failure> {
    let file = path.display().to_string();
    lines::each(Source::open(path)?, |row, line| {
        let text = line.and_then(|line| utf8(line).map_err(|what| format!("the text {what}")));
        let checked = text.map_err(Wrong::from);
        let checked = checked.and_then(|text| example(text.trim_end_matches('\r'), class.as_str()));
        input.take(checked, |wrong| Fault::row(&file, row, wrong))
    })
}

fn read_files(folder: &Path, class: &ClassName, input: &mut Input) -> Result<(), Failure> {
    for path in entries(folder)? {
        let file = path.display().to_string();
        if path.is_dir() {
            input
                .faults
                .push(Fault::file(&file, "is a folder in the folder of a class, where files are texts"));
            continue;
        }
        // One byte more than the longest text with its end shows that a text is too long.
        let mut bytes = Vec::new();
        let reader = Source::open(&path)?.into_reader();
        reader
            .take(MAX_TEXT_BYTES as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::read(&file, &e))?;
        input.take(check(&bytes, class), |wrong| Fault::file(&file, wrong))?;
    }
    Ok(())
}

fn check(bytes: &[u8], class: &ClassName) -> Result<LabelledText, Wrong> {
    if bytes.len() > MAX_TEXT_BYTES + 2 {
        return Err(Wrong::too_long(format!("the text has more than {MAX_TEXT_BYTES} bytes")));
    }
    let text = utf8(bytes).map_err(|what| format!("the text {what}"))?;
    example(whole(text), class.as_str())
}

/// The text of a file: editors end the last line, and that end is not a part of it.
fn whole(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn of(files: &[(&str, &[u8])]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            Self(folder)
        }

        fn read(&self) -> Input {
            read(self.0.path()).unwrap()
        }
    }

    fn rows(input: &Input) -> Vec<(&str, &str)> {
        assert_eq!(input.faults.count(), 0, "{:?}", input.faults);
        input.examples.iter().map(|e| (e.text.as_str(), e.label.as_str())).collect()
    }

    #[test]
    fn files_are_classes_and_lines_texts() {
        let packed = zstd::encode_all(&b"bye\n"[..], 1).unwrap();
        let folder = Folder::of(&[
            ("取款.txt", "\u{feff}取钱\r\n\n取 500 元\n".as_bytes()),
            ("greet", b"hello"),
            ("part.txt.zst", &packed),
            (".hidden", b"\xff"),
        ]);
        let expected = [("hello", "greet"), ("bye", "part"), ("取钱", "取款"), ("取 500 元", "取款")];
        assert_eq!(rows(&folder.read()), expected);
    }

    #[test]
    fn folders_are_classes_and_files_texts() {
        let folder = Folder::of(&[
            ("greet/2.txt", b"hello\nyou\r\n"),
            ("greet/1.txt", b" hi \n\n"),
            ("greet/.hidden", b"\xff"),
            ("v1.2/a", b"\xef\xbb\xbfbye"),
            ("part.txt", b"so long\n"),
        ]);
        let expected = [(" hi \n", "greet"), ("hello\nyou", "greet"), ("so long", "part"), ("bye", "v1.2")];
        assert_eq!(rows(&folder.read()), expected);
    }

    #[test]
    fn a_list_of_classes_tells_which_there_are_and_their_order() {
        let files = [("pos.txt", &b"good"[..]), ("neg/1", b"bad"), ("classes", b"pos\n\nneg\r\n")];
        assert_eq!(rows(&Folder::of(&files).read()), [("good", "pos"), ("bad", "neg")]);
        // A folder of that name is a class like any other.
        assert_eq!(rows(&Folder::of(&[("classes/1", b"a")]).read()), [("a", "classes")]);

        let folder = Folder::of(&[("pos.txt", b"good"), ("other.txt", b"?"), ("classes", b"neg\npos\n")]);
        let input = folder.read();
        assert_eq!(input.examples.len(), 1);
        let faults: Vec<_> = input.faults.listed().iter().map(ToString::to_string).collect();
        assert!(faults[0].contains("other.txt: 'other' is none of the names in"), "{faults:?}");
        assert!(faults[1].contains("no file or folder for 'neg', class 1"), "{faults:?}");

        for (list, part) in
            [(&b"pos\npos\n"[..], "row 2: 'pos' is listed twice"), (b"#1", "row 1: the category")]
        {
            let folder = Folder::of(&[("pos.txt", b"good"), ("classes", list)]);
            let failure = read(folder.0.path()).unwrap_err();
            assert!(failure.to_string().contains(part), "{failure}");
        }
    }

    #[test]
    fn faults_name_the_file_and_the_line() {
        let folder = Folder::of(&[
            ("a.txt", b"fine\n\xff\xfe\n"),
            ("b.txt", b"\n\n"),
            ("#c.txt", b"hello\n"),
            ("d/e/f", b"hello\n"),
            ("g/h", b"\xff"),
            ("i/j", &"é".repeat(MAX_TEXT_BYTES).into_bytes()),
        ]);
        fs::create_dir(folder.0.path().join("k")).unwrap();
        let input = folder.read();
        assert_eq!((input.examples.len(), input.faults.too_long()), (1, 1));
        let faults: Vec<_> = input.faults.listed().iter().map(ToString::to_string).collect();
        let parts = [
            "#c.txt: the category, which is the name, must not begin",
            "a.txt: row 2: the text is not UTF-8",
            "b.txt: holds no text",
            "e: is a folder in the folder of a class",
            "h: the text is not UTF-8",
            "j: the text has",
            "k: holds no text",
        ];
        assert_eq!(faults.len(), parts.len(), "{faults:?}");
        for (fault, part) in faults.iter().zip(parts) {
            assert!(fault.contains(part), "{part}: {faults:?}");
        }
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("holds no file"));
    }
}
