//! Files as gensim 4.4 and fastText 0.9.3 wrote them, and files that are damaged.

use proptest::prelude::*;

use super::{fasttext::MAGIC, *};

/// ```python
/// kv = gensim.models.KeyedVectors(2)
/// kv.add_vectors(["card", "取款", "The"], numpy.array([[.5, -1.25], [1e-3, 2], [3, .25]], dtype="f"))
/// kv.save_word2vec_format("w.txt"); kv.save_word2vec_format("w.bin", binary=True)
/// ```
const TEXT: &[u8] = "3 2\ncard 0.5 -1.25\n取款 0.001 2.0\nThe 3.0 0.25\n".as_bytes();
const BINARY: &[u8] =
    b"3 2\ncard \x00\x00\x00?\x00\x00\xa0\xbf\xe5\x8f\x96\xe6\xac\xbe o\x12\x83:\x00\x00\x00@\
    The \x00\x00@@\x00\x00\x80>";

fn read(bytes: &[u8], mut keep: impl FnMut(&str) -> bool) -> Result<WordVectors> {
    WordVectors::read("file.vec", bytes, &mut keep)
}

fn all(bytes: &[u8]) -> WordVectors {
    read(bytes, |_| true).unwrap()
}

fn fault(bytes: &[u8]) -> String {
    read(bytes, |_| true).unwrap_err().to_string()
}

/// A fastText model of E = 2 with these words, two-character and three-character n-grams in 5 buckets. Row `r` of its
/// matrix is `[r + 1, -(r + 1)^2]`.
fn fasttext(words: &[&str], quantised: u8) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for number in [12, 2, 5, 1, 1, 1, 1, 2, 2, 5, 2, 3, 100] {
        bytes.extend(i32::to_le_bytes(number));
    }
    bytes.extend(1e-4f64.to_le_bytes());
    let count = words.len() as i32;
    for number in [count, count, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([21i64, -1].map(i64::to_le_bytes).concat());
    for word in words {
        bytes.extend(word.bytes().chain([0]));
        bytes.extend([&7i64.to_le_bytes()[..], &[0]].concat());
    }
    let rows = i64::from(count) + 5;
    bytes.push(quantised);
    bytes.extend([rows, 2].map(i64::to_le_bytes).concat());
    for row in (1..=rows).map(|row| row as f32) {
        bytes.extend([row, -row * row].map(f32::to_le_bytes).concat());
    }
    bytes
}

#[test]
fn all_ways_of_writing_the_same_vectors_read_the_same() {
    let vectors = all(TEXT);
    assert_eq!((vectors.width(), vectors.words()), (2, &["card", "取款", "the"].map(String::from)[..]));
    assert_eq!(vectors.numbers(), [0.5, -1.25, 0.001, 2.0, 3.0, 0.25]);
    assert_eq!(all(BINARY), vectors);
    // word2vec itself ends each vector with a line feed, GloVe has no first line, fastText ends lines with a space.
    let with_feeds = [&BINARY[..17], b"\n", &BINARY[17..32], b"\n", &BINARY[32..], b"\n"].concat();
    assert_eq!(all(&with_feeds), vectors);
    assert_eq!(all(&TEXT[4..]), vectors);
    assert_eq!(all(&String::from_utf8_lossy(TEXT).replace('\n', " \r\n").into_bytes()), vectors);
}

#[test]
fn a_fasttext_model_gives_the_vectors_that_it_prints() {
    // for w in m.words: print(w, m.get_word_vector(w).tolist())
    let expected = [
        ("card", [6.0, -40.2]),
        ("lost", [5.7, -35.1]),
        ("取款", [6.166_667, -42.166_668]),
        ("</s>", [4.0, -16.0]),
    ];
    let vectors = all(&fasttext(&expected.map(|(word, _)| word), 0));
    assert_eq!(vectors.words(), expected.map(|(word, _)| word));
    for (numbers, (word, expected)) in vectors.numbers().chunks(2).zip(expected) {
        for (x, y) in numbers.iter().zip(expected) {
            assert!((x - y).abs() < 1e-5, "{word}: {x}, expected {y}");
        }
    }
    let some = read(&fasttext(&["card", "lost"], 0), |word| word == "lost").unwrap();
    assert_eq!(some.words(), ["lost"]);
}

