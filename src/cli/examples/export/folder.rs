//! A folder: one folder a class, one text a file, and the list of the classes in the order of their first examples.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::writer::Write;
use crate::{
    cli::{
        failure::{Exit, Failure},
        input::folder::CLASSES,
        outlet::partial,
    },
    proto::v1::Example,
};

const MARK: char = '\u{feff}';

/// Where the folder stands until it is whole, and where it shall stand.
pub(super) struct Place {
    partial: PathBuf,
    out: PathBuf,
}

/// # Errors
/// No folder is named, it is there and not empty, or it cannot be made.
pub(super) fn open(out: Option<&Path>) -> Result<(Place, Writer), Failure> {
    let Some(out) = out else {
        return Err(Failure::new(Exit::Usage, "a folder needs a name: --format folder goes with --out DIR"));
    };
    let is_empty = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if out.exists() && !is_empty {
        let what = format!("{} is there already; name a folder that is not, or is empty", out.display());
        return Err(Failure::new(Exit::Invalid, what));
    }
    let partial = partial(out);
    fs::create_dir(&partial).map_err(|e| {
        Failure::new(Exit::Invalid, format!("cannot make the folder {}: {e}", partial.display()))
    })?;
    let writer = Writer { folder: partial.clone(), classes: Vec::new(), seen: HashSet::new() };
    Ok((Place { partial, out: out.to_owned() }, writer))
}

impl Place {
    pub(super) fn failed(&self, error: &io::Error) -> Failure {
        Failure::new(Exit::Failed, format!("cannot write to {}: {error}", self.partial.display()))
    }

    pub(super) fn settle(self) -> Result<(), Failure> {
        fs::rename(&self.partial, &self.out).map_err(|e| {
            let (partial, out) = (self.partial.display(), self.out.display());
            Failure::new(Exit::Failed, format!("cannot rename {partial} to {out}: {e}"))
        })
    }

    pub(super) fn discard(self) {
        // It was made by this call; what cannot be removed is named by the next.
        let _removed = fs::remove_dir_all(self.partial);
    }
}

pub(super) struct Writer {
    folder: PathBuf,
    /// In the order of their first examples.
    classes: Vec<String>,
    seen: HashSet<String>,
}

impl Write for Writer {
    fn write(&mut self, example: &Example) -> io::Result<()> {
        let class = self.folder.join(&example.label);
        if self.seen.insert(example.label.clone()) {
            // Where the file system takes two labels for one name, the second is an error.
            fs::create_dir(&class)?;
            self.classes.push(example.label.clone());
        }
        // The names keep the order of the examples.
        fs::write(class.join(format!("{:010}.txt", example.id)), whole(&example.text))
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if self.seen.contains(CLASSES) {
            return Ok(());
        }
        let list = self.classes.iter().map(|class| format!("{class}\n")).collect::<String>();
        fs::write(self.folder.join(CLASSES), list)
    }
}

/// A text as a file: readers drop the end of the last line and the byte order mark, so that what a text has of these needs
/// another of them.
fn whole(text: &str) -> String {
    let mark = if text.starts_with(MARK) { MARK.to_string() } else { String::new() };
    // A carriage return before the end of the line would be taken for a part of it.
    let end = if text.ends_with('\r') { "" } else { "\n" };
    format!("{mark}{text}{end}")
}

pub(super) fn unfit(example: &Example) -> Option<&'static str> {
    let name = &example.label;
    (name.contains('/') || name.starts_with('.')).then_some("the label is no name of a folder that shows")
}
