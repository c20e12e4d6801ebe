//! Texts that are stored under several classes: whichever is right, the others teach what is wrong.

use super::{Dataset, Example, Meanings, example::TextKey, meanings::LearntAs};
use crate::error::Result;

/// Texts of a model that are stored under several classes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conflicts {
    /// How many texts there are, told apart by their normal form.
    pub texts: u64,
    /// The examples of each of the first few, ascending; those texts first whose oldest example is oldest.
    pub shown: Vec<Vec<Example>>,
}

impl Dataset {
    /// Texts that are stored under labels of several classes, of those that are, or at the next training become, active.
    /// At most `shown` are given in full. Reads all examples.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn conflicts(&self, uid: u64, meanings: &Meanings, shown: usize) -> Result<Conflicts> {
        let state = self.state(uid);
        let _nothing_changes = state.read();
        let found = self.conflicting(uid, meanings)?;
        let texts = found.len() as u64;
        let in_full = |ids: Vec<u64>| self.examples_of(uid, ids)?.collect();
        let shown = found.into_iter().take(shown).map(in_full).collect::<Result<_>>()?;
        Ok(Conflicts { texts, shown })
    }
}

impl Dataset {
    /// As [`find`], of all examples of a model.
    pub(super) fn conflicting(&self, uid: u64, meanings: &Meanings) -> Result<Vec<Vec<u64>>> {
        self.cancel.take_memory(self.count(uid)? * size_of::<(TextKey, u64, LearntAs)>() as u64)?;
        find(self.examples(uid, 0)?, meanings)
    }
}

/// The ids of the examples of each text in conflict, ascending; the texts by their first id.
fn find(examples: impl Iterator<Item = Result<Example>>, meanings: &Meanings) -> Result<Vec<Vec<u64>>> {
    let mut labelled: Vec<(TextKey, u64, LearntAs)> = Vec::new();
    for example in examples {
        let example = example?;
        if let Some(learnt_as) = meanings.learnt_as(&example) {
            labelled.push((TextKey::of(&example.text), example.id, learnt_as));
        }
    }
    labelled.sort_unstable_by_key(|(text, id, _)| (*text, *id));
    let mut found: Vec<Vec<u64>> = labelled
        .chunk_by(|(a, ..), (b, ..)| a == b)
        .filter(|same| same.iter().any(|(.., learnt_as)| *learnt_as != same[0].2))
        .map(|same| same.iter().map(|(_, id, _)| *id).collect())
        .collect();
    found.sort_unstable();
    Ok(found)
}
