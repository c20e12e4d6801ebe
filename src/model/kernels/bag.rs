//! The mean of some rows of an embedding, for each token.
//!
//! ```text
//! y[i] = 1 / |bag i| * sum of W[r] over r in bag i        W [R, E]   y [N, E]
//! dW[r] = sum of dy[i] / |bag i| over the bags i that hold r
//! ```
//!
//! W is either the whole table or only the rows that a batch touches, in which case no work depends on the size of the
//! vocabulary. The sum runs in the order of the bag.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{
    lanes::{Kernel, Lanes, dispatch},
    storage::{numbers, slice, stored, tensor},
};
use crate::text::Bags;

/// The tokens `[N, E]` of bags over the rows of `weight`, `[R, E]`.
pub fn embedding_bag(weight: &Tensor, bags: &Arc<Bags>) -> Result<Tensor> {
    weight.apply_op1(EmbeddingBag(bags.clone()))
}

struct EmbeddingBag(Arc<Bags>);

impl EmbeddingBag {
    /// Pairs of a token and its bag.
    fn bags(&self) -> impl Iterator<Item = &[u32]> {
        self.0.offsets.windows(2).map(|ends| &self.0.rows[ends[0] as usize..ends[1] as usize])
    }
}

impl CustomOp1 for EmbeddingBag {
    fn name(&self) -> &'static str {
        "embedding-bag"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        if self.0.rows.iter().any(|&row| row as usize >= rows) {
            bail!("a bag names a row that the embedding of {rows} rows does not have");
        }
        let tokens = self.0.offsets.len() - 1;
        let mut y = vec![0.0; tokens * width];
        dispatch(Gather { bags: self, weight: slice(weight, layout)?, y: &mut y, width });
        stored(y, (tokens, width))
    }

    fn bwd(&self, weight: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = weight.dims2()?;
        let dy = dy.contiguous()?;
        let mut dw = vec![0.0; rows * width];
        dispatch(Scatter { bags: self, dy: &numbers(&dy)?, dw: &mut dw, width });
        Ok(Some(tensor(dw, (rows, width))?))
    }
}

struct Gather<'a> {
    bags: &'a EmbeddingBag,
    weight: &'a [f32],
    y: &'a mut [f32],
    width: usize,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.width;
        for (bag, y) in self.bags.bags().zip(self.y.chunks_exact_mut(width)) {
            for &row in bag {
                let row = &self.weight[row as usize * width..][..width];
                y.iter_mut().zip(row).for_each(|(y, w)| *y += w);
            }
            let share = 1.0 / bag.len() as f32;
            y.iter_mut().for_each(|y| *y *= share);
        }
    }
}

struct Scatter<'a> {
    bags: &'a EmbeddingBag,
    dy: &'a [f32],
    dw: &'a mut [f32],
    width: usize,
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.width;
        for (bag, dy) in self.bags.bags().zip(self.dy.chunks_exact(width)) {
            let share = 1.0 / bag.len() as f32;
            for &row in bag {
                let dw = &mut self.dw[row as usize * width..][..width];
                dw.iter_mut().zip(dy).for_each(|(dw, g)| *dw += share * g);
            }
        }
    }
}
