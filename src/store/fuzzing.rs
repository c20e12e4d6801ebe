//! What a fuzzer tries on the bytes of a store and of its backups.

use super::{
    BackupWriter, Entry, Tree,
    backup::{BackupReader, END_BYTES},
    cell::{self, Checksum},
};
use crate::error::{Error, Result};

/// Any bytes as a backup, and as the entries of one: what is read makes the same bytes again, so it takes no more memory than they
/// do; what is not is refused as damaged, or as no backup.
pub fn backups(data: &[u8]) {
    match read(data) {
        Ok(entries) => assert_eq!(write(&entries), data),
        Err(Error::Corrupt { .. } | Error::Invalid(_)) => {}
        Err(other) => panic!("{other}"),
    }
    let empty = write(&[]);
    let begun = [&empty[..empty.len() - END_BYTES], data].concat();
    let reader = BackupReader::new(&begun[..]).expect("it begins as a backup does");
    let entries: Vec<Entry> = reader.map_while(Result::ok).collect();
    let whole = write(&entries);
    assert!(begun.starts_with(&whole[..whole.len() - END_BYTES]));
    assert_eq!(read(&whole).expect("what was written is read"), entries);
}

fn read(file: &[u8]) -> Result<Vec<Entry>> {
    BackupReader::new(file)?.collect()
}

fn write(entries: &[Entry]) -> Vec<u8> {
    let mut writer = BackupWriter::new(Vec::new()).expect("a vector takes everything");
    entries.iter().for_each(|entry| writer.put(entry).expect("a vector takes everything"));
    writer.finish().expect("a vector takes everything")
}

/// Any bytes as a cell, and as a key and a value: what was sealed is read as it was, and what is not is damaged. The first byte is
/// the length of the key.
pub fn cells(data: &[u8]) {
    let Some((&length, data)) = data.split_first() else { return };
    let (key, value) = data.split_at(data.len().min(usize::from(length)));
    let tree = Tree::ALL[usize::from(length) % Tree::ALL.len()];
    if let Err(error) =
        cell::split_key(tree, key).and_then(|_| cell::open(tree, key, Checksum::default(), value))
    {
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    let (mut before, mut read) = (Checksum::default(), Vec::new());
    for (number, (cell_key, sealed)) in (0..).zip(cell::seal(tree, key, value)) {
        assert_eq!(cell::split_key(tree, &cell_key).expect("a key that was made"), (key, number));
        let cell = cell::open(tree, &cell_key, before, &sealed).expect("a cell that was made");
        read.extend_from_slice(cell.piece);
        assert_eq!(cell.more, read.len() < value.len());
        before = cell.checksum;
    }
    assert_eq!(read, value);
}
