//! Networks for other leaves or a larger vocabulary: what has a place keeps its numbers, the rest starts anew.

use super::{
    Architecture, Array, Checkpoint,
    checkpoint::{EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, WIDE_BIAS, WIDE_IDF, WIDE_WEIGHT},
    init,
    wide::Wide,
};
use crate::{
    error::{Error, Result},
    taxonomy::LeafId,
    text::{Terms, Vocabulary},
};

/// A network that has learnt nothing, with the vocabulary and the terms of the texts.
pub fn from_scratch<'a>(
    architecture: Architecture,
    texts: impl IntoIterator<Item = &'a str> + Clone,
    leaves: &[LeafId],
    seed: u64,
) -> Checkpoint {
    let texts: Vec<&str> = texts.into_iter().collect();
    let (network, terms) = rayon::join(
        || {
            let mut vocabulary = Vocabulary::new(architecture.subwords, architecture.segmentation);
            vocabulary.extend(texts.iter().copied());
            init::initial(architecture, vocabulary.entries().to_vec(), leaves.to_vec(), seed)
        },
        || terms_of(&architecture, leaves.len(), texts.iter().copied()),
    );
    match terms {
        Some(terms) => with_terms(&network, &terms, &[]),
        None => network,
    }
}

/// The same network with rows for the features and terms that the texts bring and it does not hold yet.
///
/// # Errors
/// [`Error::Corrupt`] if the checkpoint lacks a tensor, or its vocabulary or terms cannot be.
pub fn with_vocabulary_of<'a>(
    checkpoint: &Checkpoint,
    texts: impl IntoIterator<Item = &'a str> + Clone,
    seed: u64,
) -> Result<Checkpoint> {
    let Architecture { subwords, segmentation, .. } = checkpoint.architecture;
    let texts: Vec<&str> = texts.into_iter().collect();
    let (grown, terms) = rayon::join(
        || {
            let entries = checkpoint.vocabulary.clone();
            let mut vocabulary = Vocabulary::from_entries(entries, subwords)?.segmented(segmentation);
            match vocabulary.extend(texts.iter().copied()) {
                0 => Ok(checkpoint.clone()),
                _ => with_vocabulary(checkpoint, &vocabulary, seed),
            }
        },
        || {
            let mut terms = checkpoint.term_table()?;
            let limit = Wide::term_limit(checkpoint.leaves.len());
            let came = checkpoint.architecture.wide && terms.extend(texts.iter().copied(), limit) > 0;
            Ok::<_, Error>(came.then_some(terms))
        },
    );
    match terms? {
        Some(terms) => Ok(with_terms(&grown?, &terms, &checkpoint.tensor(WIDE_WEIGHT)?.data)),
        None => grown,
    }
}

/// The same network with rows for these leaves, in this order: leaves that it had keep their numbers, wherever they
/// stood; new ones start from the seed, and from zeros in the wide branch; the others are gone. With more leaves the
/// wide branch may have room for fewer terms: then the last ones go.
///
/// # Errors
/// [`Error::Corrupt`] if the checkpoint has no head.
pub fn with_leaves(checkpoint: &Checkpoint, leaves: &[LeafId], seed: u64) -> Result<Checkpoint> {
    let (weight, bias) = (checkpoint.tensor(HEAD_WEIGHT)?, checkpoint.tensor(HEAD_BIAS)?);
    let features = checkpoint.architecture.features();
    let old_rows: Vec<Option<usize>> =
        leaves.iter().map(|&leaf| checkpoint.leaves.iter().position(|&old| old == leaf)).collect();
    let mut new_weight = Vec::with_capacity(leaves.len() * features);
    let mut new_bias = Vec::with_capacity(leaves.len());
    for (&leaf, &old_row) in leaves.iter().zip(&old_rows) {
        match old_row {
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
    if checkpoint.architecture.wide {
        let idf = checkpoint.tensor(WIDE_IDF)?;
        let (weight, bias) = (checkpoint.tensor(WIDE_WEIGHT)?, checkpoint.tensor(WIDE_BIAS)?);
        let terms = checkpoint.terms.len().min(Wide::term_limit(leaves.len()));
        let pick =
            |row: &[f32]| -> Vec<f32> { old_rows.iter().map(|old| old.map_or(0.0, |at| row[at])).collect() };
        new.terms.truncate(terms);
        let weights: Vec<f32> = (0..terms).flat_map(|term| pick(weight.row(term))).collect();
        new.tensors.insert(WIDE_IDF.to_owned(), Array::new([terms], &idf.data[..terms]));
        new.tensors.insert(WIDE_WEIGHT.to_owned(), Array::new([terms, leaves.len()], weights));
        new.tensors.insert(WIDE_BIAS.to_owned(), Array::new([leaves.len()], pick(&bias.data)));
    }
    Ok(new)
}

/// The same new network with the terms of the texts, if it has a wide branch.
pub(super) fn with_terms_of<'a>(
    network: &Checkpoint,
    texts: impl IntoIterator<Item = &'a str>,
) -> Checkpoint {
    match terms_of(&network.architecture, network.leaves.len(), texts) {
        Some(terms) => with_terms(network, &terms, &[]),
        None => network.clone(),
    }
}

/// The terms of texts for so many leaves; none without a wide branch.
fn terms_of<'a>(
    architecture: &Architecture,
    leaves: usize,
    texts: impl IntoIterator<Item = &'a str>,
) -> Option<Terms> {
    architecture.wide.then(|| Terms::build(texts, Wide::term_limit(leaves)))
}

