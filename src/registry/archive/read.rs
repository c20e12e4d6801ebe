//! Reading the file of a version: nothing in it is taken on trust.

use std::{collections::BTreeMap, io};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};

use super::{Archive, CHECKSUM, Checksum, FORMAT, LENGTH_BYTES, MAX_ARCHIVE_BYTES, MAX_HEADER_BYTES};
use crate::{
    cancel::Cancellation,
    error::{Error, Result},
    model::{Architecture, Array, Checkpoint},
    proto::storage,
    registry::{
        Lineage, ModelId, Report,
        checkpoint::from_architecture,
        manifest,
        record::{decode, to_mode},
    },
    store::Scratch,
    taxonomy::{LeafGroups, LeafId, Revision},
};

/// Widest layer, and most tokens of a text, of a network that is taken in.
const MAX_WIDTH: usize = 1 << 12;
/// Bytes of a tensor that are read at a time; whole numbers.
const PIECE_BYTES: usize = 256 << 10;
/// What errors call the record.
const WHAT: &str = "the archive";

/// A file of which parts are read.
pub trait Source {
    /// Its bytes.
    fn length(&self) -> u64;

    /// Fills a buffer with the bytes from an offset on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where there are not so many.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let found = from.and_then(|from| self.get(from..from.checked_add(buffer.len())?));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for Scratch {
    fn length(&self) -> u64 {
        self.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, buffer)
    }
}

impl Archive {
    /// Reads a file that is in memory; as [`read`](Self::read).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes, &Cancellation::default())
    }

    /// Reads a file and checks everything in it. In memory are its header and the numbers of its tensors, once.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the field `data`, saying what is wrong; that of the token; [`Error::Io`] where the file cannot be read.
    pub fn read<S: Source + ?Sized>(source: &S, cancel: &Cancellation) -> Result<Self> {
        let (header, start) = header(source)?;
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
        let others = metadata.iter().map(|(key, value)| (*key, *value)).filter(|(key, _)| *key != CHECKSUM);
        let mut sum = Checksum::of(others);
        let tensors = tensors(&header, (source, start), &mut sum, cancel)?;
        check_sum(&sum.finish(), value(CHECKSUM)?)?;

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
            tensors,
        };
        check_architecture(&checkpoint.architecture)?;
        checkpoint.validate().map_err(from_record)?;
        checkpoint.text_encoder().map_err(from_record)?;

        let manifest = record.manifest.ok_or_else(|| refused("has no manifest"))?;
        let classes = manifest.classes.len();
        let manifest =
            manifest::from_record(WHAT, Revision(record.revision), manifest, None).map_err(from_record)?;
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

/// Refuses what has come of a file, so many bytes that begin so, as soon as it is over a limit.
///
/// # Errors
/// [`Error::Invalid`] for the field `data`.
pub fn check_size(received: u64, begins: &[u8]) -> Result<()> {
    if received > MAX_ARCHIVE_BYTES as u64 {
        return Err(refused(format!("has more than {MAX_ARCHIVE_BYTES} bytes")));
    }
    match begins.first_chunk().map(|length| u64::from_le_bytes(*length)) {
        Some(length) if length > MAX_HEADER_BYTES as u64 => {
            Err(refused(format!("has a header of {length} bytes; at most {MAX_HEADER_BYTES} are taken")))
        }
        _ => Ok(()),
    }
}

/// The header, and where the tensors begin.
fn header<S: Source + ?Sized>(source: &S) -> Result<(Metadata, u64)> {
    let broken = |fault: &str| refused(format!("is no whole safetensors file: {fault}"));
    let mut length = [0; LENGTH_BYTES];
    if source.length() < LENGTH_BYTES as u64 {
        check_size(source.length(), &[])?;
        return Err(broken("it is shorter than the length of a header"));
    }
    source.read_at(0, &mut length).map_err(unreadable)?;
    check_size(source.length(), &length)?;
    let bytes = u64::from_le_bytes(length);
    let start = LENGTH_BYTES as u64 + bytes;
    if start > source.length() {
        return Err(broken("it ends within its header"));
    }
    let mut json = Vec::new();
    json.try_reserve_exact(bytes as usize).map_err(|_| Error::out_of_memory(bytes as usize))?;
    json.resize(bytes as usize, 0);
    source.read_at(LENGTH_BYTES as u64, &mut json).map_err(unreadable)?;
    // This checks that the tensors lie one behind the other, each as long as its shape says.
    let header: Metadata = serde_json::from_slice(&json).map_err(|error| broken(&error.to_string()))?;
    let end = header.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0);
    if start + end as u64 != source.length() {
        return Err(broken(&format!("it has {} bytes, not {}", source.length(), start + end as u64)));
    }
    Ok((header, start))
}

/// The tensors by name, from a file in which they begin at an offset; they go into the checksum.
fn tensors<S: Source + ?Sized>(
    header: &Metadata,
    (source, start): (&S, u64),
    sum: &mut Checksum,
    cancel: &Cancellation,
) -> Result<BTreeMap<String, Array>> {
    let infos: BTreeMap<String, &TensorInfo> = header.tensors().into_iter().collect();
    if let Some((name, info)) = infos.iter().find(|(_, info)| info.dtype != Dtype::F32) {
        return Err(refused(format!("has {:?} in tensor '{}', not F32", info.dtype, shown(name))));
    }
    let read = |(name, info): (String, &TensorInfo)| {
        sum.tensor(&name, &info.shape);
        let (from, to) = info.data_offsets;
        let mut numbers = Vec::new();
        numbers
            .try_reserve_exact((to - from) / size_of::<f32>())
            .map_err(|_| Error::out_of_memory(to - from))?;
        let mut piece = vec![0; PIECE_BYTES.min(to - from)];
        for at in (from..to).step_by(PIECE_BYTES) {
            cancel.check()?;
            let piece = &mut piece[..PIECE_BYTES.min(to - at)];
            source.read_at(start + at as u64, piece).map_err(unreadable)?;
            sum.bytes(piece);
            numbers.extend(piece.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)));
        }
        Ok((name, Array { shape: info.shape.clone(), data: numbers.into() }))
    };
    infos.into_iter().map(read).collect()
}

fn unreadable(error: io::Error) -> Error {
    Error::io("reading the file of the version", error)
}

fn check_sum(sum: &str, told: &str) -> Result<()> {
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
