//! What an encoder made of examples, kept on disk: as long as the encoder stays, nothing need be computed again.
//!
//! ```text
//! file     features/{model uid}-{encoder}        one for each encoder of a model
//! bytes    magic | width u32 | count u64 | ids, count x u64, ascending | rows, count x width x f32 | blake3 of all before
//! ```
//!
//! Numbers are little-endian. The folder holds nothing that could not be computed again: a file that is damaged, or in the
//! way of the budget, is removed, and the least recently used go first.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tracing::warn;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"taxondf1";
/// Bytes before the ids.
const HEAD: usize = 20;
const HASH: usize = 32;

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

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.ids.len() * 8 + self.rows.len() * 4 + HASH);
        bytes.extend(MAGIC);
        bytes.extend((self.width as u32).to_le_bytes());
        bytes.extend((self.ids.len() as u64).to_le_bytes());
        self.ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        self.rows.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend(blake3::hash(&bytes).as_bytes());
        bytes
    }

    /// None for bytes that are not what was written.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
        if blake3::hash(body).as_bytes() != hash {
            return None;
        }
        let body = body.strip_prefix(MAGIC)?;
        let (width, body) = body.split_first_chunk::<4>()?;
        let (count, body) = body.split_first_chunk::<8>()?;
        let (width, count) =
            (u32::from_le_bytes(*width) as usize, usize::try_from(u64::from_le_bytes(*count)).ok()?);
        let (ids, rows) = body.split_at_checked(count.checked_mul(8)?)?;
        if rows.len() != count.checked_mul(width)?.checked_mul(4)? {
            return None;
        }
        let (ids, _) = ids.as_chunks::<8>();
        let (rows, _) = rows.as_chunks::<4>();
        Some(Self {
            ids: ids.iter().map(|id| u64::from_le_bytes(*id)).collect(),
            width,
            rows: rows.iter().map(|number| f32::from_le_bytes(*number)).collect(),
        })
    }
}

impl FeatureCache {
    /// Opens the folder, which is made when something is to be kept.
    pub fn new(folder: PathBuf, budget: u64) -> Self {
        Self { folder, budget }
    }

    /// Whether so many rows of a width may be kept at all.
    pub fn fits(&self, rows: usize, width: usize) -> bool {
        (rows * (width * 4 + 8) + HEAD + HASH) as u64 <= self.budget
    }

    /// What an encoder of a model made of its examples, as far as that is kept.
    pub fn load(&self, uid: u64, encoder: &EncoderId) -> Option<Features> {
        let path = self.path(uid, encoder);
        let bytes = fs::read(&path).ok()?;
        let features = Features::from_bytes(&bytes);
        if features.is_none() {
            warn!(path = %path.display(), "kept features are damaged; they are computed again");
            let _computed_again_anyway = fs::remove_file(&path);
        } else if let Ok(file) = File::options().append(true).open(&path) {
            let _only_the_order_suffers = file.set_modified(SystemTime::now());
        }
        features
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
            fs::create_dir_all(&self.folder)?;
            let new = path.with_extension("new");
            File::create(&new)?.write_all(&features.to_bytes())?;
            fs::rename(&new, &path)?;
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

    fn cache(budget: u64) -> (tempfile::TempDir, FeatureCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path().join("features"), budget);
        (folder, cache)
    }

    #[test]
    fn what_was_kept_comes_back() {
        let (_folder, cache) = cache(1 << 20);
        assert_eq!(cache.load(1, &[7; 32]), None);
        cache.store(1, &[7; 32], &features(3)).unwrap();
        let kept = cache.load(1, &[7; 32]).unwrap();
        assert_eq!(kept, features(3));
        assert_eq!((kept.row(5), kept.row(4)), (Some(&[2.0, f32::MIN_POSITIVE][..]), None));
        assert_eq!((cache.load(2, &[7; 32]), cache.load(1, &[8; 32])), (None, None));
        cache.remove(1);
        assert_eq!(cache.load(1, &[7; 32]), None);
    }

    #[test]
    fn damage_at_any_byte_is_noticed_and_removed() {
        let (_folder, cache) = cache(1 << 20);
        let good = features(3).to_bytes();
        let path = cache.path(1, &[7; 32]);
        for at in 0..good.len() {
            cache.store(1, &[7; 32], &features(3)).unwrap();
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(cache.load(1, &[7; 32]), None, "byte {at}");
            assert!(!path.exists());
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(cache.load(1, &[7; 32]), None, "cut at {at}");
        }
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let large = Features { ids: (0..90).collect(), width: 2, rows: vec![0.0; 180] };
        let bytes = |features: &Features| features.to_bytes().len() as u64;
        let (_folder, cache) = cache(bytes(&large) + bytes(&features(0)) + 50);
        for encoder in [1, 2] {
            cache.store(1, &[encoder; 32], &features(3)).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(cache.load(1, &[1; 32]).is_some(), "used again");
        std::thread::sleep(std::time::Duration::from_millis(20));
        cache.store(1, &[3; 32], &large).unwrap();
        assert!(cache.load(1, &[3; 32]).is_some() && cache.load(1, &[2; 32]).is_none());
        let (_folder, none) = self::cache(0);
        none.store(1, &[1; 32], &features(3)).unwrap();
        assert_eq!(none.load(1, &[1; 32]), None);
    }
}
