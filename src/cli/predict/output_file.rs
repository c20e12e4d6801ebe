//! Where rows go: the standard output, or a file that appears when it is whole.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use crate::cli::failure::{Exit, Failure};

/// Rows under way.
pub(super) struct Rows {
    writer: Box<dyn Write>,
    /// What the rows go to, as messages name it.
    name: String,
    /// Where the rows stand until they are whole, and the file that they shall become.
    place: Option<(PathBuf, PathBuf)>,
    written: u64,
}

impl Rows {
    /// Rows on the standard output, or in a file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn open(out: Option<&Path>) -> Result<Self, Failure> {
        let Some(out) = out else {
            let writer = Box::new(BufWriter::new(io::stdout()));
            return Ok(Self { writer, name: "the standard output".into(), place: None, written: 0 });
        };
        // A pipe or a device is no file that another could take the place of.
        let is_special = fs::metadata(out).is_ok_and(|of| !of.is_file());
        let partial = if is_special { out.to_owned() } else { partial(out) };
        let name = partial.display().to_string();
        let file = if is_special { File::options().write(true).open(out) } else { File::create(&partial) };
        let file = file.map_err(|e| Failure::new(Exit::Invalid, format!("cannot write {name}: {e}")))?;
        let place = (!is_special).then(|| (partial, out.to_owned()));
        Ok(Self { writer: Box::new(BufWriter::new(file)), name, place, written: 0 })
    }

    /// Whether rows and a progress bar would stand between each other.
    pub(super) fn is_terminal(&self) -> bool {
        self.place.is_none() && io::stdout().is_terminal()
    }

    /// Writes a line that is no row.
    pub(super) fn head(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(line).map_err(|e| self.failed(&e))
    }

    /// Writes rows, each a line, and hands them on.
    pub(super) fn write(&mut self, lines: &[Vec<u8>]) -> Result<(), Failure> {
        let writer = &mut self.writer;
        let written = lines.iter().try_for_each(|line| writer.write_all(line)).and_then(|()| writer.flush());
        written.map_err(|e| self.failed(&e))?;
        self.written += lines.len() as u64;
        Ok(())
    }

    /// Puts the file in its place.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|e| self.failed(&e))?;
        drop(self.writer);
        if let Some((partial, out)) = &self.place {
            fs::rename(partial, out).map_err(|e| {
                let what = format!("cannot put {} in the place of {}: {e}", partial.display(), out.display());
                Failure::new(Exit::Failed, what)
            })?;
        }
        Ok(())
    }

    /// Adds to a failure how far the rows have come.
    pub(super) fn tell(&self, failure: Failure) -> Failure {
        let rows = if self.written == 1 { "row was" } else { "rows were" };
        let written = format!("{} {rows} written to {}", self.written, self.name);
        let untouched = self.place.as_ref().map(|(_, out)| format!("{} was not written", out.display()));
        failure.with_details([written].into_iter().chain(untouched))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        match (error.kind(), &self.place) {
            // Nobody reads any more.
            (io::ErrorKind::BrokenPipe, None) => Failure::new(Exit::Failed, ""),
            _ => Failure::new(Exit::Failed, format!("cannot write {}: {error}", self.name)),
        }
    }
}

/// `answers.csv.partial` beside `answers.csv`.
fn partial(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".partial");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("answers.csv");
        fs::write(&out, "old").unwrap();
        let mut rows = Rows::open(Some(&out)).unwrap();
        rows.head(b"text\n").unwrap();
        rows.write(&[b"hi\n".to_vec(), b"you\n".to_vec()]).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"old");
        let told = rows.tell(Failure::new(Exit::Failed, "no")).to_string();
        assert!(told.contains("2 rows were written to") && told.contains("answers.csv.partial"), "{told}");
        assert!(told.contains("answers.csv was not written"), "{told}");
        rows.finish().unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"text\nhi\nyou\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let failure = Rows::open(Some(Path::new("nowhere/answers.csv"))).err().unwrap();
        assert!(failure.to_string().contains("nowhere/answers.csv.partial"), "{failure}");
    }
}
