//! What an encoder made of examples, kept on disk: as long as the encoder stays, nothing need be computed again.
//!
//! ```text
//! file     features/{model uid}-{encoder}        one for each encoder of a model
//! bytes    head | rows
//! head     magic | width u32 | count u64 | ids, count x u64, ascending | blake3 of all before, 32 bytes
//! row      width x f32 | the beginning of blake3 of the place of the row and these, 8 bytes
//! ```
//!
//! Numbers are little-endian. A row is checked by itself, so that who needs a few reads a few. The folder holds nothing that could not be computed again: a file that is damaged, or in the
//! way of the budget, is removed, and the least recently used go first.

use std::{
    fs::{self, File},
    io::{BufWriter, Read as _, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rayon::prelude::*;
use tracing::warn;

use crate::{
    error::{Error, Result},
    file,
};

const MAGIC: &[u8; 8] = b"taxondf2";
/// Bytes before the ids.
const HEAD: usize = 20;
const HASH: usize = 32;
const CHECKSUM: usize = 8;
/// Extension of a file that is being written.
const UNFINISHED: &str = "new";
/// Rows that a thread reads at a time.
const BLOCK: usize = 256;

/// Tells encoders apart: equal ones make the same features of a text.
pub type EncoderId = [u8; 32];

/// The folder of features.
#[derive(Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    /// Bytes that all files together may take; 0 keeps none.
    budget: u64,
}

/// Features of examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Ids of the examples, N of them, ascending.
    pub ids: Vec<u64>,
    /// F: numbers of a row.
    pub width: usize,
    /// `[N, F]`.
    pub rows: Vec<f32>,
}

impl Features {
    /// The features of an example.
    pub fn row(&self, id: u64) -> Option<&[f32]> {
        let at = self.ids.binary_search(&id).ok()?;
        Some(&self.rows[at * self.width..][..self.width])
    }

    fn write(&self, to: impl Write) -> std::io::Result<()> {
        let mut to = BufWriter::with_capacity(1 << 20, to);
        let mut bytes = Vec::with_capacity(HEAD + self.ids.len() * 8);
        bytes.extend(MAGIC);
        bytes.extend((self.width as u32).to_le_bytes());
        bytes.extend((self.ids.len() as u64).to_le_bytes());
        self.ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        to.write_all(&bytes)?;
        to.write_all(blake3::hash(&bytes).as_bytes())?;
        for (place, row) in self.rows.chunks_exact(self.width).enumerate() {
            bytes.clear();
            row.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            to.write_all(&bytes)?;
            to.write_all(&checksum(place, &bytes))?;
        }
        to.flush()
    }
}

/// What a file says of itself.
struct Head {
    width: usize,
    ids: Vec<u64>,
    /// Where the rows begin.
    bytes: usize,
}

impl Head {
    /// None for bytes that are not what was written.
    fn read(file: &File) -> std::io::Result<Option<Self>> {
        let size = file.metadata()?.len();
        let mut bytes = vec![0; HEAD];
        let mut file = file;
        file.read_exact(&mut bytes)?;
        let Some((width, count)) = sizes(&bytes) else { return Ok(None) };
        // Checked before so much is read.
        let all = count.checked_mul(width * 4 + CHECKSUM + 8).and_then(|rows| rows.checked_add(HEAD + HASH));
        if all.is_none_or(|all| all as u64 != size) {
            return Ok(None);
        }
        bytes.resize(HEAD + count * 8, 0);
        file.read_exact(&mut bytes[HEAD..])?;
        let mut hash = [0; HASH];
        file.read_exact(&mut hash)?;
        if blake3::hash(&bytes).as_bytes() != &hash {
            return Ok(None);
        }
        let (ids, _) = bytes[HEAD..].as_chunks::<8>();
        let ids = ids.iter().map(|id| u64::from_le_bytes(*id)).collect();
        Ok(Some(Self { width, ids, bytes: bytes.len() + HASH }))
    }

