//! The states of all tokens of a text as one vector.
//!
//! ```text
//! mean            y = mean_t h[t]                                     [B, S]
//! mean|max|input  y = mean_t h[t] | max_t h[t] | mean_t x[t]          [B, 2 S + E]
//! ```
//!
//! h `[N, S]` and x `[N, E]` are packed; the rows of y are in the order of the batch as given. The gradient of the
//! maximum goes to the first step that reached it.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::storage::{numbers, slice, stored, tensor};
use crate::{model::Pooling, text::Packing};

/// Pools states `h`, `[N, S]`, and token embeddings `x`, `[N, E]`.
pub fn pool(h: &Tensor, x: &Tensor, packing: &Arc<Packing>, pooling: Pooling) -> Result<Tensor> {
    h.apply_op2(x, Pool { packing: packing.clone(), pooling, winners: Mutex::default() })
}

struct Pool {
    packing: Arc<Packing>,
    pooling: Pooling,
    /// For each text in the order of the batch and each state, the packed row of the maximum.
    winners: Mutex<Vec<u32>>,
}

impl Pool {
    fn columns(&self, states: usize, embedding: usize) -> usize {
        match self.pooling {
            Pooling::Mean => states,
            Pooling::MeanMaxInput => 2 * states + embedding,
        }
    }

    /// The packed rows of the text of a rank, in the order of the steps.
    fn rows(&self, rank: usize) -> impl Iterator<Item = usize> {
        self.packing.starts[..self.packing.lengths[rank]].iter().map(move |start| start + rank)
    }

    /// Sets `y` to the mean of a text's rows.
    fn mean(&self, rank: usize, x: &[f32], y: &mut [f32]) {
        let width = y.len();
        for row in self.rows(rank) {
            y.iter_mut().zip(&x[row * width..]).for_each(|(y, x)| *y += x);
        }
        let share = 1.0 / self.packing.lengths[rank] as f32;
        y.iter_mut().for_each(|y| *y *= share);
    }

    /// Adds the gradient of a mean to a text's rows.
    fn mean_backward(&self, rank: usize, dy: &[f32], dx: &mut [f32]) {
        let width = dy.len();
        let share = 1.0 / self.packing.lengths[rank] as f32;
        for row in self.rows(rank) {
            dx[row * width..].iter_mut().zip(dy).for_each(|(dx, g)| *dx += share * g);
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
        let (states, embedding) = (h_layout.shape().dims2()?.1, x_layout.shape().dims2()?.1);
        let (h, x) = (slice(h, h_layout)?, slice(x, x_layout)?);
        let (texts, columns) = (self.packing.texts(), self.columns(states, embedding));
        let mut y = vec![0.0; texts * columns];
        let mut winners = vec![0; if self.pooling == Pooling::Mean { 0 } else { texts * states }];
        for (rank, &text) in self.packing.order.iter().enumerate() {
            let (mean, rest) = y[text * columns..][..columns].split_at_mut(states);
            self.mean(rank, h, mean);
            if self.pooling == Pooling::MeanMaxInput {
                let (max, input) = rest.split_at_mut(states);
                let winners = &mut winners[text * states..][..states];
                max.fill(f32::NEG_INFINITY);
                for row in self.rows(rank) {
                    for ((max, winner), &h) in max.iter_mut().zip(&mut *winners).zip(&h[row * states..]) {
                        if h > *max {
                            (*max, *winner) = (h, row as u32);
                        }
                    }
                }
                self.mean(rank, x, input);
            }
        }
        *self.winners.lock().unwrap_or_else(PoisonError::into_inner) = winners;
        stored(y, (texts, columns))
    }

    fn bwd(
        &self,
        h: &Tensor,
        x: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((tokens, states), embedding) = (h.dims2()?, x.dim(1)?);
        let columns = self.columns(states, embedding);
        let dy = dy.contiguous()?;
        let dy = numbers(&dy)?;
        let (mut dh, mut dx) = (vec![0.0; tokens * states], vec![0.0; tokens * embedding]);
        let winners = self.winners.lock().unwrap_or_else(PoisonError::into_inner);
        for (rank, &text) in self.packing.order.iter().enumerate() {
            let (mean, rest) = dy[text * columns..][..columns].split_at(states);
            self.mean_backward(rank, mean, &mut dh);
            if self.pooling == Pooling::MeanMaxInput {
                let (max, input) = rest.split_at(states);
                for (state, (&row, g)) in winners[text * states..].iter().zip(max).enumerate() {
                    dh[row as usize * states + state] += g;
                }
                self.mean_backward(rank, input, &mut dx);
            }
        }
        let dx =
            (self.pooling == Pooling::MeanMaxInput).then(|| tensor(dx, (tokens, embedding))).transpose()?;
        Ok((Some(tensor(dh, (tokens, states))?), dx))
    }
}
