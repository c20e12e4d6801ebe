//! From a string to what the network reads: normal form, tokens, features, rows of the embedding, batches.

mod batch;
mod counts;
mod encode;
mod features;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod normalise;
mod segment;
mod terms;
mod tokenise;
mod vectors;
mod vocabulary;
mod words;

pub use batch::{Bags, PackedBatch, Packing};
pub use encode::{EncodedText, TextEncoder};
pub use normalise::{MAX_TEXT_BYTES, normalise};
pub use segment::Segmentation;
pub use terms::{MAX_TERMS, Terms};
pub use tokenise::tokens;
pub use vectors::{MAX_VECTOR_WIDTH, WordVectors};
pub use vocabulary::{MAX_VOCABULARY, Vocabulary};
