//! The states of all tokens of a text as one vector.
//!
//! ```text
//! mean            y = mean_t h[t]                                     [B, S]
//! mean|max|input  y = mean_t h[t] | max_t h[t] | mean_t x[t]          [B, 2 S + E]
//! ```
//!
//! h `[N, S]` and x `[N, E]` are packed; the rows of y are in the order of the batch as given. The gradient of the
//! maximum goes to the first step that reached it.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{
    lanes::{Kernel, Lanes, dispatch},
    storage::{numbers, slice, stored, tensor},
};
use crate::{model::Pooling, text::Packing};

/// Pools states `h`, `[N, S]`, and token embeddings `x`, `[N, E]`.
///
/// # Errors
/// If the two have not a row for each token of the batch.
pub fn pool(h: &Tensor, x: &Tensor, packing: &Arc<Packing>, pooling: Pooling) -> Result<Tensor> {
    h.apply_op2(x, Pool { packing: packing.clone(), pooling })
}

struct Pool {
    packing: Arc<Packing>,
    pooling: Pooling,
}

impl Pool {
    fn columns(&self, states: usize, embedding: usize) -> usize {
        match self.pooling {
            Pooling::Mean => states,
            Pooling::MeanMaxInput => 2 * states + embedding,
        }
    }
}

impl CustomOp2 for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        h_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((tokens, states), (inputs, embedding)) = (h_layout.shape().dims2()?, x_layout.shape().dims2()?);
        if tokens != self.packing.tokens() || inputs != tokens {
            candle_core::bail!("{tokens} states and {inputs} tokens do not fit the batch");
        }
        let (texts, columns) = (self.packing.texts(), self.columns(states, embedding));
        let mut y = vec![0.0; texts * columns];
        let (h, x) = (slice(h, h_layout)?, slice(x, x_layout)?);
        dispatch(Forward { op: self, states, embedding, h, x, y: &mut y });
        stored(y, (texts, columns))
    }

    fn bwd(
        &self,
        h: &Tensor,
        x: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((tokens, states), embedding) = (h.dims2()?, x.dim(1)?);
        let dy = dy.contiguous()?;
        let (mut dh, mut dx) = (vec![0.0; tokens * states], Vec::new());
        if self.pooling == Pooling::MeanMaxInput {
            dx = vec![0.0; tokens * embedding];
        }
        dispatch(Backward {
            op: self,
            states,
            embedding,
            h: &numbers(h)?,
            y: &numbers(y)?,
            dy: &numbers(&dy)?,
            dh: &mut dh,
            dx: &mut dx,
        });
        let dx =
            (self.pooling == Pooling::MeanMaxInput).then(|| tensor(dx, (tokens, embedding))).transpose()?;
        Ok((Some(tensor(dh, (tokens, states))?), dx))
    }
}

/// The packed rows of the text of a rank, in the order of the steps.
#[inline(always)]
fn rows(packing: &Packing, rank: usize) -> impl Iterator<Item = usize> {
    packing.starts[..packing.lengths[rank]].iter().map(move |start| start + rank)
}

struct Forward<'a> {
    op: &'a Pool,
    states: usize,
    embedding: usize,
    h: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { op: Pool { packing, pooling }, states, embedding, h, x, y } = self;
        let columns = y.len() / packing.texts().max(1);
        for (rank, &text) in packing.order.iter().enumerate() {
            let share = 1.0 / packing.lengths[rank] as f32;
            let (mean, rest) = y[text * columns..][..columns].split_at_mut(states);
            set_mean(rows(packing, rank), share, h, mean);
            if *pooling == Pooling::MeanMaxInput {
                let (max, input) = rest.split_at_mut(states);
                max.fill(f32::NEG_INFINITY);
                for row in rows(packing, rank) {
                    for (max, &h) in max.iter_mut().zip(&h[row * states..][..states]) {
                        *max = if h > *max { h } else { *max };
                    }
                }
                set_mean(rows(packing, rank), share, x, &mut input[..embedding]);
            }
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
    op: &'a Pool,
    states: usize,
    embedding: usize,
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
        let Self { op: Pool { packing, pooling }, states, embedding, h, y, dy, dh, dx } = self;
        let columns = y.len() / packing.texts().max(1);
        // Of a maximum, its gradient until a step has taken it, then 0.
        let mut left = vec![0.0; states];
        let mut shared = vec![0.0; states.max(embedding)];
        for (rank, &text) in packing.order.iter().enumerate() {
            let share = 1.0 / packing.lengths[rank] as f32;
            let (dmean, rest) = dy[text * columns..][..columns].split_at(states);
            shared.iter_mut().zip(dmean).for_each(|(shared, g)| *shared = share * g);
            if *pooling == Pooling::Mean {
                for row in rows(packing, rank) {
                    dh[row * states..][..states].copy_from_slice(&shared[..states]);
                }
                continue;
            }
            let (dmax, dinput) = rest.split_at(states);
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
            shared.iter_mut().zip(dinput).for_each(|(shared, g)| *shared = share * g);
            for row in rows(packing, rank) {
                dx[row * embedding..][..embedding].copy_from_slice(&shared[..embedding]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_first_of_equal_maxima_gets_the_gradient() {
        let packing = Arc::new(Packing::new(&[3, 2]));
        // Rows of the two texts by turns, then the third of the first text.
        let h = Var::new(&[[1.0f32], [5.0], [2.0], [5.0], [2.0]], &Device::Cpu).unwrap();
        let x = Var::new(&[[0.0f32]; 5], &Device::Cpu).unwrap();
        let y = pool(&h, &x, &packing, Pooling::MeanMaxInput).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[5.0 / 3.0, 2.0, 0.0], [5.0, 5.0, 0.0]]);
        let gradients = y.narrow(1, 1, 1).unwrap().sum_all().unwrap().backward().unwrap();
        let dh = gradients.get(&h).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(dh, [0.0, 1.0, 1.0, 0.0, 0.0]);
    }
}
