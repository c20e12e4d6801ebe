//! Learning: what to do, doing it on the training thread, and whether the result may serve.
//!
//! `plan` decides between scratch, continue and transfer; `fit` is the loop, with its `recipe`, `optimiser` or
//! `sgd`, `augment` and `metrics`; `memory` estimates what it takes, `warnings` says what may be
//! wrong with the examples; `gate` decides about promotion, by what `standing` measures; `run` takes one job
//! through the stages that `strategy` chooses, from what `start` and `leaves` know; `refit` is the stage that leaves the
//! encoder as it is, on what `features` computes or kept; `jobs` queues the jobs, `feed` tells what happens to them; `change`
//! applies changes of the classes to a living model: what `edited` makes of them, how `divide` splits the examples, and the
//! rows that `imprint` fits at once; `suggest` finds merges that gain, `splits` classes that may be two, and `relabels`
//! labels that are probably wrong.

mod answered;
mod augment;
mod batches;
mod calibrate;
mod change;
mod courtesy;
mod divide;
mod edited;
mod engine;
mod features;
mod feed;
mod fit;
mod gate;
mod imprint;
mod jobs;
mod leaves;
mod memory;
pub mod metrics;
mod optimiser;
mod order;
mod plan;
mod prepare;
mod recipe;
mod refit;
mod relabels;
mod run;
mod sgd;
mod splits;
mod standing;
mod start;
mod stop;
mod strategy;
mod suggest;
mod trainer;
mod validation;
mod vectors;
mod warnings;
mod wide;

pub use change::{Applied, ChangeOrder, Edits, Learning, Preview, UndoOrder};
pub use courtesy::give_way;
pub use divide::{Division, Share};
pub use feed::{Event, EventKind, Planned, Watch};
pub use fit::{FitProgress, Fitted, Sample, fit};
pub use gate::Tolerance;
pub use jobs::{Host, Jobs};
pub use memory::Memory;
pub use metrics::{Confusion, Judged};
pub use optimiser::{Moments, Update};
use order::Order;
pub use order::TrainOptions;
pub use plan::{Current, Plan, plan};
pub use recipe::{Optimiser, Recipe};
pub use relabels::{Contradiction, RelabelSuggestions};
pub use splits::{SplitSuggestions, SuggestedPart, SuggestedSplit};
pub use strategy::Strategy;
pub use suggest::{ConfusedExample, SuggestedPair, Suggestions};
pub use vectors::VectorsDir;
pub use wide::WideRecipe;