    /// The rows at some places, `[places, width]`. None where one is not what was written.
    fn rows(&self, file: &File, places: &[usize]) -> std::io::Result<Option<Vec<f32>>> {
        let mut rows = vec![0.0; places.len() * self.width];
        let width = self.width;
        let blocks = rows.par_chunks_mut((BLOCK * width).max(1)).zip(places.par_chunks(BLOCK));
        let good = blocks.map(|(rows, places)| {
            let size = width * 4 + CHECKSUM;
            let mut bytes = Vec::new();
            let mut rows = rows.chunks_exact_mut(width);
            // Those that stand one after the other are read at once.
            for places in places.chunk_by(|a, b| a + 1 == *b) {
                bytes.resize(places.len() * size, 0);
                file.read_exact_at(&mut bytes, (self.bytes + places[0] * size) as u64)?;
                for ((&place, bytes), row) in places.iter().zip(bytes.chunks_exact(size)).zip(&mut rows) {
                    let (numbers, sum) = bytes.split_at(width * 4);
                    if checksum(place, numbers) != sum {
                        return Ok(false);
                    }
                    let numbers = numbers.as_chunks::<4>().0.iter();
                    row.iter_mut().zip(numbers).for_each(|(to, number)| *to = f32::from_le_bytes(*number));
                }
            }
            Ok(true)
        });
        let good = good.collect::<std::io::Result<Vec<bool>>>()?;
        Ok(good.iter().all(|good| *good).then_some(rows))
    }
}

/// Width and count at the beginning of a file; none where it begins otherwise.
fn sizes(head: &[u8]) -> Option<(usize, usize)> {
    let rest = head.strip_prefix(MAGIC)?;
    let (width, rest) = rest.split_first_chunk::<4>()?;
    let (count, _) = rest.split_first_chunk::<8>()?;
    let (width, count) = (u32::from_le_bytes(*width), u64::from_le_bytes(*count));
    (width > 0).then_some((width as usize, usize::try_from(count).ok()?))
}

