//! How a value lies in a tree: cut into cells, each sealed.
//!
//! ```text
//! key in sled    key | cell number, u32 big-endian
//! value in sled  format, 1 byte | whether a cell follows, 1 byte | checksum, 8 bytes | at most 16 KiB of the value
//! ```
//!
//! The checksum is the beginning of blake3 over the tree, the key in sled, the checksum of the cell before, and the
//! cell. So a cell that was moved, exchanged, or left over from an earlier value of the same key does not pass.
//!
//! Keys of a tree must not be prefixes of each other unless they go on with a byte above the high byte of a cell
//! number, which is 0 in practice; then keys keep their order in sled.

use super::Tree;
use crate::error::{Error, Result};

/// Largest piece of a value in one cell.
pub(super) const CELL_BYTES: usize = 16 * 1024;

const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
const HEADER_BYTES: usize = 2 + CHECKSUM_BYTES;
const NUMBER_BYTES: usize = 4;
pub(super) const REMEDY: &str =
    "restore a backup of the data directory, or do without it: taxond fsck --repair";

/// Checksum of a cell; zero stands before the first.
pub(super) type Checksum = [u8; CHECKSUM_BYTES];

/// A cell as read.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    /// Whether another cell follows.
    pub(super) more: bool,
    /// What its successor's checksum builds on.
    pub(super) checksum: Checksum,
    /// Its piece of the value.
    pub(super) piece: &'a [u8],
}

/// Key in sled of a cell.
pub(super) fn cell_key(key: &[u8], number: u32) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

/// Key and number of the cell under a key in sled.
pub(super) fn split_key(tree: Tree, cell_key: &[u8]) -> Result<(&[u8], u32)> {
    let (key, number) = cell_key
        .split_last_chunk::<NUMBER_BYTES>()
        .ok_or_else(|| damaged(tree, cell_key, "its key is too short"))?;
    Ok((key, u32::from_be_bytes(*number)))
}

/// Cuts and seals a value: the keys and values in sled. An empty value has one cell.
pub(super) fn seal(tree: Tree, key: &[u8], payload: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let count = payload.len().div_ceil(CELL_BYTES).max(1);
    let mut before = Checksum::default();
    (0..count).map(move |number| {
        let start = number * CELL_BYTES;
        let piece = &payload[start..payload.len().min(start + CELL_BYTES)];
        let more = number + 1 < count;
        let key = cell_key(key, number as u32);
        before = checksum(tree, &key, before, more, piece);
        let mut sealed = Vec::with_capacity(HEADER_BYTES + piece.len());
        sealed.extend([FORMAT, u8::from(more)]);
        sealed.extend(before);
        sealed.extend(piece);
        (key, sealed)
    })
}

/// Reads a cell and checks it.
pub(super) fn open<'a>(tree: Tree, cell_key: &[u8], before: Checksum, sealed: &'a [u8]) -> Result<Cell<'a>> {
    let (header, piece) = sealed
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| damaged(tree, cell_key, "it is too short"))?;
    let [format, more, stored @ ..] = *header;
    if format != FORMAT || more > 1 {
        return Err(damaged(tree, cell_key, &format!("its header is unknown ({format}, {more})")));
    }
    let more = more == 1;
    if checksum(tree, cell_key, before, more, piece) != stored {
        return Err(damaged(tree, cell_key, "its checksum does not match"));
    }
    Ok(Cell { more, checksum: stored, piece })
}

/// The error for a cell that cannot be read.
pub(super) fn damaged(tree: Tree, cell_key: &[u8], detail: &str) -> Error {
    let key: String = cell_key.iter().map(|byte| format!("{byte:02x}")).collect();
    Error::Corrupt {
        what: format!("record {key} of {}", tree.name()),
        detail: detail.to_owned(),
        remedy: REMEDY,
    }
}

fn checksum(tree: Tree, cell_key: &[u8], before: Checksum, more: bool, piece: &[u8]) -> Checksum {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tree.name().as_bytes());
    hasher.update(&(cell_key.len() as u64).to_le_bytes());
    hasher.update(cell_key);
    hasher.update(&before);
    hasher.update(&[u8::from(more)]);
    hasher.update(piece);
    let mut checksum = Checksum::default();
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_at_the_limit() {
        for (length, cells) in [(0, 1), (1, 1), (CELL_BYTES, 1), (CELL_BYTES + 1, 2), (3 * CELL_BYTES, 3)] {
            assert_eq!(seal(Tree::Jobs, b"k", &vec![7; length]).count(), cells, "{length} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (key, sealed) = seal(Tree::Jobs, b"key", b"payload").next().unwrap();
        assert_eq!(open(Tree::Jobs, &key, Checksum::default(), &sealed).unwrap().piece, b"payload");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = open(Tree::Jobs, &key, Checksum::default(), &flipped).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "bit {bit}: {error}");
        }
    }

    #[test]
    fn a_cell_passes_only_in_its_place() {
        let value = vec![1; CELL_BYTES + 1];
        let cells: Vec<_> = seal(Tree::Jobs, b"a", &value).collect();
        let first = open(Tree::Jobs, &cells[0].0, Checksum::default(), &cells[0].1).unwrap();
        assert!(first.more);
        assert!(open(Tree::Jobs, &cells[1].0, first.checksum, &cells[1].1).is_ok());
        assert!(
            open(Tree::Jobs, &cells[1].0, Checksum::default(), &cells[1].1).is_err(),
            "another predecessor"
        );
        assert!(
            open(Tree::Jobs, &cell_key(b"b", 0), Checksum::default(), &cells[0].1).is_err(),
            "another key"
        );
        assert!(open(Tree::Catalog, &cells[0].0, Checksum::default(), &cells[0].1).is_err(), "another tree");
    }
}
