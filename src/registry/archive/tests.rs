use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use safetensors::{SafeTensors, tensor::TensorView};

use super::*;
use crate::{
    model::{Architecture, Preset, surgery},
    registry::RejectionPoint,
    taxonomy::{ClassName, LeafId, Revision, UndoPoint, VersionNumber},
};

fn archive() -> Archive {
    let architecture = Architecture { embedding: 3, hidden: 2, ..Architecture::preset(Preset::Default) };
    let leaves = [LeafId(1), LeafId(2)];
    let names = ["card", "取款"].map(|name| ClassName::new(name).unwrap());
    let manifest = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
    Archive {
        name: "models/bank/versions/3".to_owned(),
        checkpoint: surgery::from_scratch(architecture, ["my card", "my card"], &leaves, 1),
        manifest: Manifest { revision: Revision(4), ..manifest },
        mode: Some(Mode::Transfer),
        report: Some(Report { gate: "promoted".into(), validation_accuracy: Some(0.1), ..Report::default() }),
        lineage: Lineage {
            learnt: true,
            learnt_leaves: BTreeSet::from(leaves),
            fitted_leaves: BTreeSet::new(),
            rejection: vec![RejectionPoint { min_confidence: 0.1, precision: 0.3, coverage: 0.7 }],
        },
    }
}

fn bytes(archive: Archive) -> Vec<u8> {
    archive.encode().unwrap().chunks().flatten().collect()
}

fn fault(bytes: &[u8]) -> String {
    match Archive::decode(bytes) {
        Err(Error::Invalid(violations)) => {
            assert_eq!(violations[0].field, "data");
            violations[0].description.clone()
        }
        other => panic!("{other:?}"),
    }
}

