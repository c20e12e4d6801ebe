//! The operations of the network on the processor, each with its gradient, over plain slices.
//!
//! Every operation has one body for all processors: plain loops, or several numbers at a time through [`lanes`], compiled
//! for AVX-512, for AVX2 with FMA and for neither, and chosen when it runs. These differ in the last bits only (a fused
//! multiply-add rounds once). What one text's answer is does not depend on the texts beside it: each output is
//! computed by the same sequence of operations whatever the number of rows, and whichever thread does it.

mod activation;
mod adamw;
mod bag;
mod buffer;
mod cell;
mod inference;
mod lanes;
mod linear;
mod loss;
mod lstm;
mod panels;
mod pool;
mod product;
mod projection;
mod recurrence;
mod rounded;
mod sparse;
pub(super) mod storage;
mod tile;

pub use adamw::AdamW;
pub use bag::{TokenMask, bag_backward, bag_forward, embedding_bag};
pub use buffer::Buffer;
pub use inference::{LstmReader, PooledStates, RecurrentWeights};
pub use lanes::{PORTABLE, instructions, prefetch};
pub use linear::{Inputs, Linear, LinearGradients};
pub use loss::ClassTargets;
pub use lstm::{Directions, Lstm, LstmTrace, LstmWeights};
pub use pool::Pool;
pub use projection::{Place, Projection, ProjectionReader, ProjectionWeights};
pub use sparse::{add_rows, step_rows};

use crate::allocator;

/// Gives memory that was kept for the next step back to the system: for the end of a training and of a job.
pub fn release_memory() {
    buffer::release();
    allocator::give_back();
}
