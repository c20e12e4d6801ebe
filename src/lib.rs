//! **taxond**: a daemon that owns text classifiers whose categories keep changing.
//!
//! The crate in the order that a request takes through it:
//!
//! - [`cli`] is the command line: a client of the daemon like any other, and `serve`, which starts it.
//! - [`config`] collects defaults, file, environment and flags, and refuses nonsense.
//! - [`server`] puts the daemon together: listener, services, health, drain.
//! - [`service`] holds the RPCs: check, one call into the domain, convert; and the only map from errors to statuses.
//! - [`predict`] answers: versions in memory, and the thread that computes in batches.
//! - [`train`] learns: plan, fit, gate, jobs, and changes of the classes on a living model.
//! - [`taxonomy`] knows classes and leaves, and changes them by pure functions.
//! - [`text`] turns text into tokens, features and packed batches.
//! - [`model`] is the network: kernels, encoder, head, checkpoint.
//! - [`registry`] keeps models, versions, manifests, aliases and jobs.
//! - [`dataset`] keeps labelled examples and the split.
//! - [`store`] is the only room that knows the database: sealed values, transactions, blobs.
//! - [`admission`] bounds the calls under way and the memory that they take.
//! - [`cancel`] tells work whether it shall go on; [`file`] opens files without waiting.
//! - [`allocator`] has the system's allocator keep little of what is free.
//! - [`fair_lock`] is a lock in which readers cannot starve a writer.
//! - [`niceness`] has threads give way to others on the processor.
//! - [`measure`] counts on the way of requests, without locks.
//! - [`error`] names what can go wrong; [`proto`] is generated.
//!
//! What the fuzzers in `fuzz/` run stands beside what it tries, and by name in `fuzzing`, which is there for them and for tests alone.

pub mod admission;
pub mod allocator;
pub mod cancel;
pub mod cli;
pub mod config;
pub mod dataset;
pub mod error;
pub mod fair_lock;
pub mod file;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod measure;
pub mod model;
pub mod niceness;
pub mod predict;
pub mod proto;
pub mod registry;
pub mod server;
pub mod service;
pub mod store;
pub mod taxonomy;
pub mod text;
pub mod train;
