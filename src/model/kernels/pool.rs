//! The states of all tokens of a text as one vector.
//!
//! ```text
//! mean                  y = mean_t h[t]                                     [B, S]
//! mean|max|input        y = mean_t h[t] | max_t h[t] | mean_t x[t]          [B, 2 S + E]
//! mean|projected|input  y = mean_t h[t] |            | mean_t x[t]          [B, 2 S + E]
//! ```
//!
//! h `[N, S]` and x `[N, E]` are packed; the rows of y are in the order of the batch as given. The gradient of the
//! maximum goes to the first step that reached it. The gap is left to the [projection](super::Projection).

use super::{
    buffer::Buffer,
    lanes::{Kernel, Lanes, dispatch},
    projection::Place,
};
use crate::{model::Pooling, text::Packing};

/// Pools the states of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a> {
    /// The texts.
    pub packing: &'a Packing,
    /// How.
    pub pooling: Pooling,
    /// S.
    pub states: usize,
    /// E.
    pub embedding: usize,
}

impl Pool<'_> {
    fn columns(&self) -> usize {
        match self.pooling {
            Pooling::Mean => self.states,
            Pooling::MeanMaxInput | Pooling::MeanProjectedInput => 2 * self.states + self.embedding,
        }
    }

    /// Where what is projected stands in y.
    pub fn projected(&self) -> Place {
        Place { columns: self.columns(), first: self.states }
    }

    /// The features y of states h, `[N, S]`, and token embeddings x, `[N, E]`.
    pub fn forward(&self, h: &[f32], x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; self.packing.texts() * self.columns()];
        dispatch(Forward { pool: *self, h, x, y: &mut y });
        y
    }

    /// The gradients of h and of x, from h, y and the gradient of y.
    pub fn backward(&self, h: &[f32], y: &[f32], dy: &[f32]) -> (Buffer, Buffer) {
        let tokens = self.packing.tokens();
        let mut dh = Buffer::stale(tokens * self.states);
        let mut dx = match self.pooling {
            // It does not depend on x.
            Pooling::Mean => Buffer::zeros(tokens * self.embedding),
            Pooling::MeanMaxInput | Pooling::MeanProjectedInput => Buffer::stale(tokens * self.embedding),
        };
        dispatch(Backward { pool: *self, h, y, dy, dh: &mut dh, dx: &mut dx });
        (dh, dx)
    }
}

/// The packed rows of the text of a rank, in the order of the steps.
#[inline(always)]
fn rows(packing: &Packing, rank: usize) -> impl Iterator<Item = usize> {
    packing.starts[..packing.lengths[rank]].iter().map(move |start| start + rank)
}

struct Forward<'a> {
    pool: Pool<'a>,
    h: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { pool, h, x, y } = self;
        let (Pool { packing, pooling, states, embedding }, columns) = (pool, pool.columns());
        for (rank, &text) in packing.order.iter().enumerate() {
            let share = 1.0 / packing.lengths[rank] as f32;
            let (mean, rest) = y[text * columns..][..columns].split_at_mut(states);
            set_mean(rows(packing, rank), share, h, mean);
            if pooling == Pooling::Mean {
                continue;
            }
            let (max, input) = rest.split_at_mut(states);
            if pooling == Pooling::MeanMaxInput {
                max.fill(f32::NEG_INFINITY);
                for row in rows(packing, rank) {
                    for (max, &h) in max.iter_mut().zip(&h[row * states..][..states]) {
                        *max = if h > *max { h } else { *max };
                    }
                }
            }
            set_mean(rows(packing, rank), share, x, &mut input[..embedding]);
        }
    }
}

/// Adds the mean of some rows of `x` to `mean`, which is zero.
#[inline(always)]
fn set_mean(rows: impl Iterator<Item = usize>, share: f32, x: &[f32], mean: &mut [f32]) {
    let width = mean.len();
    for row in rows {
        mean.iter_mut().zip(&x[row * width..][..width]).for_each(|(mean, x)| *mean += x);
    }
    mean.iter_mut().for_each(|mean| *mean *= share);
}

struct Backward<'a> {
    pool: Pool<'a>,
    h: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    dh: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { pool, h, y, dy, dh, dx } = self;
        let (Pool { packing, pooling, states, embedding }, columns) = (pool, pool.columns());
        // Of a maximum, its gradient until a step has taken it, then 0.
        let mut left = vec![0.0; states];
        let mut shared = vec![0.0; states.max(embedding)];
        for (rank, &text) in packing.order.iter().enumerate() {
            let share = 1.0 / packing.lengths[rank] as f32;
            let (dmean, rest) = dy[text * columns..][..columns].split_at(states);
            shared.iter_mut().zip(dmean).for_each(|(shared, g)| *shared = share * g);
            if pooling != Pooling::MeanMaxInput {
                for row in rows(packing, rank) {
                    dh[row * states..][..states].copy_from_slice(&shared[..states]);
                }
            }
            if pooling == Pooling::Mean {
                continue;
            }
            let (dmax, dinput) = rest.split_at(states);
            if pooling == Pooling::MeanMaxInput {
                let max = &y[text * columns + states..][..states];
                left.copy_from_slice(dmax);
                for row in rows(packing, rank) {
                    let (h, dh) = (&h[row * states..][..states], &mut dh[row * states..][..states]);
                    for (((dh, h), (max, left)), shared) in
                        dh.iter_mut().zip(h).zip(max.iter().zip(&mut left)).zip(&shared)
                    {
                        let here = if h == max { *left } else { 0.0 };
                        *left = if h == max { 0.0 } else { *left };
                        *dh = shared + here;
                    }
                }
            }
            shared.iter_mut().zip(dinput).for_each(|(shared, g)| *shared = share * g);
            for row in rows(packing, rank) {
                dx[row * embedding..][..embedding].copy_from_slice(&shared[..embedding]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_maxima_gets_the_gradient() {
        let packing = Packing::new(&[3, 2]);
        let pool = Pool { packing: &packing, pooling: Pooling::MeanMaxInput, states: 1, embedding: 1 };
        // Rows of the two texts by turns, then the third of the first text.
        let h = [1.0, 5.0, 2.0, 5.0, 2.0];
        let y = pool.forward(&h, &[0.0; 5]);
        assert!((y[0] - 5.0 / 3.0).abs() < 1e-6);
        assert_eq!(y[1..], [2.0, 0.0, 5.0, 5.0, 0.0]);
        let (dh, dx) = pool.backward(&h, &y, &[0.0, 1.0, 3.0, 0.0, 1.0, 4.0]);
        assert_eq!(*dh, [0.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(*dx, [1.0, 2.0, 1.0, 2.0, 1.0]);
    }
}
