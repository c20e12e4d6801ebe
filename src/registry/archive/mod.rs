//! A version as a file: safetensors, which other programs open, with all that is no tensor in its `__metadata__`.
//!
//! ```text
//! taxond.format      1
//! taxond.version     resource name of the version it was made of
//! taxond.classes     the active classes, as JSON: id, name, leaves; to be read by others, not by taxond
//! taxond.leaves      the leaf of each row of the head, as JSON
//! taxond.vocabulary  the feature of each row of the embedding, as JSON
//! taxond.record      the rest: base64 of the record `Archived`
//! taxond.checksum    blake3 over the other keys and the tensors
//! ```
//!
//! The same version makes the same bytes. The checksum is over what the file says and not over how: a program that writes the
//! tensors in another order, and the metadata as it was, makes a file that is as good.

mod checksum;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use serde::Serialize;
use serde_json::json;

use checksum::{CHECKSUM, Checksum};
pub use read::{Source, check_size};

use super::{
    Lineage, Mode, Report,
    checkpoint::{to_architecture, to_bytes},
    manifest,
    record::from_mode,
};
use crate::{
    error::{Error, Result},
    model::{Array, Checkpoint},
    proto::storage,
    taxonomy::{Class, Manifest},
};

/// Largest archive, in bytes.
pub const MAX_ARCHIVE_BYTES: usize = 1 << 30;
/// Largest header of an archive, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 20;
/// Bytes of a chunk at most.
const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of the length that a file begins with.
const LENGTH_BYTES: usize = size_of::<u64>();
const FORMAT: &str = "1";

/// A version on its way from one model to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// Resource name of the version it was made of.
    pub name: String,
    /// Its tensors, vocabulary and leaves.
    pub checkpoint: Checkpoint,
    /// The manifest it answers in, without what only its own model can follow: parent and undo.
    pub manifest: Manifest,
    /// For a trained version: how.
    pub mode: Option<Mode>,
    /// What training measured.
    pub report: Option<Report>,
    /// What it has of the versions it was made from.
    pub lineage: Lineage,
}

/// An archive whose bytes are made as they are asked for.
#[derive(Debug)]
pub struct Encoded {
    header: Vec<u8>,
    arrays: Vec<Array>,
}

/// A field of the header.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Metadata(&'a BTreeMap<&'static str, String>),
    Tensor { dtype: &'static str, shape: &'a [usize], data_offsets: [usize; 2] },
}

impl Archive {
    /// Makes the file.
    ///
    /// # Errors
    /// [`Error::Precondition`] with reason `ARCHIVE_TOO_LARGE` for a version over the limits of an archive.
    pub fn encode(self) -> Result<Encoded> {
        let mut metadata = BTreeMap::from([
            ("taxond.format", FORMAT.to_owned()),
            ("taxond.version", self.name.clone()),
            ("taxond.classes", json!(self.manifest.active().map(class).collect::<Vec<_>>()).to_string()),
            (
                "taxond.leaves",
                json!(self.checkpoint.leaves.iter().map(|leaf| leaf.0).collect::<Vec<_>>()).to_string(),
            ),
            ("taxond.vocabulary", json!(self.checkpoint.vocabulary).to_string()),
            ("taxond.record", BASE64_STANDARD.encode(self.record().encode_to_vec())),
        ]);
        let mut sum = Checksum::of(metadata.iter().map(|(key, value)| (*key, value.as_str())));
        for (name, array) in &self.checkpoint.tensors {
            sum.tensor(name, &array.shape);
            array.data.chunks(CHUNK_BYTES).for_each(|numbers| sum.bytes(&to_bytes(numbers)));
        }
        metadata.insert(CHECKSUM, sum.finish());

        let mut fields = BTreeMap::from([("__metadata__", Field::Metadata(&metadata))]);
        let mut end = 0;
        for (name, Array { shape, data }) in &self.checkpoint.tensors {
            let from = end;
            end += size_of_val(&**data);
            fields.insert(name, Field::Tensor { dtype: "F32", shape, data_offsets: [from, end] });
        }
        let json = serde_json::to_vec(&fields).map_err(|error| Error::Internal(error.to_string()))?;
        // Spaces behind the header let the tensors begin where numbers may.
        let length = json.len().next_multiple_of(LENGTH_BYTES);
        if length > MAX_HEADER_BYTES || LENGTH_BYTES + length + end > MAX_ARCHIVE_BYTES {
            return Err(Error::Precondition {
                reason: "ARCHIVE_TOO_LARGE",
                description: format!(
                    "{} makes a file of {} bytes with a header of {length}; at most {MAX_ARCHIVE_BYTES} and \
                     {MAX_HEADER_BYTES} could be imported again",
                    self.name,
                    LENGTH_BYTES + length + end
                ),
                subject: self.name,
            });
        }
        let mut header = (length as u64).to_le_bytes().to_vec();
        header.extend(json);
        header.resize(LENGTH_BYTES + length, b' ');
        Ok(Encoded { header, arrays: self.checkpoint.tensors.into_values().collect() })
    }

    fn record(&self) -> storage::Archived {
        storage::Archived {
            architecture: Some(to_architecture(&self.checkpoint.architecture)),
            terms: self.checkpoint.terms.clone(),
            revision: self.manifest.revision.0,
            manifest: Some(manifest::to_record(&self.manifest)),
            mode: from_mode(self.mode),
            report: self.report.as_ref().map(Report::to_record),
            lineage: Some(self.lineage.to_record()),
        }
    }
}

impl Encoded {
    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.header.len() + self.arrays.iter().map(|array| size_of_val(&*array.data)).sum::<usize>()
    }

    /// The file, piece by piece.
    pub fn chunks(self) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        const NUMBERS: usize = CHUNK_BYTES / size_of::<f32>();
        let Self { header, arrays } = self;
        let header = (0..header.len())
            .step_by(CHUNK_BYTES)
            .map(move |from| header[from..header.len().min(from + CHUNK_BYTES)].to_vec());
        let numbers = arrays.into_iter().flat_map(|array| {
            let length = array.data.len();
            let cut = move |from| to_bytes(&array.data[from..length.min(from + NUMBERS)]);
            (0..length).step_by(NUMBERS).map(cut)
        });
        header.chain(numbers)
    }
}

fn class(class: &Class) -> serde_json::Value {
    let leaves: Vec<u32> = class.leaves().map(|leaf| leaf.0).collect();
    json!({"id": class.id.0, "name": class.name.as_str(), "leaves": leaves})
}