#[test]
fn only_wanted_words_are_kept_and_each_is_asked_about_once() {
    let mut asked = Vec::new();
    let vectors = read(b"a 1 2\nThe 3 4\nthe 5 6\nTHE 7 8\nb 9 9\n", |word| {
        asked.push(word.to_owned());
        word != "a"
    });
    let vectors = vectors.unwrap();
    // The form that needs no change wins over those before and behind it.
    assert_eq!(
        (vectors.words(), vectors.numbers()),
        (&["the", "b"].map(String::from)[..], &[5., 6., 9., 9.][..])
    );
    assert_eq!(asked, ["a", "the", "b"]);
}

#[test]
fn words_with_spaces_are_read_and_broken_characters_skipped() {
    let vectors = all(b"x 1 2\n. . . 3 4\n\xff\xe5 5 6\n");
    assert_eq!(vectors.words(), ["x", ". . ."]);
    assert_eq!(vectors.numbers(), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn faults_name_the_place_and_what_was_expected() {
    for (bytes, parts) in [
        (&b""[..], &["has vectors of 0 numbers"][..]),
        (b"word\nother\n", &["line 1", "vectors of 0 numbers"]),
        (b"2 99999\n", &["line 1", "vectors of 99999 numbers", "2048"]),
        (b"9999999999 2\n", &["line 1", "9999999999 words"]),
        (b"a 1 2\nb 1\n", &["line 2", "a word and 2 numbers", "got 2 fields"]),
        (b"a 1 2\nb 1 2 3\n", &["line 2", "a word and 2 numbers", "got 4 fields"]),
        (b"a 1 2\nb 1 x\n", &["line 2", "got 'x' for number 2"]),
        (b"a 1 2\nb nan 2\n", &["line 2", "got 'nan' for number 1"]),
        (b"a 1 2\nb 1e99 2\n", &["line 2", "got '1e99' for number 1"]),
        (b"3 2\na 1 2\nb 3 4\n", &["announces 3 words, and 2 are there"]),
        (b"1 2\na 1 2\nb 3 4\n", &["announces 1 words, and 2 are there"]),
        (b"\x1f\x8b\x08\x00", &["compressed", "unpack"]),
        (&BINARY[..BINARY.len() - 1], &["byte 36", "ends where 8 bytes of numbers were expected"]),
        (&BINARY[..20], &["byte 20", "ends where a word was expected"]),
        (&[BINARY, b"more"].concat(), &["goes on behind the 3 words"]),
        (b"1 1\na \x00\x00\x80\x7f", &["holds inf"]),
        (&fasttext(&["a"], 1), &["is quantised", ".vec"]),
        (&fasttext(&["a"], 0)[..120], &["ends where"]),
        (&[&MAGIC[..], &[11, 0, 0, 0]].concat(), &["fastText format 11, not 12", ".vec"]),
    ] {
        let fault = fault(bytes);
        assert!(fault.starts_with("the word vectors file.vec: "), "{fault}");
        assert!(parts.iter().all(|part| fault.contains(part)), "{fault}: {parts:?}");
    }
    let long = ["a ".as_bytes(), &vec![b'1'; 100_000]].concat();
    assert!(fault(&long).contains("more than"), "{}", fault(&long));
    let field = ["a 1 2\nb 1 ".as_bytes(), &vec![b'x'; 10_000]].concat();
    assert!(fault(&field).ends_with(&format!("got '{}' for number 2", "x".repeat(32))), "{}", fault(&field));
}

#[test]
fn a_fasttext_model_that_would_cost_too_much_or_give_no_number_is_refused() {
    let mut long = fasttext(&["a"], 0);
    // The last but one of the arguments, behind magic and format.
    long[4 * 12..][..4].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(fault(&long).contains("n-grams of up to 2147483647 characters"), "{}", fault(&long));
    let mut large = fasttext(&["card"], 0);
    let numbers = large.len() - 6 * 2 * 4;
    large[numbers..].chunks_mut(4).for_each(|number| number.copy_from_slice(&3e38f32.to_le_bytes()));
    assert!(fault(&large).contains("too large"), "{}", fault(&large));
}

#[test]
fn a_small_buffer_reads_the_same() {
    // The head, the first word and its numbers are in the buffer; what comes later is not.
    for (bytes, capacity) in [(TEXT, 24), (BINARY, 24), (&fasttext(&["card", "取款"], 0), 9)] {
        let input = std::io::BufReader::with_capacity(capacity, bytes);
        assert_eq!(WordVectors::read("file.vec", input, &mut |_| true).unwrap(), all(bytes));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4) {
        let model = fasttext(&["a"], 0);
        let start = [&b""[..], b"3 2\n", &MAGIC, &model[..64]][kind as usize];
        bytes.splice(..0, start.iter().copied());
        let _either_way = read(&bytes, |_| true);
    }
}
