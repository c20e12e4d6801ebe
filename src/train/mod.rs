//! Learning: what to do, doing it on the training thread, and whether the result may serve.
//!
//! `plan` decides between scratch, continue and transfer; `fit` is the loop, with its `recipe`, `optimiser` and
//! `metrics`; `gate` decides about promotion; `run` takes one job through all of them; `jobs` queues the jobs, `feed`
//! tells what happens to them, and `change` applies changes of the classes to a living model.

mod answered;
mod batches;
mod change;
mod feed;
mod fit;
mod gate;
mod jobs;
pub mod metrics;
mod optimiser;
mod plan;
mod recipe;
mod run;
mod trainer;

pub use change::{Applied, MergeOrder, Preview};
pub use feed::{Event, EventKind, Planned, Watch};
pub use fit::{FitProgress, Fitted, Sample, fit};
pub use jobs::{Jobs, TrainOptions};
pub use metrics::Confusion;
pub use optimiser::{Moments, Update};
pub use plan::{Current, Plan, plan};
pub use recipe::Recipe;
