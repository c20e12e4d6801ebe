//! Learning: what to do, doing it on the training threads, and whether the result may serve.
//!
//! `plan` decides between scratch, continue and transfer; `fit` is the loop, with its `recipe`, `optimiser` or
//! `sgd`, `augment` and `metrics`; `memory` estimates what it takes, `warnings` says what may be
//! wrong with the examples; `gate` decides about promotion, by what `standing` measures; `run` takes one job
//! through the stages that `strategy` chooses, from what `start` and `leaves` know; `refit` is the stage that leaves the
//! encoder as it is, on what `features` computes or kept; `jobs` accepts the jobs, `schedule` decides which of them computes,
//! by what each asks for in its `claim` and the `shares` that it has had, `turns` has the threads keep to that, `work` takes a
//! job from its start to its end, and `feed` tells what happens to it; `change` applies changes of the classes to a living
//! model: which job has to `make_way`, what `edited` makes of the changes, how `divide` splits the examples, and the rows
//! that `imprint` fits at once; `suggest` finds merges that gain, `splits` classes that may be two, and `relabels`
//! labels that are probably wrong.

mod answered;
mod augment;
mod batches;
mod calibrate;
mod change;
mod claim;
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
mod make_way;
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
mod schedule;
mod sgd;
mod shares;
mod splits;
mod standing;
mod start;
mod stop;
mod strategy;
mod suggest;
mod trainer;
mod turns;
mod validation;
mod vectors;
mod warnings;
mod wide;
mod work;

pub use change::{Applied, ChangeOrder, Edits, Learning, Preview, UndoOrder};
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
pub use schedule::Positions;
pub use splits::{SplitSuggestions, SuggestedPart, SuggestedSplit};
pub use strategy::Strategy;
pub use suggest::{ConfusedExample, SuggestedPair, Suggestions};
pub use vectors::VectorsDir;
pub use wide::WideRecipe;
