//! Networks for other leaves or a larger vocabulary: what has a place keeps its numbers, the rest starts anew.

use super::{
    Architecture, Array, Checkpoint,
    checkpoint::{EMBEDDING, HEAD_BIAS, HEAD_WEIGHT},
    init,
};
use crate::{
    error::{Error, Result},
    taxonomy::LeafId,
    text::Vocabulary,
};

/// A network that has learnt nothing, with the vocabulary of the texts.
pub fn from_scratch<'a>(
    architecture: Architecture,
    texts: impl IntoIterator<Item = &'a str>,
    leaves: &[LeafId],
    seed: u64,
) -> Checkpoint {
    let mut vocabulary = Vocabulary::new(architecture.subwords, architecture.segmentation);
    vocabulary.extend(texts);
    init::initial(architecture, vocabulary.entries().to_vec(), leaves.to_vec(), seed)
}

/// The same network with rows for the features that the texts bring and its vocabulary does not hold yet.
///
/// # Errors
/// [`Error::Corrupt`] if the checkpoint has no embedding or an impossible vocabulary.
pub fn with_vocabulary_of<'a>(
    checkpoint: &Checkpoint,
    texts: impl IntoIterator<Item = &'a str>,
    seed: u64,
) -> Result<Checkpoint> {
    let Architecture { subwords, segmentation, .. } = checkpoint.architecture;
    let mut vocabulary =
        Vocabulary::from_entries(checkpoint.vocabulary.clone(), subwords)?.segmented(segmentation);
    if vocabulary.extend(texts) == 0 {
        return Ok(checkpoint.clone());
    }
    with_vocabulary(checkpoint, &vocabulary, seed)
}

/// The same network with a head for these leaves, in this order: leaves that it had keep their rows, wherever they
/// stood; new ones start from the seed; the others are gone.
///
/// # Errors
/// [`Error::Corrupt`] if the checkpoint has no head.
pub fn with_leaves(checkpoint: &Checkpoint, leaves: &[LeafId], seed: u64) -> Result<Checkpoint> {
    let (weight, bias) = (checkpoint.tensor(HEAD_WEIGHT)?, checkpoint.tensor(HEAD_BIAS)?);
    let features = checkpoint.architecture.features();
    let mut new_weight = Vec::with_capacity(leaves.len() * features);
    let mut new_bias = Vec::with_capacity(leaves.len());
    for &leaf in leaves {
        match checkpoint.leaves.iter().position(|&old| old == leaf) {
            Some(row) => {
                new_weight.extend_from_slice(weight.row(row));
                new_bias.push(bias.data[row]);
            }
            None => {
                new_weight.extend(init::head_row(leaf, features, seed));
                new_bias.push(0.0);
            }
        }
    }
    let mut new = Checkpoint { leaves: leaves.to_vec(), ..checkpoint.clone() };
    new.tensors.insert(HEAD_WEIGHT.to_owned(), Array::new([leaves.len(), features], new_weight));
    new.tensors.insert(HEAD_BIAS.to_owned(), Array::new([leaves.len()], new_bias));
    Ok(new)
}

/// The same network with rows for the features that the vocabulary has beyond its own.
///
/// # Errors
/// [`Error::Internal`] if the vocabulary is not an extension of the checkpoint's.
pub fn with_vocabulary(checkpoint: &Checkpoint, vocabulary: &Vocabulary, seed: u64) -> Result<Checkpoint> {
    let (old, new) = (&checkpoint.vocabulary, vocabulary.entries());
    if !new.starts_with(old) {
        return Err(Error::Internal("the vocabulary does not extend that of the checkpoint".into()));
    }
    let width = checkpoint.architecture.embedding;
    let mut rows = checkpoint.tensor(EMBEDDING)?.data.to_vec();
    for row in old.len()..new.len() {
        rows.extend(init::embedding_row(row as u64, width, seed));
    }
    let mut larger = Checkpoint { vocabulary: new.to_vec(), ..checkpoint.clone() };
    larger.tensors.insert(EMBEDDING.to_owned(), Array::new([new.len(), width], rows));
    Ok(larger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Preset, init::initial};

    fn checkpoint() -> Checkpoint {
        let architecture = Architecture { embedding: 4, hidden: 3, ..Architecture::preset(Preset::Default) };
        let vocabulary = Vocabulary::build(["my card", "my cards"], true);
        let mut checkpoint =
            initial(architecture, vocabulary.entries().to_vec(), vec![LeafId(1), LeafId(2), LeafId(3)], 1);
        checkpoint.tensors.insert(HEAD_BIAS.into(), Array::new([3], vec![0.1, 0.2, 0.3]));
        checkpoint
    }

    #[test]
    fn kept_leaves_keep_their_rows_wherever_they_stand() {
        let old = checkpoint();
        let new = with_leaves(&old, &[LeafId(3), LeafId(7), LeafId(1)], 2).unwrap();
        new.validate().unwrap();
        assert_eq!(new.tensors[HEAD_WEIGHT].row(0), old.tensors[HEAD_WEIGHT].row(2));
        assert_eq!(new.tensors[HEAD_WEIGHT].row(2), old.tensors[HEAD_WEIGHT].row(0));
        assert_eq!(*new.tensors[HEAD_BIAS].data, [0.3, 0.0, 0.1]);
        assert!(new.tensors[HEAD_WEIGHT].row(1).iter().any(|&x| x != 0.0));
        for (name, array) in old.tensors.iter().filter(|(name, _)| !name.starts_with("head.")) {
            assert_eq!(&new.tensors[name], array, "{name}");
        }
    }

    #[test]
    fn the_same_leaves_give_the_same_network() {
        let old = checkpoint();
        assert_eq!(with_leaves(&old, &old.leaves, 99).unwrap(), old);
    }

    #[test]
    fn a_larger_vocabulary_keeps_every_old_row() {
        let old = checkpoint();
        let mut vocabulary = Vocabulary::from_entries(old.vocabulary.clone(), true).unwrap();
        assert!(vocabulary.extend(["lost wallet", "the wallet"]) > 0);
        let new = with_vocabulary(&old, &vocabulary, 1).unwrap();
        new.validate().unwrap();
        assert_eq!(
            new.tensors[EMBEDDING].data[..old.tensors[EMBEDDING].data.len()],
            *old.tensors[EMBEDDING].data
        );
        let other = Vocabulary::build(["a b", "a b!"], true);
        assert!(with_vocabulary(&old, &other, 1).is_err());
    }
}
