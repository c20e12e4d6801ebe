//! The mean of some rows of an embedding, for each token.
//!
//! ```text
//! y[i] = mask[i] / |bag i| * sum of W[r] over r in bag i        W [R, E]   y [N, E]
//! dW[r] = sum of mask[i] dy[i] / |bag i| over the bags i that hold r
//! ```
//!
//! W is either the whole table or only the rows that a batch touches, in which case no work depends on the size of the
//! vocabulary. Sums run in the order of the bag and of the tokens, whichever thread does them.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::{
    buffer::Buffer,
    lanes::{Kernel, Lanes, dispatch, prefetch},
    product::pays,
};
use crate::text::{Bags, Packing};

/// Tokens that a thread takes at a time.
const BLOCK_TOKENS: usize = 64;

/// Rows of the table that are asked for ahead: those of a large one lie in no cache, each in another place.
const AHEAD: usize = 8;

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

    /// A factor for each column of the text of each rank, `[B, E]`.
    pub fn columns(&self) -> &[f32] {
        &self.columns
    }

    /// For each token the rank of its text, or none where it is hidden, `[N]`.
    pub fn ranks(&self) -> &[Option<u32>] {
        &self.ranks
    }

    /// The factors of a token; none if it is hidden.
    pub fn factors(&self, token: usize, width: usize) -> Option<&[f32]> {
        let rank = self.ranks[token]? as usize;
        Some(&self.columns[rank * width..][..width])
    }
}

/// The tokens `[N, E]` of bags over the rows of `weight`, `[R, E]`, multiplied with a mask if there is one.
///
/// # Panics
/// If a bag names a row that is not there.
pub fn bag_forward(weight: &[f32], width: usize, bags: &Bags, mask: Option<&TokenMask>) -> Buffer {
    let tokens = MaskedBags { bags, mask, width };
    let mut y = Buffer::stale(tokens.count() * width);
    let gather = |(block, y): (usize, &mut [f32])| {
        dispatch(Gather { tokens, first: block * BLOCK_TOKENS, weight, y });
    };
    if pays(bags.rows.len() * width) {
        y.par_chunks_mut(BLOCK_TOKENS * width).enumerate().for_each(gather);
    } else {
        y.chunks_mut(BLOCK_TOKENS * width).enumerate().for_each(gather);
    }
    y
}

/// The gradient `[R, E]` of the rows from that of the tokens, `[N, E]`.
///
/// # Panics
/// If a bag names a row that is not there.
pub fn bag_backward(dy: &[f32], width: usize, rows: usize, bags: &Bags, mask: Option<&TokenMask>) -> Buffer {
    assert!(bags.rows.iter().all(|&row| (row as usize) < rows), "bags name rows that are there");
    let tokens = MaskedBags { bags, mask, width };
    let mut dw = Buffer::zeros(rows * width);
    let threads = if pays(bags.rows.len() * width) { rayon::current_num_threads() } else { 1 };
    let block = rows.div_ceil(threads).max(1);
    let scatter = |(index, dw): (usize, &mut [f32])| {
        dispatch(Scatter { tokens, first: index * block, dy, dw });
    };
    if threads > 1 {
        dw.par_chunks_mut(block * width).enumerate().for_each(scatter);
    } else {
        dw.chunks_mut(block * width).enumerate().for_each(scatter);
    }
    dw
}

/// The tokens `[N, E]` of bags over the rows of a table, `[R, E]`, made on the caller's thread.
///
/// # Errors
/// If a bag names a row that is not there.
pub fn embedding_bag(table: &[f32], width: usize, bags: &Bags) -> Result<Vec<f32>> {
    let rows = table.len() / width;
    if let Some(row) = bags.rows.iter().find(|&&row| row as usize >= rows) {
        bail!("a bag names row {row} of an embedding of {rows} rows");
    }
    let mut y = vec![0.0; (bags.offsets.len() - 1) * width];
    dispatch(Gather { tokens: MaskedBags { bags, mask: None, width }, first: 0, weight: table, y: &mut y });
    Ok(y)
}

#[derive(Clone, Copy)]
struct MaskedBags<'a> {
    bags: &'a Bags,
    mask: Option<&'a TokenMask>,
    width: usize,
}

impl<'a> MaskedBags<'a> {
    fn count(&self) -> usize {
        self.bags.offsets.len() - 1
    }

    #[inline(always)]
    fn bag(&self, token: usize) -> &'a [u32] {
        self.bags.bag(token)
    }

    /// The factors of a token: none if it is hidden, an empty list if all are 1.
    #[inline(always)]
    fn factors(&self, token: usize) -> Option<&'a [f32]> {
        self.mask.map_or(Some(&[]), |mask| mask.factors(token, self.width))
    }
}

/// Makes tokens from `first` on.
struct Gather<'a> {
    tokens: MaskedBags<'a>,
    first: usize,
    weight: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.tokens.width;
        for (token, y) in (self.first..).zip(self.y.chunks_exact_mut(width)) {
            y.fill(0.0);
            let Some(factors) = self.tokens.factors(token) else { continue };
            let bag = self.tokens.bag(token);
            let ahead = &self.tokens.bags.rows[self.tokens.bags.offsets[token] as usize..];
            for (at, &row) in bag.iter().enumerate() {
                if let Some(&row) = ahead.get(at + AHEAD) {
                    prefetch(&self.weight[row as usize * width..][..width]);
                }
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
    tokens: MaskedBags<'a>,
    first: usize,
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.tokens.width;
        let rows = self.first..self.first + self.dw.len() / width;
        let mut scaled = vec![0.0; width];
        for (token, dy) in self.dy.chunks_exact(width).enumerate() {
            let Some(factors) = self.tokens.factors(token) else { continue };
            let bag = self.tokens.bag(token);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bags over 40 rows, many of them in several.
    fn bags() -> Bags {
        let rows = (0..600).map(|i| i * 7 % 40).collect();
        Bags { rows, offsets: (0..=200).map(|token| token * 3).collect() }
    }

    #[test]
    fn results_do_not_depend_on_the_threads_and_undo_each_other() {
        const WIDTH: usize = 2000;
        let numbers = |count: usize| (0..count).map(|i| (i as f32 * 0.3).sin()).collect::<Vec<f32>>();
        let (bags, weight, dy) = (bags(), numbers(40 * WIDTH), numbers(200 * WIDTH));
        let both = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let y = bag_forward(&weight, WIDTH, &bags, None);
                (y, bag_backward(&dy, WIDTH, 40, &bags, None))
            })
        };
        let one = both(1);
        let (y, dw) = &one;
        assert!(both(3) == one, "three threads give other results than one");
        // The map is linear, so both ways give the same inner product.
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        assert!((dot(y, &dy) - dot(&weight, dw)).abs() < 0.1, "{} {}", dot(y, &dy), dot(&weight, dw));
    }

    #[test]
    fn an_answer_has_the_tokens_that_learning_has_and_no_row_is_made_up() {
        let table: Vec<f32> = (0..40 * 3).map(|i| (i as f32 * 0.3).sin()).collect();
        assert_eq!(embedding_bag(&table, 3, &bags()).unwrap(), *bag_forward(&table, 3, &bags(), None));
        let error = embedding_bag(&table[..39 * 3], 3, &bags()).unwrap_err().to_string();
        assert!(error.contains("row 39 of an embedding of 39 rows"), "{error}");
    }
}
