//! Event files of TensorBoard: records of protobuf messages, framed as TensorFlow's TFRecord.
//!
//! ```text
//! record   length (u64) | mask(crc32c of these 8 bytes) | data | mask(crc32c of the data)      little-endian
//! mask(c)  ((c >> 15) | (c << 17)) + 0xa282ead8
//! data     tensorflow.Event; the first one names the format
//! ```
//!
//! The messages are the few fields needed of `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto`, under their field numbers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use crate::{
    cli::{failure::Failure, outlet::write_whole},
    proto::v1::{TrainingEpoch, Version},
};

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const MASK_DELTA: u32 = 0xa282_ead8;
const FORMAT: &str = "brain.Event:2";

const LOSS: &str = "loss/train";
const VALIDATION_LOSS: &str = "loss/validation";
const ACCURACY: &str = "accuracy/validation";
const RATE: &str = "learning_rate";

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional, because a zero must be written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Writes the curve of a version to `MODEL/vN/events.out.tfevents.TIME.MODEL.vN` below a folder and returns the path.
///
/// TensorBoard takes every folder for a run, so each version has one of its own; and the time is that of the version, so
/// that writing it again replaces the file.
pub(super) fn write(
    folder: &Path,
    model: &str,
    version: &Version,
    curve: &[TrainingEpoch],
) -> Result<PathBuf, Failure> {
    let (created, number) = (created(version), version.number);
    let folder = folder.join(model).join(format!("v{number}"));
    let path = folder.join(format!("events.out.tfevents.{}.{model}.v{number}", created as u64));
    fs::create_dir_all(&folder).map_err(|error| Failure::write(&folder, &error))?;
    write_whole(&path, file(created, curve))?;
    Ok(path)
}

/// When a version was made, in seconds since 1970.
fn created(version: &Version) -> f64 {
    version.create_time.as_ref().map_or(0.0, |time| time.seconds as f64 + f64::from(time.nanos) * 1e-9)
}

/// The bytes of an event file; the last epoch ended at this time, in seconds since 1970.
fn file(ended: f64, curve: &[TrainingEpoch]) -> Vec<u8> {
    let began = ended - curve.last().map_or(0.0, |epoch| epoch.seconds);
    let format = Event { wall_time: began, file_version: Some(FORMAT.to_owned()), ..Event::default() };
    let mut bytes = record(&format);
    for epoch in curve {
        let values = [
            (LOSS, Some(epoch.train_loss)),
            (ACCURACY, epoch.validation_accuracy),
            (VALIDATION_LOSS, epoch.validation_loss),
            (RATE, Some(epoch.learning_rate)),
        ];
        let value = values.into_iter().filter_map(|(tag, number)| {
            Some(Value { tag: tag.to_owned(), simple_value: Some(number? as f32) })
        });
        bytes.extend(record(&Event {
            wall_time: began + epoch.seconds,
            step: epoch.step as i64,
            file_version: None,
            summary: Some(Summary { value: value.collect() }),
        }));
    }
    bytes
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(CRC32C.checksum(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), &data, &checksum(&data)].concat()
}

fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads records back and checks their frames.
    fn events(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
            let (data, end) = rest[4..].split_at(u64::from_le_bytes(*length) as usize);
            assert_eq!(rest[..4], masked(CRC32C.checksum(length)).to_le_bytes());
            assert_eq!(end[..4], masked(CRC32C.checksum(data)).to_le_bytes());
            events.push(Event::decode(data).unwrap());
            bytes = &end[4..];
        }
        events
    }

    fn curve() -> Vec<TrainingEpoch> {
        let epoch = |epoch: u32, accuracy| TrainingEpoch {
            epoch,
            step: 10 * u64::from(epoch),
            train_loss: 1.0 / f64::from(epoch),
            learning_rate: 0.0,
            validation_accuracy: accuracy,
            seconds: f64::from(epoch),
            validation_loss: None,
        };
        vec![epoch(1, None), epoch(2, Some(0.5))]
    }

    #[test]
    fn checksums_are_those_of_the_standards() {
        // RFC 3720, B.4: 32 bytes of zeros; and the frame of a record of no bytes that TensorFlow writes.
        assert_eq!(CRC32C.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(record(&Event::default()), [0, 0, 0, 0, 0, 0, 0, 0, 0x29, 3, 152, 7, 216, 234, 130, 162]);
    }

    #[test]
    fn a_file_tells_its_format_then_every_epoch() {
        let events = events(&file(1000.0, &curve()));
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(
            events[1..].iter().map(|e| (e.wall_time, e.step)).collect::<Vec<_>>(),
            [(999.0, 10), (1000.0, 20)]
        );
        let scalars = |event: &Event| -> Vec<(String, f32)> {
            let values = event.summary.clone().unwrap().value.into_iter();
            values.map(|value| (value.tag, value.simple_value.unwrap())).collect()
        };
        assert_eq!(scalars(&events[1]), [("loss/train".into(), 1.0), ("learning_rate".into(), 0.0)]);
        assert_eq!(scalars(&events[2])[1], ("accuracy/validation".into(), 0.5));
    }

    #[test]
    fn each_version_is_a_run_and_writing_again_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let time = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 };
        let version = Version { number: 3, create_time: Some(time), ..Version::default() };
        for _ in 0..2 {
            let path = write(folder.path(), "bank", &version, &curve()).unwrap();
            let expected = "bank/v3/events.out.tfevents.1700000000.bank.v3";
            assert_eq!(path.strip_prefix(folder.path()).unwrap(), Path::new(expected));
            assert_eq!(events(&fs::read(path).unwrap()).len(), 3);
        }
        assert_eq!(fs::read_dir(folder.path().join("bank/v3")).unwrap().count(), 1);
    }
}