/// The same network with these terms, of which the first have the weights given and the others zeros.
fn with_terms(checkpoint: &Checkpoint, terms: &Terms, weights: &[f32]) -> Checkpoint {
    let leaves = checkpoint.leaves.len();
    let mut weights = weights.to_vec();
    weights.resize(terms.len() * leaves, 0.0);
    let mut new = Checkpoint { terms: terms.ids().to_vec(), ..checkpoint.clone() };
    new.tensors.insert(WIDE_IDF.to_owned(), Array::new([terms.len()], terms.idf()));
    new.tensors.insert(WIDE_WEIGHT.to_owned(), Array::new([terms.len(), leaves], weights));
    new
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
    use crate::model::Preset;

    fn checkpoint() -> Checkpoint {
        let architecture = Architecture { embedding: 4, hidden: 3, ..Architecture::preset(Preset::Default) };
        let mut checkpoint =
            from_scratch(architecture, ["my card", "my cards"], &[LeafId(1), LeafId(2), LeafId(3)], 1);
        let terms = checkpoint.terms.len();
        let weights = (0..terms).flat_map(|term| [1.0, 2.0, 3.0].map(|x| x * (2 * term + 1) as f32));
        checkpoint.tensors.insert(WIDE_WEIGHT.into(), Array::new([terms, 3], weights.collect::<Vec<_>>()));
        checkpoint.tensors.insert(WIDE_BIAS.into(), Array::new([3], vec![0.1, 0.2, 0.3]));
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
        assert_eq!(new.tensors[WIDE_WEIGHT].row(1), [9.0, 0.0, 3.0]);
        assert_eq!(*new.tensors[WIDE_BIAS].data, [0.3, 0.0, 0.1]);
        let of_leaves = |name: &str| name.starts_with("head.") || name == WIDE_WEIGHT || name == WIDE_BIAS;
        for (name, array) in old.tensors.iter().filter(|(name, _)| !of_leaves(name)) {
            assert_eq!(&new.tensors[name], array, "{name}");
        }
    }

    #[test]
    fn new_texts_bring_terms_and_the_old_ones_keep_their_weights() {
        let old = checkpoint();
        let new = with_vocabulary_of(&old, ["lost wallet", "the wallet"], 1).unwrap();
        new.validate().unwrap();
        let (before, after) = (&old.tensors[WIDE_WEIGHT], &new.tensors[WIDE_WEIGHT]);
        assert!(new.terms.len() > old.terms.len() && new.terms.starts_with(&old.terms));
        assert_eq!(after.data[..before.data.len()], *before.data);
        assert!(after.data[before.data.len()..].iter().all(|&weight| weight == 0.0));
        assert_eq!(with_vocabulary_of(&new, ["lost wallet"], 1).unwrap(), new);
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