/// Tells a row that was written from another, or one that stands elsewhere.
fn checksum(place: usize, numbers: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(place as u64).to_le_bytes());
    hasher.update(numbers);
    let mut sum = [0; CHECKSUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

impl FeatureCache {
    /// Opens the folder, which is made when something is to be kept. Removes files that a crash left
    /// unfinished.
    pub fn new(folder: PathBuf, budget: u64) -> Self {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == UNFINISHED) {
                let _counted_in_the_budget_otherwise = fs::remove_file(entry.path());
            }
        }
        Self { folder, budget }
    }

    /// Whether so many rows of a width may be kept at all.
    pub fn fits(&self, rows: usize, width: usize) -> bool {
        (rows * (width * 4 + CHECKSUM + 8) + HEAD + HASH) as u64 <= self.budget
    }

    /// What an encoder of a model made of some of its examples, ascending, as far as that is kept.
    pub fn load(&self, uid: u64, encoder: &EncoderId, of: &[u64]) -> Option<Features> {
        self.read(uid, encoder, |head, file| {
            let (ids, places): (Vec<u64>, Vec<usize>) =
                of.iter().filter_map(|id| Some((*id, head.ids.binary_search(id).ok()?))).unzip();
            let rows = head.rows(file, &places)?;
            Ok(rows.map(|rows| Features { ids, width: head.width, rows }))
        })
    }

    /// Whether what an encoder of a model made of exactly these examples is kept.
    pub fn holds(&self, uid: u64, encoder: &EncoderId, ids: &[u64]) -> bool {
        self.read(uid, encoder, |head, _| Ok(Some(head.ids == ids))).unwrap_or(false)
    }

    /// Reads a file that is there; `read` gives none for one that is damaged, which is removed.
    fn read<T>(
        &self,
        uid: u64,
        encoder: &EncoderId,
        read: impl FnOnce(&Head, &File) -> std::io::Result<Option<T>>,
    ) -> Option<T> {
        let path = self.path(uid, encoder);
        let file = file::open(File::options().read(true).append(true), &path).ok()?;
        let found = Head::read(&file).and_then(|head| head.map_or(Ok(None), |head| read(&head, &file)));
        if let Ok(Some(found)) = found {
            let _only_the_order_suffers = file.set_modified(SystemTime::now());
            return Some(found);
        }
        warn!(path = %path.display(), "kept features are damaged; they are computed again");
        let _computed_again_anyway = fs::remove_file(&path);
        None
    }

    /// Keeps features in place of those that were kept for the encoder.
    ///
    /// # Errors
    /// [`Error::Io`]. What was kept before is not harmed then.
    pub fn store(&self, uid: u64, encoder: &EncoderId, features: &Features) -> Result<()> {
        if !self.fits(features.ids.len(), features.width) {
            return Ok(());
        }
        let path = self.path(uid, encoder);
        let write = || {
            file::make_folder(&self.folder)?;
            let new = path.with_extension(UNFINISHED);
            let written = File::create(&new).and_then(|file| features.write(file));
            written.and_then(|()| fs::rename(&new, &path)).inspect_err(|_| {
                let _removed_by_the_next_start = fs::remove_file(&new);
            })?;
            self.make_room(&path)
        };
        write().map_err(|source| Error::io("keeping features", source))
    }

    /// Removes what is kept of a model.
    pub fn remove(&self, uid: u64) {
        let prefix = format!("{uid:016x}-");
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _gone_or_unreadable = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes the least recently used files until the rest is within the budget.
    fn make_room(&self, keep: &Path) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let (path, about) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
            files.push((about.modified()?, path, about.len()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in files.iter().filter(|(_, path, _)| path != keep) {
            if total <= self.budget {
                break;
            }
            fs::remove_file(path)?;
            total -= bytes;
        }
        Ok(())
    }

    fn path(&self, uid: u64, encoder: &EncoderId) -> PathBuf {
        self.folder.join(format!("{uid:016x}-{}", blake3::Hash::from(*encoder).to_hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(first: u64) -> Features {
        let ids = vec![first, first + 2, first + 9];
        Features { ids, width: 2, rows: vec![0.5, -1.0, 2.0, f32::MIN_POSITIVE, 1e30, -0.0] }
    }

    fn bytes(features: &Features) -> Vec<u8> {
        let mut bytes = Vec::new();
        features.write(&mut bytes).unwrap();
        bytes
    }

    fn cache(budget: u64) -> (tempfile::TempDir, FeatureCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path().join("features"), budget);
        (folder, cache)
    }

    #[test]
    fn what_was_kept_comes_back() {
        let (_folder, cache) = cache(1 << 20);
        let all = [3, 5, 12];
        assert_eq!(cache.load(1, &[7; 32], &all), None);
        cache.store(1, &[7; 32], &features(3)).unwrap();
        let kept = cache.load(1, &[7; 32], &all).unwrap();
        assert_eq!(kept, features(3));
        assert_eq!((kept.row(5), kept.row(4)), (Some(&[2.0, f32::MIN_POSITIVE][..]), None));
        let some = cache.load(1, &[7; 32], &[4, 5, 12, 13]).unwrap();
        assert_eq!((some.ids.as_slice(), some.row(12)), (&[5, 12][..], features(3).row(12)));
        assert_eq!(cache.load(1, &[7; 32], &[]).unwrap().rows, Vec::<f32>::new());
        assert!(cache.holds(1, &[7; 32], &all) && !cache.holds(1, &[7; 32], &[3, 5]));
        assert_eq!((cache.load(2, &[7; 32], &all), cache.load(1, &[8; 32], &all)), (None, None));
        cache.remove(1);
        assert_eq!(cache.load(1, &[7; 32], &all), None);
    }

    #[test]
    fn damage_at_any_byte_is_noticed_and_removed() {
        let (_folder, cache) = cache(1 << 20);
        let good = bytes(&features(3));
        let path = cache.path(1, &[7; 32]);
        for at in 0..good.len() {
            cache.store(1, &[7; 32], &features(3)).unwrap();
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(cache.load(1, &[7; 32], &[3, 5, 12]), None, "byte {at}");
            assert!(!path.exists());
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(cache.load(1, &[7; 32], &[3]), None, "cut at {at}");
        }
    }

    #[test]
    fn an_unfinished_file_is_removed() {
        let (folder, cache) = cache(1 << 20);
        cache.store(1, &[7; 32], &features(3)).unwrap();
        let unfinished = cache.path(2, &[7; 32]).with_extension(UNFINISHED);
        fs::write(&unfinished, "half").unwrap();
        let cache = FeatureCache::new(folder.path().join("features"), 1 << 20);
        assert!(!unfinished.exists());
        assert_eq!(cache.load(1, &[7; 32], &[3, 5, 12]), Some(features(3)));
        // A file that cannot take its name leaves nothing either.
        fs::create_dir(cache.path(2, &[7; 32])).unwrap();
        cache.store(2, &[7; 32], &features(3)).unwrap_err();
        assert!(!unfinished.exists());
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let large = Features { ids: (0..90).collect(), width: 2, rows: vec![0.0; 180] };
        let size = |features: &Features| bytes(features).len() as u64;
        let (_folder, cache) = cache(size(&large) + size(&features(0)) + 50);
        for encoder in [1, 2] {
            cache.store(1, &[encoder; 32], &features(3)).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(cache.load(1, &[1; 32], &[]).is_some(), "used again");
        std::thread::sleep(std::time::Duration::from_millis(20));
        cache.store(1, &[3; 32], &large).unwrap();
        assert!(cache.load(1, &[3; 32], &[]).is_some() && cache.load(1, &[2; 32], &[]).is_none());
        let (_folder, none) = self::cache(0);
        none.store(1, &[1; 32], &features(3)).unwrap();
        assert_eq!(none.load(1, &[1; 32], &[]), None);
    }
}
