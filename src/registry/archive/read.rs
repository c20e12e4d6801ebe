//! Reading the file of a version: nothing in it is taken on trust.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use super::{Archive, CHECKSUM, Checksum, FORMAT, LENGTH_BYTES, MAX_ARCHIVE_BYTES, MAX_HEADER_BYTES};
use crate::{
    error::{Error, Result},
    model::{Architecture, Array, Checkpoint},
    proto::storage,
    registry::{
        Lineage, ModelId, Report,
        checkpoint::{from_architecture, from_bytes},
        manifest,
        record::{decode, to_mode},
    },
    taxonomy::{LeafGroups, LeafId, Revision},
};

/// Widest layer, and most tokens of a text, of a network that is taken in.
const MAX_WIDTH: usize = 1 << 12;
/// What errors call the record.
const WHAT: &str = "the archive";

impl Archive {
    /// Reads a file and checks everything in it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the field `data`, saying what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        check_size(bytes)?;
        let (length, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| refused(format!("is no whole safetensors file: {error}")))?;
        let data = &bytes[LENGTH_BYTES + length..];
        let metadata: BTreeMap<&str, &str> =
            header.metadata().iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let value = |key: &str| {
            let found = metadata.get(key).copied();
            found.ok_or_else(|| refused(format!("was not made by taxond: its metadata have no {key}")))
        };
        let format = value("taxond.format")?;
        if format != FORMAT {
            return Err(refused(format!("has format '{}', and this taxond reads {FORMAT}", shown(format))));
        }
        let tensors = tensors(&header, data)?;
        check_sum(&metadata, value(CHECKSUM)?, &tensors)?;

        let record = BASE64_STANDARD.decode(value("taxond.record")?);
        let record = record.map_err(|error| refused(format!("has a record that is no base64: {error}")))?;
        let record: storage::Archived = decode(WHAT, &record).map_err(from_record)?;
        let architecture = record.architecture.as_ref().ok_or_else(|| refused("has no architecture"))?;
        let leaves: Vec<u32> = parsed("taxond.leaves", value("taxond.leaves")?)?;
        let checkpoint = Checkpoint {
            architecture: from_architecture(WHAT, architecture).map_err(from_record)?,
            vocabulary: parsed("taxond.vocabulary", value("taxond.vocabulary")?)?,
            terms: record.terms,
            leaves: leaves.into_iter().map(LeafId).collect(),
            tensors: tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.array())).collect(),
        };
        check_architecture(&checkpoint.architecture)?;
        checkpoint.validate().map_err(from_record)?;
        checkpoint.text_encoder().map_err(from_record)?;

        let manifest = record.manifest.ok_or_else(|| refused("has no manifest"))?;
        let classes = manifest.classes.len();
        let manifest =
            manifest::from_record(WHAT, Revision(record.revision), manifest).map_err(from_record)?;
        if manifest.classes.len() != classes {
            return Err(refused("has a manifest with two classes of one id"));
        }
        if manifest != manifest.clone().portable() {
            return Err(refused("has a manifest with a parent or an undo, which lead out of it"));
        }
        manifest.check().map_err(|fault| refused(format!("has a manifest that {fault}")))?;
        LeafGroups::new(&manifest, &checkpoint.leaves).map_err(from_record)?;
        let lineage = record.lineage.ok_or_else(|| refused("has no lineage"))?;
        Ok(Self {
            name: version_name(value("taxond.version")?)?,
            checkpoint,
            manifest,
            mode: to_mode(WHAT, record.mode).map_err(from_record)?,
            report: record.report.map(Report::from_record),
            lineage: Lineage::from_record(lineage),
        })
    }
}

