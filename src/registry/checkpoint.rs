//! Checkpoints to and from their records: each tensor is a blob, so versions with equal tensors share them; a matrix that
//! differs in some columns from that of the version before is the blob of that, and one of these columns.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    arrays::{Arrays, Blob, Place},
    columns,
    record::{damaged, decode, from_preset, to_preset},
};
use crate::{
    error::{Error, Result},
    model::{Architecture, Array, Checkpoint, Numbers, Pooling, Segmentation},
    proto::storage,
    store::{Batch, BlobId, Store},
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

/// Bytes of new arrays that wait in memory to be written.
const WAITING_BYTES: usize = 64 << 20;

/// Stores the blobs of a checkpoint that are not stored yet, durably, and returns its record. `before` is the record of the one that
/// it was made from, which stays. Until a commit names them, a sweep would remove the blobs.
pub(super) fn write(
    store: &Store,
    arrays: &Arrays,
    checkpoint: &Checkpoint,
    before: Option<&storage::Checkpoint>,
) -> Result<storage::Checkpoint> {
    let before_of = |name: &str| before?.tensors.iter().find(|tensor| tensor.name == name);
    let vocabulary =
        storage::Vocabulary { entries: checkpoint.vocabulary.clone(), terms: checkpoint.terms.clone() };
    let mut new = Batch::new();
    let vocabulary = add_blob(store, &mut new, vocabulary.encode_to_vec())?;
    let mut waiting = 0;
    let tensors = checkpoint
        .tensors
        .iter()
        .map(|(name, array)| {
            let Place { data, columns } = add_array(store, &mut new, arrays, array, before_of(name))?;
            waiting += size_of_val(&*array.data);
            if waiting >= WAITING_BYTES {
                store.append(std::mem::take(&mut new))?;
                waiting = 0;
            }
            Ok(storage::Tensor {
                name: name.clone(),
                shape: array.shape.iter().map(|&extent| extent as u64).collect(),
                data: Some(to_blob(data)),
                columns: columns.map(|(at, data)| storage::Columns { at, data: Some(to_blob(data)) }),
            })
        })
        .collect::<Result<_>>()?;
    store.append_durably(new)?;
    Ok(storage::Checkpoint {
        architecture: Some(to_architecture(&checkpoint.architecture)),
        tensors,
        vocabulary: Some(to_blob(vocabulary)),
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
    let vocabulary = read_blob(store, from_blob(what, record.vocabulary.as_ref())?)?;
    let vocabulary: storage::Vocabulary = decode(what, &vocabulary)?;
    let tensors = record
        .tensors
        .into_iter()
        .map(|tensor| {
            let shape: Vec<usize> = tensor.shape.iter().map(|&extent| extent as usize).collect();
            let columns = shape.last().copied().unwrap_or_default();
            let place = place(what, &tensor)?;
            let data = read_array(store, arrays, place, columns)?
                .ok_or_else(|| damaged(what, format!("the columns of tensor {} do not fit", tensor.name)))?;
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
    parameter_count(record) * size_of::<f32>() as u64
}

/// Network parameters of a record.
pub(super) fn parameter_count(record: &storage::Checkpoint) -> u64 {
    record.tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum()
}

/// The blobs that a record names.
pub(super) fn blobs(what: &str, record: &storage::Checkpoint) -> Result<Vec<BlobId>> {
    let mut blobs = vec![from_blob(what, record.vocabulary.as_ref())?.id];
    for tensor in &record.tensors {
        blobs.extend(place(what, tensor)?.blobs().map(|blob| blob.id));
    }
    Ok(blobs)
}

/// Where a record says that the numbers of a tensor are.
fn place(what: &str, tensor: &storage::Tensor) -> Result<Place> {
    let data = from_blob(what, tensor.data.as_ref())?;
    let columns = match &tensor.columns {
        Some(columns) => Some((columns.at.clone(), from_blob(what, columns.data.as_ref())?)),
        None => None,
    };
    Ok(Place { data, columns })
}

/// Adds an array to what is to be written, unless it is stored already; of a matrix only the columns that differ from those
/// before, where these are in memory and most are the same.
fn add_array(
    store: &Store,
    new: &mut Batch,
    arrays: &Arrays,
    array: &Array,
    before: Option<&storage::Tensor>,
) -> Result<Place> {
    if let Some(place) = arrays.place_of(&array.data) {
        let stored = place.blobs().map(|blob| is_stored(store, blob));
        if stored.collect::<Result<Vec<bool>>>()?.iter().all(|stored| *stored) {
            return Ok(place);
        }
    }
    let place = match changed_columns(store, arrays, array, before)? {
        Some((data, at)) if !at.is_empty() => {
            let picked = columns::pick(&array.data, array.shape[1], &at);
            Place { data, columns: Some((at, add_blob(store, new, to_bytes(&picked))?)) }
        }
        Some((data, _)) => Place::whole(data),
        None => Place::whole(add_blob(store, new, large_to_bytes(&array.data)?)?),
    };
    arrays.remember(place.clone(), &array.data);
    Ok(place)
}

/// The columns in which a matrix differs from the one that is stored whole for `before`, and where that is.
fn changed_columns(
    store: &Store,
    arrays: &Arrays,
    array: &Array,
    before: Option<&storage::Tensor>,
) -> Result<Option<(Blob, Vec<u32>)>> {
    let (Some(before), &[_, columns]) = (before, array.shape.as_slice()) else { return Ok(None) };
    let data = from_blob("the version before", before.data.as_ref())?;
    let Some(before) = arrays.get(&Place::whole(data)) else { return Ok(None) };
    if !is_stored(store, data)? {
        return Ok(None);
    }
    Ok(columns::changed(&array.data, &before, columns).map(|at| (data, at)))
}

fn is_stored(store: &Store, blob: Blob) -> Result<bool> {
    store.has_blob(blob.id, blob.length as usize)
}

/// An array of which a row has so many columns; none where what is stored does not make one.
fn read_array(store: &Store, arrays: &Arrays, place: Place, columns: usize) -> Result<Option<Numbers>> {
    if let Some(array) = arrays.get(&place) {
        return Ok(Some(array));
    }
    let read = |blob| Ok::<_, Error>(Numbers::from(from_bytes(&read_blob(store, blob)?)));
    let array = match &place.columns {
        None => read(place.data)?,
        Some((at, picked)) => {
            let before = match arrays.get(&Place::whole(place.data)) {
                Some(before) => before,
                None => read(place.data)?,
            };
            match columns::put(&before, columns, at, &read(*picked)?) {
                Some(numbers) => Numbers::from(numbers),
                None => return Ok(None),
            }
        }
    };
    arrays.remember(place, &array);
    Ok(Some(array))
}

fn add_blob(store: &Store, new: &mut Batch, bytes: Vec<u8>) -> Result<Blob> {
    let length = bytes.len() as u64;
    Ok(Blob { id: store.add_blob(new, bytes)?, length })
}

fn read_blob(store: &Store, blob: Blob) -> Result<Vec<u8>> {
    store.get_blob(blob.id, blob.length)
}

fn to_blob(blob: Blob) -> storage::Blob {
    storage::Blob { hash: blob.id.0.to_vec(), length: blob.length }
}

fn from_blob(what: &str, record: Option<&storage::Blob>) -> Result<Blob> {
    record
        .and_then(|record| {
            Some(Blob { id: BlobId(record.hash.as_slice().try_into().ok()?), length: record.length })
        })
        .ok_or_else(|| damaged(what, "it does not name its blobs"))
}

pub(super) fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(numbers)];
    bytes.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(place, number)| *place = number.to_le_bytes());
    bytes
}

/// As [`to_bytes`], of an array that may be large.
fn large_to_bytes(numbers: &[f32]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size_of_val(numbers)).map_err(|_| Error::out_of_memory(size_of_val(numbers)))?;
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Ok(bytes)
}

/// A remainder of less than four bytes is left out; the shape tells.
pub(super) fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)).collect()
}

pub(super) fn to_architecture(architecture: &Architecture) -> storage::Architecture {
    let pooling = match architecture.pooling {
        Pooling::Mean => storage::Pooling::Mean,
        Pooling::MeanMaxInput => storage::Pooling::MeanMaxInput,
        Pooling::MeanProjectedInput => storage::Pooling::MeanProjectedInput,
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
        Ok(storage::Pooling::MeanProjectedInput) => Pooling::MeanProjectedInput,
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
