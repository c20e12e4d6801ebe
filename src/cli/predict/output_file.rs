//! Rows under way to where they go, and how far they have come.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use crate::cli::{
    failure::Failure,
    outlet::{Outlet, Packer},
};

/// Rows under way.
pub(super) struct Rows {
    outlet: Outlet,
    packer: Packer,
    written: u64,
}

impl Rows {
    /// Rows on the standard output, or in a file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn open(out: Option<&Path>) -> Result<Self, Failure> {
        let (outlet, packer) = Outlet::open(out)?;
        Ok(Self { outlet, packer, written: 0 })
    }

    /// Whether rows and a progress bar would stand between each other.
    pub(super) fn is_terminal(&self) -> bool {
        self.outlet.file().is_none() && io::stdout().is_terminal()
    }

    /// Writes a line that is no row.
    pub(super) fn head(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.packer.write_all(line).map_err(|e| self.outlet.failed(&e))
    }

    /// Writes rows, each a line, and hands them on.
    pub(super) fn write(&mut self, lines: &[Vec<u8>]) -> Result<(), Failure> {
        let packer = &mut self.packer;
        let written = lines.iter().try_for_each(|line| packer.write_all(line)).and_then(|()| packer.flush());
        written.map_err(|e| self.outlet.failed(&e))?;
        self.written += lines.len() as u64;
        Ok(())
    }

    /// Puts the file in its place.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.packer.finish().map_err(|e| self.outlet.failed(&e))?;
        self.outlet.settle()
    }

    /// Adds to a failure how far the rows have come.
    pub(super) fn tell(&self, failure: Failure) -> Failure {
        let rows = if self.written == 1 { "row was" } else { "rows were" };
        let written = format!("{} {rows} written to {}", self.written, self.outlet.name);
        let untouched = self.outlet.file().map(|out| format!("{} was not written", out.display()));
        failure.with_details([written].into_iter().chain(untouched))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::failure::Exit;

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
}
