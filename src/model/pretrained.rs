//! Networks that start with word vectors from a file.
//!
//! The words of the file become rows of a new vocabulary: those that the texts hold, even once, and the most frequent
//! others, so that a word that no training text held is known when somebody asks about it. They stand first, behind the
//! row of the unknown: frozen rows are then a range, and whatever the vocabulary gains later comes behind them.
//!
//! The vectors are scaled together so that their root mean square is that of a new row: files differ by a factor of ten,
//! and learning rates, and the mean over a word and its n-grams, are made for rows of one scale.

use std::{collections::HashSet, io::BufRead};

use super::{Architecture, Array, Checkpoint, checkpoint::EMBEDDING, init, surgery};
use crate::{
    error::{Error, Result},
    taxonomy::LeafId,
    text::{MAX_VOCABULARY, Vocabulary, WordVectors, normalise},
};

/// Most words that no training text holds. Their rows are stored with every version; twenty thousand cover nearly all of
/// everyday language.
const MAX_UNSEEN_WORDS: usize = 20_000;

/// A file of word vectors.
#[derive(Debug)]
pub struct VectorFile<R> {
    /// What errors call it.
    pub name: String,
    /// Its bytes, buffered.
    pub input: R,
    /// Whether training leaves the rows as they are.
    pub frozen: bool,
}

/// A network that has learnt nothing but the vectors of a file: its vocabulary is that of the texts and of the file, its
/// embedding as wide as the vectors.
///
/// # Errors
/// As [`WordVectors::read`]; [`Error::Precondition`] with reason `BAD_WORD_VECTORS` if the file and the texts have no
/// word in common.
pub fn from_vectors<'a, R: BufRead>(
    architecture: Architecture,
    texts: impl Iterator<Item = &'a str> + Clone,
    leaves: &[LeafId],
    seed: u64,
    file: VectorFile<R>,
) -> Result<Checkpoint> {
    let segmentation = architecture.segmentation;
    let mut vocabulary = Vocabulary::new(architecture.subwords, segmentation);
    vocabulary.extend(texts.clone());
    let words =
        |text: &str| segmentation.tokens(&normalise(text)).map(str::to_owned).collect::<Vec<String>>();
    let seen: HashSet<String> = texts.clone().flat_map(words).collect();
    let known: HashSet<&str> = vocabulary.entries().iter().map(String::as_str).collect();

    // Half of the largest vocabulary is left for what later trainings bring.
    let mut unseen_room = MAX_UNSEEN_WORDS.min((MAX_VOCABULARY / 2).saturating_sub(known.len()));
    let mut seen_room = MAX_VOCABULARY - known.len() - unseen_room;
    let mut common = 0;
    let vectors = WordVectors::read(&file.name, file.input, &mut |word| {
        let room = match (seen.contains(word), known.contains(word)) {
            (true, true) => {
                common += 1;
                return true;
            }
            (true, false) => &mut seen_room,
            (false, _) if segmentation.tokens(word).next() == Some(word) => &mut unseen_room,
            (false, _) => return false,
        };
        let fits = *room > 0;
        *room -= usize::from(fits);
        common += usize::from(fits && seen.contains(word));
        fits
    })?;
    if common == 0 {
        return Err(Error::Precondition {
            reason: "BAD_WORD_VECTORS",
            subject: file.name.clone(),
            description: format!(
                "the word vectors {}: no word of the training texts is among the words of the file; is it of another \
                 language?",
                file.name
            ),
        });
    }
    tracing::info!(
        file = file.name,
        rows = vectors.words().len(),
        in_texts = common,
        words_of_texts = seen.len(),
        width = vectors.width(),
        "word vectors read"
    );

    let placed: HashSet<&str> = vectors.words().iter().map(String::as_str).collect();
    let (unknown, features) = vocabulary.entries().split_at(1);
    let rest = features.iter().filter(|feature| !placed.contains(feature.as_str()));
    let entries: Vec<String> = unknown.iter().chain(vectors.words()).chain(rest).cloned().collect();
    let frozen_rows = if file.frozen { vectors.words().len() } else { 0 };
    let architecture = Architecture { embedding: vectors.width(), frozen_rows, ..architecture };
    let mut network = init::initial(architecture, entries, leaves.to_vec(), seed);
    network = surgery::with_terms_of(&network, texts);
    let scale = init::EMBEDDING_DEVIATION / root_mean_square(vectors.numbers());
    let mut rows = network.tensor(EMBEDDING)?.data.to_vec();
    let width = vectors.width();
    rows[width..][..vectors.numbers().len()]
        .iter_mut()
        .zip(vectors.numbers())
        .for_each(|(row, number)| *row = number * scale);
    let shape = [network.vocabulary.len(), width];
    network.tensors.insert(EMBEDDING.to_owned(), Array::new(shape, rows));
    Ok(network)
}