/// The file as another program would write it, after a change.
fn rewritten(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Vec<u8> {
    let file = bytes(archive());
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let mut metadata: BTreeMap<String, String> = header.metadata().clone().unwrap().into_iter().collect();
    change(&mut metadata);
    let tensors = SafeTensors::deserialize(&file).unwrap();
    safetensors::serialize(tensors.iter(), Some(metadata.into_iter().collect())).unwrap()
}

/// The same, with a checksum that fits.
fn forged(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Vec<u8> {
    let checkpoint = archive().checkpoint;
    rewritten(|metadata| {
        change(metadata);
        let others = metadata.iter().filter(|(key, _)| *key != CHECKSUM);
        let mut sum = Checksum::of(others.map(|(key, value)| (key.as_str(), value.as_str())));
        for (name, array) in &checkpoint.tensors {
            sum.tensor(name, &array.shape);
            sum.bytes(&to_bytes(&array.data));
        }
        let sum = sum.finish();
        metadata.insert(CHECKSUM.to_owned(), sum);
    })
}

#[test]
fn a_version_comes_back_from_its_file_whatever_program_wrote_it() {
    let file = bytes(archive());
    assert_eq!(file, bytes(archive()), "the same version makes the same bytes");
    assert_eq!(file.len(), archive().encode().unwrap().size());
    assert_eq!(Archive::decode(&file).unwrap(), archive());
    assert_eq!(Archive::decode(&rewritten(|_| {})).unwrap(), archive());
    assert_eq!(Archive::decode(&forged(|_| {})).unwrap(), archive());
}

#[test]
fn chunks_are_bounded() {
    let mut large = archive();
    large.checkpoint.tensors.insert("large".into(), Array::new([200_000], vec![0.5; 200_000]));
    large.checkpoint.vocabulary.push("x".repeat(600_000));
    let chunks: Vec<_> = large.encode().unwrap().chunks().collect();
    assert!(chunks.len() > 6 && chunks.iter().all(|chunk| (1..=CHUNK_BYTES).contains(&chunk.len())));
    let file = chunks.concat();
    assert_eq!(SafeTensors::deserialize(&file).unwrap().tensor("large").unwrap().shape(), [200_000]);
}

#[test]
fn a_part_of_a_file_is_none() {
    let file = bytes(archive());
    let lengths = (0..64).chain((64..file.len()).step_by(17)).chain([file.len() - 1]);
    for length in lengths {
        fault(&file[..length]);
    }
    fault(&[&file[..], b"x"].concat());
}

#[test]
fn no_flipped_bit_changes_what_is_read() {
    let file = bytes(archive());
    let whole = archive();
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1 << (at % 8);
        match Archive::decode(&flipped) {
            Ok(read) => assert_eq!(read, whole, "byte {at}"),
            Err(Error::Invalid(_)) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let long = [&(65u64 << 20).to_le_bytes()[..], b"{}"].concat();
    assert!(fault(&long).contains("a header of 68157440 bytes"), "{}", fault(&long));
    let set = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        move |metadata: &mut BTreeMap<String, String>| {
            metadata.insert(key, value);
        }
    };
    for (file, part) in [
        (b"taxond".to_vec(), "no whole safetensors file"),
        (rewritten(|metadata| drop(metadata.remove("taxond.format"))), "metadata have no taxond.format"),
        (rewritten(set("taxond.format", "2")), "has format '2', and this taxond reads 1"),
        (rewritten(set("taxond.vocabulary", "[]")), "it was changed on its way"),
        (forged(set("taxond.vocabulary", "[]")), "no vocabulary"),
        (forged(set("taxond.vocabulary", "{}")), "no JSON as expected in taxond.vocabulary"),
        (forged(set("taxond.leaves", "[1,1]")), "leaf 1 owns two rows"),
        (forged(set("taxond.leaves", "[1,2,3]")), "head.bias has shape [2], not [3]"),
        (forged(set("taxond.leaves", "[1,3]")), "class #2 '取款' has no row"),
        (forged(set("taxond.record", "?")), "no base64"),
        (forged(set("taxond.record", "")), "has no architecture"),
        (forged(set("taxond.version", "models/../versions/1")), "is no version"),
    ] {
        let fault = fault(&file);
        assert!(fault.contains(part), "{part}: {fault}");
    }
}

#[test]
fn no_version_is_read_that_could_not_answer() {
    type Spoil = fn(&mut Archive);
    let wrong: [(&str, Spoil); 8] = [
        ("head.bias is not finite at 1", |of| set(of, "head.bias", vec![0.0, f32::NAN])),
        ("tensor head.extra is unknown", |of| {
            of.checkpoint.tensors.insert("head.extra".into(), Array::new([1], vec![0.0]));
        }),
        ("head.bias is missing", |of| drop(of.checkpoint.tensors.remove("head.bias"))),
        ("that its preset does not make", |of| of.checkpoint.architecture.bidirectional = false),
        ("has max_tokens 0, which must be 1 to 4096", |of| of.checkpoint.architecture.max_tokens = 0),
        ("a parent or an undo", |of| {
            of.manifest.undo = Some(UndoPoint { revision: Revision(1), version: VersionNumber(1) });
        }),
        ("a manifest that has ids up to", |of| of.manifest.next_leaf = LeafId(u32::MAX)),
        ("leaf 2, which was never given out", |of| of.manifest.next_leaf = LeafId(2)),
    ];
    for (part, spoil) in wrong {
        let mut archive = archive();
        spoil(&mut archive);
        let fault = fault(&bytes(archive));
        assert!(fault.contains(part), "{part}: {fault}");
    }
    let file = bytes(archive());
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let view = TensorView::new(safetensors::Dtype::F16, vec![2], &[0; 4]).unwrap();
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let named = tensors.iter().chain([("half", view)]);
    let half = safetensors::serialize(named, header.metadata().clone()).unwrap();
    assert!(fault(&half).contains("has F16 in tensor 'half', not F32"), "{}", fault(&half));
}

fn set(archive: &mut Archive, name: &str, data: Vec<f32>) {
    let shape = archive.checkpoint.tensors[name].shape.clone();
    archive.checkpoint.tensors.insert(name.to_owned(), Array::new(shape, data));
}
