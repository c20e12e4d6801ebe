//! What is wrong with a file.

use std::fmt;

use crate::cli::{
    failure::{Exit, Failure},
    output,
};

/// Faults that a message lists one by one.
const LISTED_FAULTS: usize = 10;
/// Faults that are kept; the others are counted.
const KEPT_FAULTS: usize = 1000;

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file, as it was named.
    pub(crate) file: String,
    /// The row, counted from 1 with the header as the first, or nothing if the file as a whole is wrong.
    pub(crate) row: Option<u64>,
    /// What is wrong.
    pub(crate) what: String,
    is_too_long: bool,
}

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    is_too_long: bool,
}

impl Wrong {
    /// Of a text that is longer than a text may be.
    pub(super) fn too_long(what: String) -> Self {
        Self { what, is_too_long: true }
    }
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self { what, is_too_long: false }
    }
}

impl From<&str> for Wrong {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

impl Fault {
    pub(super) fn file(file: &str, wrong: impl Into<Wrong>) -> Self {
        let Wrong { what, is_too_long } = wrong.into();
        Self { file: file.to_owned(), row: None, what, is_too_long }
    }

    pub(super) fn row(file: &str, row: u64, wrong: impl Into<Wrong>) -> Self {
        Self { row: Some(row), ..Self::file(file, wrong) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(row) => write!(f, "{}: row {row}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::new(Exit::Invalid, fault.to_string())
    }
}

/// The faults of a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Faults {
    listed: Vec<Fault>,
    count: u64,
    too_long: u64,
}

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        self.count += 1;
        self.too_long += u64::from(fault.is_too_long);
        if self.listed.len() < KEPT_FAULTS {
            self.listed.push(fault);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many of them are texts that are longer than a text may be.
    pub(crate) fn too_long(&self) -> u64 {
        self.too_long
    }

    /// The first of them, a thousand at most.
    pub(crate) fn listed(&self) -> &[Fault] {
        &self.listed
    }

    /// Names them on the standard error.
    pub(crate) fn tell_skipped(&self) {
        for fault in &self.listed {
            output::aside(format!("skipped {fault}"));
        }
        if self.count > self.listed.len() as u64 {
            output::aside(format!("skipped {} more bad rows", self.count - self.listed.len() as u64));
        }
    }

    /// The failure of a file with these faults.
    pub(super) fn refuse(&self) -> Failure {
        let listed = self.listed.iter().take(LISTED_FAULTS).map(ToString::to_string);
        let unlisted = self.count.saturating_sub(LISTED_FAULTS as u64);
        let more = (unlisted > 0).then(|| format!("and {unlisted} more"));
        let mut what = format!("{} bad row{}", self.count, if self.count == 1 { "" } else { "s" });
        if self.too_long > 0 {
            what += &format!(", {} of them too long", self.too_long);
        }
        Failure::new(Exit::Invalid, format!("{what}, nothing was sent"))
            .with_details(listed.chain(more))
            .with_hint("correct the file, or leave bad rows out with --skip-bad")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_are_counted() {
        let mut faults = Faults::default();
        for row in 1..=2500 {
            let wrong = if row % 5 == 0 { Wrong::too_long("is long".into()) } else { "is bad".into() };
            faults.push(Fault::row("a.csv", row, wrong));
        }
        assert_eq!((faults.count(), faults.too_long(), faults.listed().len()), (2500, 500, 1000));
        let told = faults.refuse().to_string();
        for part in ["2500 bad rows, 500 of them too long", "a.csv: row 10: is long", "and 2490 more"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("row 11"), "{told}");
    }
}
