//! What a fuzzer tries on texts: any bytes, up to a NUL as what a vocabulary is built of, behind it as what is read.

use super::{MAX_TERMS, PackedBatch, Segmentation, Terms, TextEncoder, Vocabulary, normalise};

/// Tokens that the encoder of the target reads.
const MAX_TOKENS: usize = 24;
/// By how much a normal form may be longer: one character becomes at most 18, in 33 bytes of 3, and lower case one more byte
/// of two.
const GROWTH: usize = 18;

/// The normal form is one, no token is lost, and what the encoder makes of a text fits the vocabulary and the terms.
pub fn texts(data: &[u8]) {
    let data = String::from_utf8_lossy(data);
    let (known, text) = data.split_once('\0').unwrap_or(("", &data));
    let normal = normalise(text);
    assert_eq!(normalise(&normal), normal, "twice is once");
    assert!(normal.len() <= GROWTH * text.len(), "{} bytes of {}", normal.len(), text.len());
    assert!(!normal.contains("  ") && normal.trim() == normal);

    let twice = [known, &format!("{known} .")];
    let terms = Terms::build(twice, MAX_TERMS);
    assert!(Terms::from_parts(terms.ids().to_vec(), terms.idf().to_vec()).is_ok());
    let letters: String = normal.split_whitespace().collect();
    for (segmentation, subwords) in [(Segmentation::Characters, true), (Segmentation::Words, false)] {
        let tokens: Vec<&str> = segmentation.tokens(&normal).collect();
        assert_eq!(tokens.concat(), letters, "{segmentation:?} lost or made something");
        assert!(tokens.iter().all(|token| !token.is_empty()));

        let mut vocabulary = Vocabulary::new(subwords, segmentation);
        vocabulary.extend(twice);
        let rows = vocabulary.len() as u32;
        assert!(Vocabulary::from_entries(vocabulary.entries().to_vec(), subwords).is_ok());
        let encoder = TextEncoder::new(vocabulary, MAX_TOKENS, terms.clone());
        let encoded = encoder.encode(text);
        assert_eq!(encoded, encoder.encode(&normal));
        assert_eq!(encoded.tokens, tokens.len().clamp(1, MAX_TOKENS));
        assert_eq!(encoded.truncated, tokens.len() > MAX_TOKENS);
        assert!((0..encoded.tokens).all(|index| !encoded.token(index).is_empty()));
        assert!(encoded.features.iter().all(|&row| row < rows));
        assert!(
            encoded.terms.iter().all(|(row, weight)| (*row as usize) < terms.len() && *weight <= 1.0 + 1e-5)
        );
        let (touched, compact) = PackedBatch::new([&encoded, &encoder.encode(known)]).compact();
        assert!(compact.bags.rows.iter().all(|&row| (row as usize) < touched.len()));
    }
}
