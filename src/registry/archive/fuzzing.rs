//! What a fuzzer tries on the file of a version.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock, time::SystemTime};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{super::Lineage, Archive, CHECKSUM, Checksum, LENGTH_BYTES};
use crate::{
    error::Error,
    model::{Architecture, Classifier, Preset, surgery},
    taxonomy::{ClassName, LeafGroups, LeafId, Manifest},
};

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(sound()));

/// Any bytes, as the first of them says: as a file; as a file whose checksum is made to fit; as the record of a file that is
/// otherwise sound. What is taken makes the same file again and answers; what is not is refused in few words.
pub fn archives(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let file = match kind % 3 {
        0 => Cow::Borrowed(data),
        1 => match sealed(data, |_| {}) {
            Some(file) => Cow::Owned(file),
            None => return,
        },
        _ => {
            let record = BASE64_STANDARD.encode(data);
            let set = |metadata: &mut BTreeMap<String, Value>| {
                drop(metadata.insert("taxond.record".to_owned(), record.into()))
            };
            Cow::Owned(sealed(&SOUND, set).expect("a sound file has a header"))
        }
    };
    match Archive::decode(&file) {
        Ok(archive) => {
            let (checkpoint, manifest) = (archive.checkpoint.clone(), archive.manifest.clone());
            let written = bytes(archive);
            assert_eq!(bytes(Archive::decode(&written).expect("what was written is read")), written);
            let classifier =
                Classifier::from_checkpoint(&checkpoint).expect("what was checked is put to work");
            let answers = classifier
                .leaf_probabilities(&[classifier.encode("my card 取款")])
                .expect("a text of its own");
            let groups = LeafGroups::new(&manifest, &checkpoint.leaves).expect("every class has a row");
            assert_eq!(groups.sums(answers.row(0)).len(), groups.classes.len());
        }
        Err(Error::Invalid(violations)) => {
            assert_eq!(violations[0].field, "data");
            assert!(violations[0].description.len() < 2000, "{}", violations[0].description);
        }
        Err(other) => panic!("{other}"),
    }
}

fn sound() -> Archive {
    let architecture = Architecture { embedding: 2, hidden: 1, ..Architecture::preset(Preset::Default) };
    let leaves = [LeafId(1), LeafId(2)];
    let names = ["card", "取款"].map(|name| ClassName::new(name).expect("a good name"));
    Archive {
        name: "models/bank/versions/3".to_owned(),
        checkpoint: surgery::from_scratch(architecture, ["my card", "my card"], &leaves, 1),
        manifest: Manifest::create(&names, SystemTime::UNIX_EPOCH).expect("two names"),
        mode: None,
        report: None,
        lineage: Lineage { learnt: true, learnt_leaves: leaves.into(), ..Lineage::default() },
    }
}

fn bytes(archive: Archive) -> Vec<u8> {
    archive.encode().expect("small enough").chunks().flatten().collect()
}

/// The file with a checksum that fits, after a change of the metadata; none where it has no header.
fn sealed(file: &[u8], change: impl FnOnce(&mut BTreeMap<String, Value>)) -> Option<Vec<u8>> {
    let (length, header) = SafeTensors::read_metadata(file).ok()?;
    let data = &file[LENGTH_BYTES + length..];
    let json = &file[LENGTH_BYTES..LENGTH_BYTES + length];
    let mut fields: BTreeMap<String, Value> = serde_json::from_slice(json).ok()?;
    let mut metadata: BTreeMap<String, Value> =
        serde_json::from_value(fields.remove("__metadata__")?).ok()?;
    metadata.remove(CHECKSUM);
    change(&mut metadata);

    let texts = metadata.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let mut sum = Checksum::of(texts);
    let tensors: BTreeMap<_, _> = header.tensors().into_iter().collect();
    for (name, info) in tensors {
        sum.tensor(&name, &info.shape);
        sum.bytes(data.get(info.data_offsets.0..info.data_offsets.1)?);
    }
    metadata.insert(CHECKSUM.to_owned(), sum.finish().into());
    fields.insert("__metadata__".to_owned(), metadata.into_iter().collect());
    let json = serde_json::to_vec(&fields).ok()?;
    Some([&(json.len() as u64).to_le_bytes()[..], &json, data].concat())
}
