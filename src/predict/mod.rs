//! Answering: versions kept in memory, and the threads that compute for all requests.

mod batcher;
mod budget;
mod live;
mod pace;
mod predictor;
mod revision;
mod stats;
mod waiting;

pub use batcher::QueueLimits;
pub use live::{Live, LiveVersions};
pub use predictor::{Answer, Answers, Asked, Outline, Predictor, Question, Score};
pub use revision::InRevision;
pub use stats::{BatchStats, CacheStats};
