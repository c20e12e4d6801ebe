//! The mean of some rows of an embedding, for each token.
//!
//! ```text
//! y[i] = mask[i] / |bag i| * sum of W[r] over r in bag i        W [R, E]   y [N, E]
//! dW[r] = sum of mask[i] dy[i] / |bag i| over the bags i that hold r
//! ```
//!
//! W is either the whole table or only the rows that a batch touches, in which case no work depends on the size of the
//! vocabulary. Sums run in the order of the bag and of the tokens, whichever thread does them.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{
    lanes::{Kernel, Lanes, dispatch},
    product::pays,
    storage::{numbers, slice, stored, tensor},
};
use crate::text::{Bags, Packing};

/// Tokens that a thread takes at a time.
const BLOCK_TOKENS: usize = 64;

/// What tokens are multiplied with in training: columns hidden throughout a text, tokens hidden whole.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenMask {
    /// A factor for each column of each text, by rank, `[B, E]`.
    columns: Vec<f32>,
    /// For each token the rank of its text, or none where it is hidden, `[N]`.
    ranks: Vec<Option<u32>>,
}

impl TokenMask {
    /// From a factor for each column of the text of each rank, `[B, E]`, and a function that says, token after token,
    /// whether it is seen.
    pub fn new(packing: &Packing, columns: Vec<f32>, mut seen: impl FnMut() -> bool) -> Self {
        let steps = (0..packing.steps()).flat_map(|step| 0..packing.running(step) as u32);
        let ranks = steps.map(|rank| seen().then_some(rank)).collect();
        Self { columns, ranks }
    }

    /// The factors of a token; none if it is hidden.
    pub fn factors(&self, token: usize, width: usize) -> Option<&[f32]> {
        let rank = self.ranks[token]? as usize;
        Some(&self.columns[rank * width..][..width])
    }
}

/// The tokens `[N, E]` of bags over the rows of `weight`, `[R, E]`.
///
/// # Errors
/// If a bag names a row that is not there.
pub fn embedding_bag(weight: &Tensor, bags: &Arc<Bags>) -> Result<Tensor> {
    weight.apply_op1(EmbeddingBag { bags: bags.clone(), mask: None })
}

/// As [`embedding_bag`], and the tokens multiplied with a mask.
///
/// # Errors
/// If a bag names a row that is not there.
pub fn masked_embedding_bag(weight: &Tensor, bags: &Arc<Bags>, mask: TokenMask) -> Result<Tensor> {
    weight.apply_op1(EmbeddingBag { bags: bags.clone(), mask: Some(mask) })
}

struct EmbeddingBag {
    bags: Arc<Bags>,
    mask: Option<TokenMask>,
}

impl EmbeddingBag {
    fn tokens(&self) -> usize {
        self.bags.offsets.len() - 1
    }

    fn bag(&self, token: usize) -> &[u32] {
        &self.bags.rows[self.bags.offsets[token] as usize..self.bags.offsets[token + 1] as usize]
    }

    /// The factors of a token: none if it is hidden, an empty list if all are 1.
    #[inline(always)]
    fn factors(&self, token: usize, width: usize) -> Option<&[f32]> {
        self.mask.as_ref().map_or(Some(&[]), |mask| mask.factors(token, width))
    }
}

impl CustomOp1 for EmbeddingBag {
    fn name(&self) -> &'static str {
        "embedding-bag"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        if self.bags.rows.iter().any(|&row| row as usize >= rows) {
            bail!("a bag names a row that the embedding of {rows} rows does not have");
        }
        let weight = slice(weight, layout)?;
        let mut y = vec![0.0; self.tokens() * width];
        let gather = |(block, y): (usize, &mut [f32])| {
            dispatch(Gather { op: self, first: block * BLOCK_TOKENS, weight, y, width });
        };
        if pays(self.bags.rows.len() * width) {
            y.par_chunks_mut(BLOCK_TOKENS * width).enumerate().for_each(gather);
        } else {
            y.chunks_mut(BLOCK_TOKENS * width).enumerate().for_each(gather);
        }
        stored(y, (self.tokens(), width))
    }

    fn bwd(&self, weight: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = weight.dims2()?;
        let dy = dy.contiguous()?;
        let dy = numbers(&dy)?;
        let dy = &*dy;
        let mut dw = vec![0.0; rows * width];
        let threads = if pays(self.bags.rows.len() * width) { rayon::current_num_threads() } else { 1 };
        let block = rows.div_ceil(threads).max(1);
        let scatter = |(index, dw): (usize, &mut [f32])| {
            dispatch(Scatter { op: self, first: index * block, dy, dw, width });
        };
        if threads > 1 {
            dw.par_chunks_mut(block * width).enumerate().for_each(scatter);
        } else {
            dw.chunks_mut(block * width).enumerate().for_each(scatter);
        }
        Ok(Some(tensor(dw, (rows, width))?))
    }
}

/// Makes tokens from `first` on.
struct Gather<'a> {
    op: &'a EmbeddingBag,
    first: usize,
    weight: &'a [f32],
    y: &'a mut [f32],
    width: usize,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.width;
        for (token, y) in (self.first..).zip(self.y.chunks_exact_mut(width)) {
            let Some(factors) = self.op.factors(token, width) else { continue };
            let bag = self.op.bag(token);
            for &row in bag {
                let row = &self.weight[row as usize * width..][..width];
                y.iter_mut().zip(row).for_each(|(y, w)| *y += w);
            }
            let share = 1.0 / bag.len() as f32;
            if factors.is_empty() {
                y.iter_mut().for_each(|y| *y *= share);
            } else {
                y.iter_mut().zip(factors).for_each(|(y, factor)| *y *= share * factor);
            }
        }
    }
}

/// Makes the gradients of the rows from `first` on.
struct Scatter<'a> {
    op: &'a EmbeddingBag,
    first: usize,
    dy: &'a [f32],
    dw: &'a mut [f32],
    width: usize,
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.width;
        let rows = self.first..self.first + self.dw.len() / width;
        let mut scaled = vec![0.0; width];
        for (token, dy) in self.dy.chunks_exact(width).enumerate() {
            let Some(factors) = self.op.factors(token, width) else { continue };
            let bag = self.op.bag(token);
            let share = 1.0 / bag.len() as f32;
            if factors.is_empty() {
                scaled.iter_mut().zip(dy).for_each(|(scaled, g)| *scaled = share * g);
            } else {
                let both = dy.iter().zip(factors);
                scaled.iter_mut().zip(both).for_each(|(scaled, (g, factor))| *scaled = share * factor * g);
            }
            for row in bag.iter().map(|&row| row as usize).filter(|row| rows.contains(row)) {
                let dw = &mut self.dw[(row - rows.start) * width..][..width];
                dw.iter_mut().zip(&scaled).for_each(|(dw, g)| *dw += g);
            }
        }
    }
}
