//! What a fuzzer tries on records in the store and on files of versions.

use std::fmt::Debug;

use prost::Message;

use super::{JobId, JobRecord, Model, ModelId, Version, manifest, record::decode};
use crate::{
    error::{Error, Result},
    taxonomy::{Manifest, Revision, VersionNumber},
};

pub use super::archive::fuzzing::archives;

/// Classes that are looked at: each takes a walk over all.
const LOOKED_AT: usize = 4;

/// Any bytes as a record, of the kind that the first byte says: what is read is written and read again as it was, what is not is
/// damaged.
pub fn records(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else { return };
    let id = || ModelId::new("bank").expect("a good name");
    match kind % 4 {
        0 => check(
            bytes,
            |bytes| manifest::from_record("m", Revision(1), decode("m", bytes)?, None).inspect(look_around),
            manifest::to_record,
        ),
        1 => check(
            bytes,
            |bytes| Version::from_record(id(), VersionNumber(1), decode("v", bytes)?),
            Version::to_record,
        ),
        2 => check(bytes, |bytes| Model::from_record(id(), decode("m", bytes)?), Model::to_record),
        _ => check(bytes, |bytes| JobRecord::from_record(JobId(1), bytes), JobRecord::to_record),
    }
}

fn check<T: Debug, M: Message>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T>, write: impl Fn(&T) -> M) {
    match read(bytes) {
        Ok(value) => {
            let again = read(&write(&value).encode_to_vec()).expect("what was written is read");
            // As text, for a number that is none equals nothing.
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
        }
        Err(Error::Corrupt { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// What is asked of a manifest, sound or not, comes to an end.
fn look_around(manifest: &Manifest) {
    let _fault = manifest.check();
    manifest.describe();
    manifest.depth();
    for class in manifest.classes.iter().take(LOOKED_AT) {
        manifest.heirs(class.id);
        manifest.below(class.id);
        manifest.meaning(&class.name);
    }
}
