//! What is projected of the states of a text's tokens, and its maximum over the text.
//!
//! ```text
//! z[t] = W [h[t] | x[t]] + b        W [R, S + E]
//! y    = max_t tanh(z[t])  =  tanh(max_t z[t])        [B, R]
//! ```
//!
//! A token is told by the states on both sides and by itself, and of a text the strongest of each kind counts (Lai et al. 2015,
//! "Recurrent convolutional neural networks for text classification").
//!
//! The gradient of y reaches one token of a text for each of the R numbers, the first that reached the maximum. So the way
//! back takes B R rows of W and of the tokens, where products over all tokens would take N R.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    activation::tanh,
    buffer::Buffer,
    lanes::{Kernel, Lanes, dispatch},
    panels::{PANEL, Panels},
    product::{Start, add_rows_product, pays, product_here},
    sparse::add_rows,
};
use crate::text::Packing;

/// Of the R numbers, those whose gradients of W a thread sums at a time, and tokens, for those of h and x.
const UNITS: usize = 16;
const TOKENS: usize = 32;

/// The weights of a projection, or their gradients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectionWeights<T> {
    /// W, `[R, S + E]`.
    pub weight: T,
    /// b, `[R]`.
    pub bias: T,
}

/// Projects the tokens of a batch: states h, `[N, S]`, and token embeddings x, `[N, E]`, both packed.
#[derive(Debug, Clone, Copy)]
pub struct Projection<'a> {
    /// W and b.
    pub weights: ProjectionWeights<&'a [f32]>,
    /// The texts.
    pub packing: &'a Packing,
    /// S.
    pub states: usize,
}

/// Where numbers stand in the rows of a matrix, one row a text, in the order of the batch as given.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Numbers of a row.
    pub columns: usize,
    /// Before them in the row.
    pub first: usize,
}

/// The step of each maximum, in panels of 32 of the R numbers, by rank: `[ceil(R / 32), B, 32]`.
#[derive(Debug)]
pub struct Strongest(Vec<u32>);

impl Projection<'_> {
    /// R.
    fn count(&self) -> usize {
        self.weights.bias.len()
    }

    /// S + E.
    fn width(&self) -> usize {
        self.weights.weight.len() / self.count()
    }

    /// Writes y to its place, and returns which step was the strongest.
    ///
    /// # Panics
    /// If h, x, the weights and the texts do not fit one another.
    pub fn forward(&self, h: &[f32], x: &[f32], y: &mut [f32], place: Place) -> Strongest {
        let (tokens, width) = (self.packing.tokens(), self.width());
        let (states, embedding) = (self.states, width - self.states);
        let left = [(h, states), (x, embedding)].map(|(side, width)| {
            assert_eq!(side.len(), tokens * width, "the weights are for such states and embeddings");
            Panels::of_rows(tokens, width, |row| &side[row * width..][..width])
        });
        let right = sides(self.weights.weight, states, self.count());
        let factors = [(&left[0], &right[0]), (&left[1], &right[1])];
        let start = |_: &mut [f32], _| Start::Row(self.weights.bias);
        let spread = pays(tokens * width * self.count());
        Strongest(maxima(self.packing, &factors, start, spread, y, place))
    }

    /// From the gradient of y, which stands where y does, that of the weights. Those of h and of x are added to what they are.
    pub fn backward(
        &self,
        strongest: &Strongest,
        (h, x): (&[f32], &[f32]),
        (y, dy): (&[f32], &[f32]),
        place: Place,
        (dh, dx): (&mut [f32], &mut [f32]),
    ) -> ProjectionWeights<Buffer> {
        let Self { weights, packing, states } = *self;
        let (count, width) = (self.count(), self.width());
        let reached = Reached::new(packing, strongest, (y, dy), place, count);
        let spread = pays(2 * reached.by_unit.len() * width);

        let (mut weight, mut bias) = (Buffer::zeros(count * width), Buffer::stale(count));
        let units = |(block, (weight, bias)): (usize, (&mut [f32], &mut [f32]))| {
            let rows = weight.chunks_exact_mut(width).zip(bias);
            for (unit, (row, bias)) in (block * UNITS..).zip(rows) {
                let terms = reached.of_unit(unit);
                let (of_states, of_embeddings) = row.split_at_mut(states);
                add_rows(terms, h, of_states);
                add_rows(terms, x, of_embeddings);
                *bias = terms.iter().map(|(_, dz)| dz).sum();
            }
        };
        let tokens = |(block, (dh, dx)): (usize, (&mut [f32], &mut [f32]))| {
            let mut sums = vec![0.0; width];
            let rows = dh.chunks_exact_mut(states).zip(dx.chunks_exact_mut(width - states));
            for (token, (dh, dx)) in (block * TOKENS..).zip(rows) {
                let terms = reached.of_token(token);
                if !terms.is_empty() {
                    sums.fill(0.0);
                    add_rows(terms, weights.weight, &mut sums);
                    let (of_h, of_x) = sums.split_at(states);
                    dh.iter_mut().zip(of_h).for_each(|(dh, g)| *dh += g);
                    dx.iter_mut().zip(of_x).for_each(|(dx, g)| *dx += g);
                }
            }
        };
        if spread {
            let of_units = weight.par_chunks_mut(UNITS * width).zip(bias.par_chunks_mut(UNITS));
            let dx = dx.par_chunks_mut(TOKENS * (width - states));
            let of_tokens = dh.par_chunks_mut(TOKENS * states).zip(dx);
            rayon::join(|| of_units.enumerate().for_each(units), || of_tokens.enumerate().for_each(tokens));
        } else {
            units((0, (&mut weight, &mut bias)));
            tokens((0, (dh, dx)));
        }
        ProjectionWeights { weight, bias }
    }
}

