//! What a fuzzer tries on files of word vectors, as word2vec, GloVe and fastText write them: any bytes.

use std::collections::HashSet;

use super::{Architecture, Preset, VectorFile, from_vectors};
use crate::{
    error::Error,
    taxonomy::LeafId,
    text::{WordVectors, normalise},
};

/// Widest vectors that a network is made of here, which takes longer than the reading.
const NARROW: usize = 8;

/// What is read is words in normal form with finite numbers, reads the same when it is written as text, and makes a network that
/// is whole; what is not is refused with the name of the file.
pub fn vectors(data: &[u8]) {
    let mut asked = HashSet::new();
    let read = WordVectors::read("a.vec", data, &mut |word| {
        assert!(asked.insert(word.to_owned()), "'{word}' was asked for twice");
        true
    });
    let vectors = match read {
        Ok(vectors) => vectors,
        Err(Error::Precondition { reason: "BAD_WORD_VECTORS", description, .. }) => {
            assert!(description.contains("a.vec") && description.len() < 500, "{description}");
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let (words, width) = (vectors.words(), vectors.width());
    assert_eq!(vectors.numbers().len(), words.len() * width);
    assert!(vectors.numbers().iter().all(|number| number.is_finite()));
    assert!(words.iter().all(|word| !word.is_empty() && normalise(word) == *word));

    // Where a word holds a space, or what no text does, the format could not be told.
    if words.iter().all(|word| !word.contains(|c: char| c == ' ' || c.is_control())) {
        let lines = words.iter().zip(vectors.numbers().chunks(width)).map(|(word, numbers)| {
            let numbers: String = numbers.iter().map(|number| format!(" {number:?}")).collect();
            format!("{word}{numbers}\n")
        });
        let text = format!("{} {width}\n{}", words.len(), lines.collect::<String>());
        let again = WordVectors::read("b.vec", text.as_bytes(), &mut |_| true);
        assert_eq!(again.expect("text is read"), vectors, "{text}");
    }
    if width <= NARROW {
        let architecture = Architecture { hidden: 1, ..Architecture::preset(Preset::Default) };
        let file = VectorFile { name: "a.vec".to_owned(), input: data, frozen: true };
        let texts = words.iter().take(3).map(String::as_str);
        if let Ok(network) = from_vectors(architecture, texts, &[LeafId(1), LeafId(2)], 1, file) {
            network.validate().expect("the network is whole");
        }
    }
}
