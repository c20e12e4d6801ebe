//! From a string to what the network reads: normal form, tokens, features, rows of the embedding, batches.

mod batch;
mod counts;
mod encode;
mod features;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod normalise;
mod person;
mod segment;
mod terms;
mod tokenise;
mod vectors;
mod visible;
mod vocabulary;
mod words;

pub use batch::{Bags, PackedBatch, Packing};
pub use encode::{EncodedText, TextEncoder};
pub use normalise::{MAX_TEXT_BYTES, normalise};
pub use person::{MAX_PERSON_BYTES, VIA, person};
pub use segment::Segmentation;
pub use terms::{MAX_TERMS, Terms};
pub use tokenise::tokens;
pub use vectors::{MAX_VECTOR_WIDTH, WordVectors};
pub use visible::{is_hidden, visible, visible_json, visible_lines};
pub use vocabulary::{MAX_VOCABULARY, Vocabulary};
