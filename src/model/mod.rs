//! The network: its dimensions, its tensors at rest and at work, and the changes of its head and vocabulary.
//!
//! ```text
//! text -> bags of rows -> embedding -> LSTM -> pooling -> head -> softmax over leaves
//!         [N] bags        [N, E]       [N, DH] [B, F]     [B, C]
//!      -> weighted terms -> wide branch ---------------------^
//!         [U] sparse                        [B, C]
//! ```
//!
//! Shapes everywhere: N tokens in the packed batch, B texts, T steps, V vocabulary rows, R of them touched by a batch, E
//! embedding, H hidden, D directions, F features of a text, U terms of the wide branch, C leaves, K classes.

mod architecture;
pub mod checkpoint;
mod classifier;
pub mod cuda;
mod device;
mod encoder;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod gradients;
mod head;
pub mod init;
pub mod kernels;
mod network;
mod newcomers;
mod numbers;
mod precision;
mod pretrained;
pub mod surgery;
mod tokens;
mod wide;

pub use architecture::{Architecture, Pooling, Preset};
pub use checkpoint::{Array, Checkpoint};
pub use classifier::{Classifier, MemoryPart};
pub use device::{Device, DeviceChoice};
pub use encoder::Encoder;
pub use head::{Head, LeafProbabilities};
pub use network::{BranchLogits, Network};
pub use newcomers::{NEWCOMERS_SHARE, with_newcomers};
pub use numbers::{Numbers, WeakNumbers};
pub use precision::AnswerWeights;
pub use pretrained::{VectorFile, from_vectors};
pub use tokens::TokenMemory;
pub use wide::{DEFAULT_SCALES, Wide};

pub use crate::text::Segmentation;

use crate::error::Error;

/// A failed tensor operation: the shapes are fixed by construction, so it is a fault of the daemon.
pub(crate) fn numeric(error: candle_core::Error) -> Error {
    Error::Internal(error.to_string())
}