/// W as products want it: its part for the states, `[S, R]`, and that for the embeddings, `[E, R]`.
fn sides(weight: &[f32], states: usize, count: usize) -> [Panels; 2] {
    let width = weight.len() / count;
    let row = |at: usize| weight[at * width..][..width].split_at(states);
    [
        Panels::of_columns(states, count, |at| row(at).0),
        Panels::of_columns(width - states, count, |at| row(at).1),
    ]
}

/// Writes y to its place: the tangents of the maxima of what a panel of z starts from and the products of the factors. Returns
/// the steps of the maxima, as [`Strongest`] has them.
fn maxima<'a>(
    packing: &Packing,
    factors: &[(&Panels, &Panels)],
    start: impl Fn(&mut [f32], usize) -> Start<'a> + Sync,
    spread: bool,
    y: &mut [f32],
    place: Place,
) -> Vec<u32> {
    let (tokens, texts) = (packing.tokens(), packing.texts());
    let (count, panels) = factors.first().map_or((0, 0), |(_, right)| (right.columns(), right.count()));
    let mut steps = vec![0; panels * texts * PANEL];
    let mut tops = Buffer::stale(panels * texts * PANEL);
    let panel = |(panel, (tops, steps)): (usize, (&mut [f32], &mut [u32]))| {
        let mut z = Buffer::stale(tokens * PANEL);
        let mut start = start(&mut z, panel);
        for (left, right) in factors {
            add_rows_product(left, 0..tokens, right, panel..panel + 1, start, &mut z, tokens * PANEL);
            start = Start::Sums;
        }
        dispatch(Maximum { packing, z: &z, tops, steps });
    };
    // A chunk cannot be empty, while a batch can.
    let width = texts.max(1) * PANEL;
    if spread {
        tops.par_chunks_exact_mut(width).zip(steps.par_chunks_exact_mut(width)).enumerate().for_each(panel);
    } else {
        tops.chunks_exact_mut(width).zip(steps.chunks_exact_mut(width)).enumerate().for_each(panel);
    }
    for (panel, tops) in tops.chunks_exact(width).enumerate() {
        let here = panel * PANEL..count.min((panel + 1) * PANEL);
        for (&text, tops) in packing.order.iter().zip(tops.chunks_exact(PANEL)) {
            let y = &mut y[text * place.columns + place.first..][here.clone()];
            y.copy_from_slice(&tops[..y.len()]);
        }
    }
    steps
}

