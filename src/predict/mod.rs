//! Answering: versions kept in memory, and the thread that computes for all requests.

mod batcher;
mod live;
mod predictor;
mod revision;

pub use live::{Live, LiveVersions};
pub use predictor::{Answer, Answers, Asked, Predictor, Question, Score};
pub use revision::InRevision;
