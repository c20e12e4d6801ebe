//! What a disk may hold after a power cut, worked out from a record of what a process did to its files.
//!
//! What was synced is there. Of what was written and not synced, any part may be: each sector of 512 bytes by itself, whatever
//! the order. Names are made, changed and removed in their order, and last when their folder was synced.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use rand::RngExt as _;

const SECTOR: usize = 512;

/// One thing that the process did, as `recorder.rs` writes it down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    kind: u8,
    first: u64,
    second: u64,
    data: &'a [u8],
}

/// How much of what was not synced reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Nothing,
    Everything,
    AnyPart,
}

/// A disk under the process.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    clock: u64,
    files: HashMap<u64, File>,
    names: BTreeMap<PathBuf, u64>,
    renaming: Vec<(u64, NameChange)>,
    syncs: HashMap<u64, Sync>,
}

#[derive(Debug, Default)]
struct File {
    durable: Vec<u8>,
    changes: Vec<(u64, Change)>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Debug)]
enum NameChange {
    Made(PathBuf, u64),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

#[derive(Debug)]
struct Sync {
    begun: u64,
    folder: Option<PathBuf>,
}

/// The records of a log, without one that the end of the process cut.
pub(crate) fn records(mut log: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    while let Some((head, rest)) = log.split_first_chunk::<25>() {
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let length = number(17) as usize;
        let Some((data, rest)) = rest.split_at_checked(length) else { break };
        records.push(Record { kind: head[0], first: number(1), second: number(9), data });
        log = rest;
    }
    records
}

impl Record<'_> {
    /// Whether this begins or ends a sync of a file.
    pub(crate) fn is_sync_of_a_file(&self) -> bool {
        matches!(self.kind, b'B' | b'E') && self.first > 0
    }

    /// What was written to the file that was made under the name, if this is such a write.
    pub(crate) fn written_to<'a>(&'a self, disk: &Disk, name: &str) -> Option<&'a str> {
        let made = |(_, change): &(u64, NameChange)| match change {
            NameChange::Made(path, file) => *file == self.first && path.ends_with(name),
            _ => false,
        };
        let is_named = disk.renaming.iter().any(made)
            || disk.names.iter().any(|(path, file)| *file == self.first && path.ends_with(name));
        (self.kind == b'W' && is_named).then(|| std::str::from_utf8(self.data).expect("text"))
    }
}

impl Disk {
    /// Does what the process did.
    pub(crate) fn apply(&mut self, record: &Record<'_>) {
        self.clock += 1;
        let Record { kind, first, second, data } = *record;
        let path = |bytes: &[u8]| PathBuf::from(std::str::from_utf8(bytes).expect("a path in UTF-8"));
        match kind {
            b'C' => self.renaming.push((self.clock, NameChange::Made(path(data), first))),
            b'W' => {
                let change = Change::Write { offset: second as usize, data: data.to_vec() };
                self.files.entry(first).or_default().changes.push((self.clock, change));
            }
            b'T' => {
                let change = Change::Length(second as usize);
                self.files.entry(first).or_default().changes.push((self.clock, change));
            }
            b'B' => {
                let folder = (first == 0).then(|| path(data));
                self.syncs.insert(second, Sync { begun: self.clock, folder });
            }
            b'E' => self.synced(first, second),
            b'R' => {
                let at = data.iter().position(|byte| *byte == 0).expect("two paths");
                let change = NameChange::Renamed(path(&data[..at]), path(&data[at + 1..]));
                self.renaming.push((self.clock, change));
            }
            b'U' => self.renaming.push((self.clock, NameChange::Removed(path(data)))),
            other => panic!("a record of the kind {other}"),
        }
    }

    fn synced(&mut self, file: u64, id: u64) {
        let Sync { begun, folder } = self.syncs.remove(&id).expect("it began");
        if let Some(folder) = folder {
            let covered = |(at, change): &(u64, NameChange)| *at < begun && change.folder() == folder;
            // Names last in their order, so those of other folders that came before do too.
            if let Some(last) = self.renaming.iter().rposition(covered) {
                for (_, change) in self.renaming.drain(..=last) {
                    change.apply(&mut self.names);
                }
            }
        } else if let Some(file) = self.files.get_mut(&file) {
            let covered = file.changes.iter().take_while(|(at, _)| *at < begun).count();
            for (_, change) in file.changes.drain(..covered) {
                change.apply(&mut file.durable, |_| true);
            }
        }
    }

    /// Writes what is on the disk after a cut, of all that lies below a folder, to another folder.
    pub(crate) fn cut(&self, below: &Path, to: &Path, reached: Reached, rng: &mut impl rand::Rng) {
        let mut names = self.names.clone();
        let count = match reached {
            Reached::Nothing => 0,
            Reached::Everything => self.renaming.len(),
            Reached::AnyPart => rng.random_range(0..=self.renaming.len()),
        };
        self.renaming[..count].iter().for_each(|(_, change)| change.apply(&mut names));
        for (path, file) in names {
            let Ok(path) = path.strip_prefix(below) else { continue };
            let mut bytes = Vec::new();
            if let Some(file) = self.files.get(&file) {
                bytes.clone_from(&file.durable);
                // A disk that takes little of what is under way, or much.
                let share: f64 = rng.random();
                for (_, change) in &file.changes {
                    change.apply(&mut bytes, |_| match reached {
                        Reached::Nothing => false,
                        Reached::Everything => true,
                        Reached::AnyPart => rng.random_bool(share),
                    });
                }
            }
            let path = to.join(path);
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder");
            fs::write(path, bytes).expect("written");
        }
    }
}

impl Change {
    /// Makes the change, in the sectors that reach the disk.
    fn apply(&self, bytes: &mut Vec<u8>, mut reaches: impl FnMut(usize) -> bool) {
        match self {
            Self::Length(length) => {
                if reaches(0) {
                    bytes.resize(*length, 0);
                }
            }
            Self::Write { offset, data } => {
                let mut at = 0;
                while at < data.len() {
                    let sector_end = (offset + at) / SECTOR * SECTOR + SECTOR;
                    let end = data.len().min(sector_end - offset);
                    if reaches(offset + at) {
                        if bytes.len() < offset + end {
                            bytes.resize(offset + end, 0);
                        }
                        bytes[offset + at..offset + end].copy_from_slice(&data[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

impl NameChange {
    fn folder(&self) -> &Path {
        let (Self::Made(path, _) | Self::Renamed(_, path) | Self::Removed(path)) = self;
        path.parent().expect("it has a folder")
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Made(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Renamed(old, new) => {
                if let Some(file) = names.remove(old) {
                    names.insert(new.clone(), file);
                }
            }
            Self::Removed(path) => {
                names.remove(path);
            }
        }
    }
}
