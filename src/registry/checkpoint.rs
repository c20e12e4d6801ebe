//! Checkpoints to and from their records: each tensor is a blob, so versions with equal tensors share them.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    arrays::Arrays,
    record::{damaged, decode, from_preset, to_preset},
};
use crate::{
    error::Result,
    model::{Architecture, Array, Checkpoint, Numbers, Pooling, Segmentation},
    proto::storage,
    store::{BlobId, Store},
    taxonomy::LeafId,
};

/// Tells checkpoints apart: two versions with the same id have the same tensors, vocabulary and leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckpointId([u8; 32]);

impl CheckpointId {
    pub(super) fn of(record: &storage::Checkpoint) -> Self {
        Self(*blake3::hash(&record.encode_to_vec()).as_bytes())
    }
}

/// Stores the blobs of a checkpoint that are not stored yet and returns its record. Until a commit names them, a sweep
/// would remove the blobs.
pub(super) fn write(store: &Store, arrays: &Arrays, checkpoint: &Checkpoint) -> Result<storage::Checkpoint> {
    let vocabulary =
        storage::Vocabulary { entries: checkpoint.vocabulary.clone(), terms: checkpoint.terms.clone() };
    let vocabulary = write_blob(store, &vocabulary.encode_to_vec())?;
    let tensors = checkpoint
        .tensors
        .iter()
        .map(|(name, array)| {
            Ok(storage::Tensor {
                name: name.clone(),
                shape: array.shape.iter().map(|&extent| extent as u64).collect(),
                data: Some(write_array(store, arrays, &array.data)?),
            })
        })
        .collect::<Result<_>>()?;
    Ok(storage::Checkpoint {
        architecture: Some(to_architecture(&checkpoint.architecture)),
        tensors,
        vocabulary: Some(vocabulary),
        leaves: checkpoint.leaves.iter().map(|leaf| leaf.0).collect(),
    })
}

/// Reads the checkpoint of a record; arrays that are in memory are shared.
pub(super) fn read(
    store: &Store,
    arrays: &Arrays,
    what: &str,
    record: storage::Checkpoint,
) -> Result<Checkpoint> {
    let architecture = record.architecture.ok_or_else(|| damaged(what, "it has no architecture"))?;
    let vocabulary = read_blob(store, what, record.vocabulary)?;
    let vocabulary: storage::Vocabulary = decode(what, &vocabulary)?;
    let tensors = record
        .tensors
        .into_iter()
        .map(|tensor| {
            let shape: Vec<usize> = tensor.shape.iter().map(|&extent| extent as usize).collect();
            let data = read_array(store, arrays, what, tensor.data)?;
            let size = shape.iter().try_fold(1usize, |size, &extent| size.checked_mul(extent));
            if size != Some(data.len()) {
                let detail = format!("tensor {} has shape {shape:?} and {} numbers", tensor.name, data.len());
                return Err(damaged(what, detail));
            }
            Ok((tensor.name, Array { shape, data }))
        })
        .collect::<Result<BTreeMap<_, _>>>()?;
    Ok(Checkpoint {
        architecture: from_architecture(what, &architecture)?,
        vocabulary: vocabulary.entries,
        terms: vocabulary.terms,
        leaves: record.leaves.into_iter().map(LeafId).collect(),
        tensors,
    })
}

/// Bytes of the tensors of a record.
pub(super) fn size_bytes(record: &storage::Checkpoint) -> u64 {
    record.tensors.iter().filter_map(|tensor| tensor.data.as_ref()).map(|blob| blob.length).sum()
}

/// Network parameters of a record.
pub(super) fn parameter_count(record: &storage::Checkpoint) -> u64 {
    size_bytes(record) / size_of::<f32>() as u64
}

/// The blobs that a record names.
pub(super) fn blobs(what: &str, record: &storage::Checkpoint) -> Result<Vec<BlobId>> {
    record
        .tensors
        .iter()
        .map(|tensor| tensor.data.as_ref())
        .chain([record.vocabulary.as_ref()])
        .map(|blob| blob_id(what, blob))
        .collect()
}