/// Not 0, also for vectors of zeros.
fn root_mean_square(numbers: &[f32]) -> f32 {
    let sum: f64 = numbers.iter().map(|&number| f64::from(number).powi(2)).sum();
    ((sum / numbers.len().max(1) as f64).sqrt() as f32).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    const TEXTS: [&str; 3] = ["my card is lost", "my card!", "lost my wallet"];

    fn network(preset: Preset, vectors: &str, frozen: bool) -> Result<Checkpoint> {
        let architecture = Architecture { hidden: 3, ..Architecture::preset(preset) };
        let file = VectorFile { name: "v.txt".into(), input: vectors.as_bytes(), frozen };
        from_vectors(architecture, TEXTS.into_iter(), &[LeafId(1), LeafId(2)], 7, file)
    }

    #[test]
    fn words_of_the_file_stand_first_in_its_order_and_the_rest_behind() {
        let vectors = "the 1 2 3\nlost 4 5 6\n#<ca 0 0 0\nwallet 7 8 9\nnew_york 0 0 0\nCard 1 0 1\n";
        for (preset, rest) in [(Preset::Seed, vec!["my"]), (Preset::Default, vec!["my", "#car"])] {
            let network = network(preset, vectors, true).unwrap();
            network.validate().unwrap();
            // "wallet" stands in one text only, "the" in none, and the n-gram is no word.
            assert_eq!(network.vocabulary[..5], ["", "the", "lost", "wallet", "card"]);
            assert!(rest.iter().all(|feature| network.vocabulary[5..].iter().any(|entry| entry == feature)));
            assert_eq!((network.architecture.embedding, network.architecture.frozen_rows), (3, 4));
            let rows = &network.tensors[EMBEDDING];
            let ratio = rows.row(2)[0] / 4.0;
            for (row, expected) in
                [(1, [1., 2., 3.]), (2, [4., 5., 6.]), (3, [7., 8., 9.]), (4, [1., 0., 1.])]
            {
                for (number, expected) in rows.row(row).iter().zip(expected) {
                    assert!((number - ratio * expected).abs() < 1e-6, "row {row}: {number}");
                }
            }
            let words = &rows.data[3..15];
            assert!((root_mean_square(words) - 0.1).abs() < 1e-6);
            assert!(network.text_encoder().is_ok());
        }
        assert_eq!(network(Preset::Seed, vectors, false).unwrap().architecture.frozen_rows, 0);
    }

    #[test]
    fn a_file_of_other_words_is_refused() {
        let error = network(Preset::Seed, "bonjour 1 2\nmerci 3 4\n", false).unwrap_err();
        assert!(matches!(error, Error::Precondition { reason: "BAD_WORD_VECTORS", .. }), "{error}");
        assert!(error.to_string().contains("no word of the training texts"), "{error}");
    }

    #[test]
    fn vectors_of_zeros_stay_zeros() {
        let network = network(Preset::Seed, "card 0 0\n", false).unwrap();
        assert_eq!(network.tensors[EMBEDDING].row(1), [0.0, 0.0]);
    }

    #[test]
    fn words_of_the_file_alone_are_bounded_and_those_of_the_texts_come_first() {
        let mut file: String = (0..MAX_UNSEEN_WORDS + 50).map(|i| format!("w{i} 1\n")).collect();
        file.push_str("wallet 2\n");
        let network = network(Preset::Seed, &file, false).unwrap();
        assert_eq!(network.vocabulary[MAX_UNSEEN_WORDS + 1], "wallet");
        assert!(network.vocabulary.len() < MAX_UNSEEN_WORDS + 10);
    }
}
