//! A labelled text and what follows from it alone.

use std::{collections::BTreeSet, time::SystemTime};

use prost::Message as _;

use crate::{
    error::Result,
    proto::storage,
    registry::record::{damaged, decode, time, timestamp},
    taxonomy::{ClassId, ClassName},
    text::normalise,
};

/// One in this many texts validates.
const VALIDATION_ONE_IN: u64 = 10;

/// A stored example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Number within the model, counted from 1, never reused.
    pub id: u64,
    /// The text as sent.
    pub text: String,
    /// The label it was stored under.
    pub label: ClassName,
    /// The classes it went to when its class was split, the latest last.
    pub assigned: Vec<ClassId>,
    /// The last class that it had been sent to when it got its label: what splits said up to then counts no more, and is
    /// not among [`assigned`](Self::assigned).
    pub settled: ClassId,
    /// Side of the split: as stored that of the text's hash, after [`hold_out`](super::hold_out) that of a training.
    pub split: Split,
    /// When it was stored.
    pub created: SystemTime,
}

/// Side of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The example trains.
    Train,
    /// The example validates.
    Validation,
}

/// What tells a labelled text from others. Those of the same text stand together in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fingerprint {
    text: TextKey,
    /// The beginning of blake3 over the label.
    label: [u8; 8],
}

/// What tells a text from others: the beginning of blake3 over its normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TextKey([u8; 16]);

impl Split {
    /// The side of a text: for ever the same, and the same for all ways of writing it that are one normalised.
    ///
    /// ```text
    /// validation  <=>  first 8 bytes of blake3(normalise(text)), little-endian, mod 10 = 0
    /// ```
    pub fn of(text: &str) -> Self {
        Self::of_normalised(&normalise(text))
    }

    fn of_normalised(normalised: &str) -> Self {
        let hash = blake3::hash(normalised.as_bytes());
        let (head, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        if u64::from_le_bytes(*head).is_multiple_of(VALIDATION_ONE_IN) {
            Self::Validation
        } else {
            Self::Train
        }
    }
}

impl TextKey {
    /// The key of a text, whatever its label.
    pub(super) fn of(text: &str) -> Self {
        Self::of_normalised(&normalise(text))
    }

    fn of_normalised(normalised: &str) -> Self {
        let hash = blake3::hash(normalised.as_bytes());
        Self(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

impl Fingerprint {
    /// The fingerprint of a stored example.
    pub(super) fn of(example: &Example) -> Self {
        Self::and_split(&example.text, &example.label).0
    }

    /// The fingerprint of a labelled text, with the side of the text, since both need it normalised.
    pub(super) fn and_split(text: &str, label: &ClassName) -> (Self, Split) {
        let normalised = normalise(text);
        let hash = blake3::hash(label.as_str().as_bytes());
        let label = *hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
        (Self { text: TextKey::of_normalised(&normalised), label }, Split::of_normalised(&normalised))
    }

    /// Whether one of these is of the same text with another label.
    pub(super) fn conflicts_with(self, held: &BTreeSet<Self>) -> bool {
        let [first, last] = [0, u8::MAX].map(|byte| Self { text: self.text, label: [byte; 8] });
        held.range(first..=last).any(|other| *other != self)
    }
}

impl Example {
    /// Its record in bytes.
    pub(super) fn to_record(&self) -> Vec<u8> {
        self.record().encode_to_vec()
    }

    /// Its record. Its id is in the key, the classes it went to have records of their own.
    pub(super) fn record(&self) -> storage::Example {
        let split = match self.split {
            Split::Train => storage::Split::Train,
            Split::Validation => storage::Split::Validation,
        };
        storage::Example {
            text: self.text.clone(),
            label: self.label.to_string(),
            split: split.into(),
            created: timestamp(self.created),
            settled: self.settled.0,
        }
    }

    /// The example of a record, but for the classes it went to.
    pub(super) fn from_record(id: u64, bytes: &[u8]) -> Result<Self> {
        let what = format!("example {id}");
        let record: storage::Example = decode(&what, bytes)?;
        let label =
            ClassName::new(&record.label).map_err(|fault| damaged(&what, format!("its label {fault}")))?;
        let split = match storage::Split::try_from(record.split) {
            Ok(storage::Split::Train) => Split::Train,
            Ok(storage::Split::Validation) => Split::Validation,
            Ok(storage::Split::Unspecified) | Err(_) => {
                return Err(damaged(&what, format!("side {} of the split is unknown", record.split)));
            }
        };
        let created = time(&what, record.created)?;
        let (assigned, settled) = (Vec::new(), ClassId(record.settled));
        Ok(Self { id, text: record.text, label, assigned, settled, split, created })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_side_however_it_is_written() {
        for number in 0..200 {
            let text = format!("Card {number} lost");
            assert_eq!(Split::of(&text), Split::of(&format!("  ＣＡＲＤ\t{number}   LOST ")), "{text}");
        }
    }

    #[test]
    fn the_sides_do_not_move_between_releases() {
        // A change would let texts that trained validate. The numbers are from Python's blake3:
        // [n for n in range(60) if int.from_bytes(blake3(b'text %d' % n).digest()[:8], 'little') % 10 == 0]
        let validating: Vec<usize> =
            (0..60).filter(|number| Split::of(&format!("text {number}")) == Split::Validation).collect();
        assert_eq!(validating, [15, 41, 44, 55]);
    }

    #[test]
    fn about_a_tenth_validates() {
        let validating =
            (0..10_000).filter(|n| Split::of(&format!("example {n}")) == Split::Validation).count();
        assert!((850..1150).contains(&validating), "{validating}");
    }

    #[test]
    fn text_and_label_do_not_run_together() {
        let label = |raw| ClassName::new(raw).unwrap();
        let (one, _) = Fingerprint::and_split("ab", &label("c"));
        assert_ne!(one, Fingerprint::and_split("a", &label("bc")).0);
        assert_ne!(one, Fingerprint::and_split("ab", &label("C")).0);
        assert_eq!(one, Fingerprint::and_split(" AB ", &label("c")).0);
    }

    #[test]
    fn the_same_text_with_another_label_is_found() {
        let fingerprint = |text, label| Fingerprint::and_split(text, &ClassName::new(label).unwrap()).0;
        let held: BTreeSet<_> =
            [("a", "x"), ("b", "x"), ("c", "x"), ("c", "y")].map(|(t, l)| fingerprint(t, l)).into();
        for (text, label, conflicts) in
            [("a", "x", false), (" A ", "y", true), ("c", "x", true), ("d", "x", false)]
        {
            assert_eq!(fingerprint(text, label).conflicts_with(&held), conflicts, "{text} {label}");
        }
    }
}