/// Refuses what has come of a file as soon as it is over a limit.
///
/// # Errors
/// [`Error::Invalid`] for the field `data`.
pub fn check_size(received: &[u8]) -> Result<()> {
    if received.len() > MAX_ARCHIVE_BYTES {
        return Err(refused(format!("has more than {MAX_ARCHIVE_BYTES} bytes")));
    }
    match received.first_chunk().map(|length| u64::from_le_bytes(*length)) {
        Some(length) if length > MAX_HEADER_BYTES as u64 => {
            Err(refused(format!("has a header of {length} bytes; at most {MAX_HEADER_BYTES} are taken")))
        }
        _ => Ok(()),
    }
}

/// A tensor of a file that was read.
struct Tensor<'a> {
    shape: &'a [usize],
    bytes: &'a [u8],
}

impl Tensor<'_> {
    fn array(&self) -> Array {
        Array { shape: self.shape.to_vec(), data: from_bytes(self.bytes).into() }
    }
}

/// The tensors by name. Their sizes fit the data, as the header was checked.
fn tensors<'a>(header: &'a Metadata, data: &'a [u8]) -> Result<BTreeMap<String, Tensor<'a>>> {
    let named = header.tensors().into_iter();
    named
        .map(|(name, info)| {
            let (from, to) = info.data_offsets;
            if info.dtype != Dtype::F32 {
                return Err(refused(format!("has {:?} in tensor '{}', not F32", info.dtype, shown(&name))));
            }
            let bytes = data.get(from..to).ok_or_else(|| refused("ends within a tensor"))?;
            Ok((name, Tensor { shape: &info.shape, bytes }))
        })
        .collect()
}

fn check_sum(
    metadata: &BTreeMap<&str, &str>,
    told: &str,
    tensors: &BTreeMap<String, Tensor<'_>>,
) -> Result<()> {
    let mut sum =
        Checksum::of(metadata.iter().map(|(key, value)| (*key, *value)).filter(|(key, _)| *key != CHECKSUM));
    for (name, tensor) in tensors {
        sum.tensor(name, tensor.shape);
        sum.bytes(tensor.bytes);
    }
    let sum = sum.finish();
    if sum == told {
        return Ok(());
    }
    Err(refused(format!(
        "has the checksum {sum}, not '{}' as it says: it was changed on its way",
        shown(told)
    )))
}

fn check_architecture(architecture: &Architecture) -> Result<()> {
    let Architecture { embedding, hidden, max_tokens, frozen_rows, .. } = *architecture;
    let usual = Architecture {
        embedding,
        hidden,
        max_tokens,
        frozen_rows,
        ..Architecture::preset(architecture.preset)
    };
    if *architecture != usual {
        return Err(refused(format!("has a network that its preset does not make: {architecture:?}")));
    }
    match [("embedding", embedding), ("hidden", hidden), ("max_tokens", max_tokens)]
        .into_iter()
        .find(|(_, width)| !(1..=MAX_WIDTH).contains(width))
    {
        Some((name, width)) => Err(refused(format!("has {name} {width}, which must be 1 to {MAX_WIDTH}"))),
        None => Ok(()),
    }
}

fn version_name(name: &str) -> Result<String> {
    let parts = name.strip_prefix("models/").and_then(|rest| rest.split_once("/versions/"));
    match parts {
        Some((model, number)) if ModelId::new(model).is_ok() && number.parse::<u64>().is_ok() => {
            Ok(name.to_owned())
        }
        _ => Err(refused(format!("was made of '{}', which is no version", shown(name)))),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(key: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| refused(format!("has no JSON as expected in {key}: {error}")))
}

/// The beginning of what may be long and may hold anything.
fn shown(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

fn refused(fault: impl Into<String>) -> Error {
    Error::invalid("data", fault)
}

/// What is damage in the store is a wrong argument here.
fn from_record(error: Error) -> Error {
    match error {
        Error::Corrupt { what, detail, .. } if what == WHAT => refused(format!("is not sound: {detail}")),
        Error::Corrupt { what, detail, .. } => refused(format!("is not sound: {what}: {detail}")),
        Error::Internal(detail) => refused(format!("is not sound: {detail}")),
        error => refused(format!("is not sound: {error}")),
    }
}