/// A projection that answers: what a token's embedding adds to z is the same in every text, so it is computed apart
/// ([`ProjectionReader::tokens`]). All of it runs on the caller's thread.
#[derive(Debug, Clone)]
pub struct ProjectionReader {
    /// `[S, R]`
    states: Arc<Panels>,
    /// `[E, R]`
    embeddings: Arc<Panels>,
    bias: Vec<f32>,
}

impl ProjectionReader {
    /// From weights for states of S numbers.
    ///
    /// # Panics
    /// If the weights do not fit one another and the states.
    pub fn new(weights: ProjectionWeights<&[f32]>, states: usize) -> Self {
        let [states, embeddings] = sides(weights.weight, states, weights.bias.len()).map(Arc::new);
        Self { states, embeddings, bias: weights.bias.to_vec() }
    }

    /// R: numbers that a token is before it is read.
    pub fn columns(&self) -> usize {
        self.bias.len()
    }

    /// What tokens `[m, E]` add to z, b among it: `[m, R]`. A token's is the same to the bit alone and among others.
    pub fn tokens(&self, embeddings: &[f32]) -> Vec<f32> {
        let (embedding, count) = (self.embeddings.rows(), self.columns());
        let rows = embeddings.len() / embedding;
        let left = Panels::of_rows(rows, embedding, |row| &embeddings[row * embedding..][..embedding]);
        let mut tokens = vec![0.0; rows * count];
        product_here(&left, &self.embeddings, &self.bias, &mut tokens);
        tokens
    }

    /// Writes y to its place, from states h, `[N, S]`, and what each packed token adds, a row of [`ProjectionReader::tokens`].
    pub fn forward<'a>(
        &self,
        packing: &Packing,
        h: &[f32],
        token: impl Fn(usize) -> &'a [f32] + Sync,
        y: &mut [f32],
        place: Place,
    ) {
        let states = self.states.rows();
        let left = Panels::of_rows(packing.tokens(), states, |row| &h[row * states..][..states]);
        let start = |z: &mut [f32], panel: usize| {
            for (row, z) in z.chunks_exact_mut(PANEL).enumerate() {
                let token = &token(row)[panel * PANEL..];
                let token = &token[..token.len().min(PANEL)];
                z[..token.len()].copy_from_slice(token);
                z[token.len()..].fill(0.0);
            }
            Start::Sums
        };
        maxima(packing, &[(&left, &*self.states)], start, false, y, place);
    }
}

/// The maxima of 32 numbers of all texts, `[B, 32]` by rank, and their steps.
struct Maximum<'a> {
    packing: &'a Packing,
    z: &'a [f32],
    tops: &'a mut [f32],
    steps: &'a mut [u32],
}

impl Kernel for Maximum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { packing, z, tops, steps } = self;
        let texts = tops.chunks_exact_mut(PANEL).zip(steps.chunks_exact_mut(PANEL));
        for ((rank, &length), (tops, steps)) in packing.lengths.iter().enumerate().zip(texts) {
            let (mut top, mut at) = ([f32::NEG_INFINITY; PANEL], [0u32; PANEL]);
            for (step, start) in (0..).zip(&packing.starts[..length]) {
                let z = &z[(start + rank) * PANEL..][..PANEL];
                for ((top, at), &z) in top.iter_mut().zip(&mut at).zip(z) {
                    (*top, *at) = if z > *top { (z, step) } else { (*top, *at) };
                }
            }
            for (to, top) in tops.chunks_exact_mut(L::WIDTH).zip(top.chunks_exact(L::WIDTH)) {
                tanh(L::load(top)).store(to);
            }
            steps.copy_from_slice(&at);
        }
    }
}