fn write_blob(store: &Store, bytes: &[u8]) -> Result<storage::Blob> {
    let id = store.put_blob(bytes)?;
    Ok(storage::Blob { hash: id.0.to_vec(), length: bytes.len() as u64 })
}

/// Writes the numbers of an array, unless they are stored already.
fn write_array(store: &Store, arrays: &Arrays, array: &Numbers) -> Result<storage::Blob> {
    let length = size_of_val::<[f32]>(array);
    if let Some(id) = arrays.blob_of(array)
        && store.has_blob(id, length)?
    {
        return Ok(storage::Blob { hash: id.0.to_vec(), length: length as u64 });
    }
    let id = store.put_blob(&to_bytes(array))?;
    arrays.remember(id, array);
    Ok(storage::Blob { hash: id.0.to_vec(), length: length as u64 })
}

fn read_array(store: &Store, arrays: &Arrays, what: &str, blob: Option<storage::Blob>) -> Result<Numbers> {
    let id = blob_id(what, blob.as_ref())?;
    if let Some(array) = arrays.get(id) {
        return Ok(array);
    }
    let array = Numbers::from(from_bytes(&read_blob(store, what, blob)?));
    arrays.remember(id, &array);
    Ok(array)
}

fn read_blob(store: &Store, what: &str, blob: Option<storage::Blob>) -> Result<Vec<u8>> {
    let id = blob_id(what, blob.as_ref())?;
    store.get_blob(id, blob.map_or(0, |blob| blob.length))
}

fn blob_id(what: &str, blob: Option<&storage::Blob>) -> Result<BlobId> {
    blob.and_then(|blob| blob.hash.as_slice().try_into().ok())
        .map(BlobId)
        .ok_or_else(|| damaged(what, "it does not name its blobs"))
}

pub(super) fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(numbers));
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes
}

/// A remainder of less than four bytes is left out; the shape tells.
pub(super) fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)).collect()
}

pub(super) fn to_architecture(architecture: &Architecture) -> storage::Architecture {
    let pooling = match architecture.pooling {
        Pooling::Mean => storage::Pooling::Mean,
        Pooling::MeanMaxInput => storage::Pooling::MeanMaxInput,
    };
    let segmentation = match architecture.segmentation {
        Segmentation::Characters => storage::Segmentation::Characters,
        Segmentation::Words => storage::Segmentation::Words,
    };
    storage::Architecture {
        preset: from_preset(architecture.preset),
        embedding: architecture.embedding as u32,
        hidden: architecture.hidden as u32,
        bidirectional: architecture.bidirectional,
        reversed: architecture.reversed,
        max_tokens: architecture.max_tokens as u32,
        subwords: architecture.subwords,
        pooling: pooling.into(),
        wide: architecture.wide,
        frozen_rows: architecture.frozen_rows as u32,
        segmentation: segmentation.into(),
    }
}

pub(super) fn from_architecture(what: &str, record: &storage::Architecture) -> Result<Architecture> {
    let pooling = match storage::Pooling::try_from(record.pooling) {
        Ok(storage::Pooling::Mean) => Pooling::Mean,
        Ok(storage::Pooling::MeanMaxInput) => Pooling::MeanMaxInput,
        Ok(storage::Pooling::Unspecified) | Err(_) => {
            return Err(damaged(what, format!("pooling {} is unknown", record.pooling)));
        }
    };
    let segmentation = match storage::Segmentation::try_from(record.segmentation) {
        Ok(storage::Segmentation::Characters) => Segmentation::Characters,
        Ok(storage::Segmentation::Words) => Segmentation::Words,
        Ok(storage::Segmentation::Unspecified) | Err(_) => {
            return Err(damaged(what, format!("segmentation {} is unknown", record.segmentation)));
        }
    };
    Ok(Architecture {
        preset: to_preset(what, record.preset)?,
        embedding: record.embedding as usize,
        hidden: record.hidden as usize,
        bidirectional: record.bidirectional,
        reversed: record.reversed,
        max_tokens: record.max_tokens as usize,
        subwords: record.subwords,
        pooling,
        wide: record.wide,
        frozen_rows: record.frozen_rows as usize,
        segmentation,
    })
}