/// The gradient of z, which is zero but for the strongest token of each text for each of the R numbers, or units.
struct Reached {
    /// Tokens with their gradients, unit after unit; and where each unit's begin.
    by_unit: Vec<(u32, f32)>,
    units: Vec<usize>,
    /// Units with their gradients, token after token; and where each token's begin.
    by_token: Vec<(u32, f32)>,
    tokens: Vec<usize>,
}

impl Reached {
    fn new(
        packing: &Packing,
        strongest: &Strongest,
        (y, dy): (&[f32], &[f32]),
        place: Place,
        count: usize,
    ) -> Self {
        let (mut by_unit, mut units) = (Vec::with_capacity(packing.texts() * count), vec![0]);
        let mut tokens = vec![0; packing.tokens() + 1];
        for unit in 0..count {
            for (rank, &text) in packing.order.iter().enumerate() {
                let step = strongest.0[(unit / PANEL * packing.texts() + rank) * PANEL + unit % PANEL];
                let at = text * place.columns + place.first + unit;
                let dz = dy[at] * (1.0 - y[at] * y[at]);
                // What the head does not see has none.
                if dz != 0.0 {
                    let token = packing.starts[step as usize] + rank;
                    by_unit.push((token as u32, dz));
                    tokens[token + 1] += 1;
                }
            }
            units.push(by_unit.len());
        }
        for token in 1..tokens.len() {
            tokens[token] += tokens[token - 1];
        }
        let (mut by_token, mut next) = (vec![(0, 0.0); by_unit.len()], tokens.clone());
        for (unit, within) in (0..).zip(units.windows(2)) {
            for &(token, dz) in &by_unit[within[0]..within[1]] {
                let next = &mut next[token as usize];
                by_token[*next] = (unit, dz);
                *next += 1;
            }
        }
        Self { by_unit, units, by_token, tokens }
    }

    fn of_unit(&self, unit: usize) -> &[(u32, f32)] {
        &self.by_unit[self.units[unit]..self.units[unit + 1]]
    }

    fn of_token(&self, token: usize) -> &[(u32, f32)] {
        &self.by_token[self.tokens[token]..self.tokens[token + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(phase: f32, len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.7 + phase).sin()).collect()
    }

    /// y and all gradients, from dy = 1, 2, 3, ..., of texts of 3, 1 and 2 tokens.
    fn projected(h: &[f32], x: &[f32], weights: ProjectionWeights<&[f32]>) -> [Vec<f32>; 5] {
        let (packing, states) = (Packing::new(&[3, 1, 2]), h.len() / 6);
        let projection = Projection { weights, packing: &packing, states };
        let count = weights.bias.len();
        let place = Place { columns: count + 2, first: 1 };
        let mut y = vec![0.5; 3 * place.columns];
        let trace = projection.forward(h, x, &mut y, place);
        let dy: Vec<f32> = (0..y.len()).map(|at| at as f32).collect();
        let (mut dh, mut dx) = (vec![0.0; h.len()], vec![0.0; x.len()]);
        let found = projection.backward(&trace, (h, x), (&y, &dy), place, (&mut dh, &mut dx));
        [y, dh, dx, found.weight.to_vec(), found.bias.to_vec()]
    }

    #[test]
    fn the_strongest_token_counts_and_alone_gets_the_gradient() {
        // One state, no more than an embedding of one number, and z = h + 2 x - 1.
        let weights = ProjectionWeights { weight: &[1.0, 2.0][..], bias: &[-1.0] };
        // Rows: the first tokens of the texts of 3, 2 and 1, the second ones of two of these, and the third.
        let (h, x) = ([0.0, 1.0, 0.5, 0.2, 1.0, 0.2], [0.0, 0.0, 0.25, 0.9, 0.0, 0.9]);
        let [y, dh, dx, weight, bias] = projected(&h, &x, weights);
        // Texts as given: 0.2 + 1.8 - 1 at its second and third token, then 0.5 + 0.5 - 1, then 1 - 1 twice.
        let expected = [0.5, 1.0f32.tanh(), 0.5, 0.5, 0.0, 0.5, 0.5, 0.0, 0.5];
        assert!(y.iter().zip(expected).all(|(y, expected)| (y - expected).abs() < 1e-6), "{y:?}");
        let slope = 1.0 - 1.0f32.tanh().powi(2);
        let near = |found: &[f32], expected: &[f32]| {
            assert!(found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-5), "{found:?}, {expected:?}");
        };
        near(&dh, &[0.0, 7.0, 4.0, slope, 0.0, 0.0]);
        near(&dx, &[0.0, 14.0, 8.0, 2.0 * slope, 0.0, 0.0]);
        near(&weight, &[0.2 * slope + 4.0 * 0.5 + 7.0, 0.9 * slope + 4.0 * 0.25]);
        near(&bias, &[slope + 11.0]);
    }

    #[test]
    fn what_answers_agrees_with_what_learns() {
        let (states, embedding, count) = (21, 13, 37);
        let packing = Packing::new(&[3, 7, 1, 7, 5]);
        let (h, x) = (wave(0.0, 23 * states), wave(1.0, 23 * embedding));
        let (weight, bias) = (wave(2.0, count * (states + embedding)), wave(3.0, count));
        let weights = ProjectionWeights { weight: &*weight, bias: &*bias };
        let place = Place { columns: count + 3, first: 2 };
        let (mut expected, mut found) = (vec![0.0; 5 * place.columns], vec![0.0; 5 * place.columns]);
        Projection { weights, packing: &packing, states }.forward(&h, &x, &mut expected, place);
        let reader = ProjectionReader::new(weights, states);
        let tokens = reader.tokens(&x);
        reader.forward(&packing, &h, |row| &tokens[row * count..][..count], &mut found, place);
        assert!(expected.iter().zip(&found).all(|(x, y)| (x - y).abs() < 1e-5), "{expected:?}, {found:?}");
    }

    #[test]
    fn no_texts_have_no_maxima() {
        let packing = Packing::new(&[]);
        let (weight, bias) = (wave(0.0, 40 * 5), wave(1.0, 40));
        let weights = ProjectionWeights { weight: &*weight, bias: &*bias };
        let place = Place { columns: 40, first: 0 };
        let projection = Projection { weights, packing: &packing, states: 3 };
        let strongest = projection.forward(&[], &[], &mut [], place);
        let nothing = (&mut [][..], &mut [][..]);
        let found = projection.backward(&strongest, (&[], &[]), (&[], &[]), place, nothing);
        assert!(found.weight.iter().chain(&*found.bias).all(|&g| g == 0.0));
        let reader = ProjectionReader::new(weights, 3);
        reader.forward(&packing, &[], |_| unreachable!("there is no token"), &mut [], place);
    }

    #[test]
    fn the_gradients_add_to_what_is_there_and_are_the_same_on_many_threads() {
        let (states, embedding, count) = (150, 90, 130);
        let (h, x) = (wave(0.0, 6 * states), wave(1.0, 6 * embedding));
        let (weight, bias) = (wave(2.0, count * (states + embedding)), wave(3.0, count));
        let weights = ProjectionWeights { weight: &*weight, bias: &*bias };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| projected(&h, &x, weights))
        };
        let one = on(1);
        assert!(one == on(3));

        let packing = Packing::new(&[3, 1, 2]);
        let projection = Projection { weights, packing: &packing, states };
        let place = Place { columns: count + 2, first: 1 };
        let mut y = vec![0.0; 3 * place.columns];
        let trace = projection.forward(&h, &x, &mut y, place);
        let dy: Vec<f32> = (0..y.len()).map(|at| at as f32).collect();
        let (mut dh, mut dx) = (vec![1.0; h.len()], vec![2.0; x.len()]);
        projection.backward(&trace, (&h, &x), (&y, &dy), place, (&mut dh, &mut dx));
        let added = |found: &[f32], was: f32, alone: &[f32]| {
            found.iter().zip(alone).all(|(found, alone)| *found == was + alone)
        };
        assert!(added(&dh, 1.0, &one[1]) && added(&dx, 2.0, &one[2]));
    }
}
