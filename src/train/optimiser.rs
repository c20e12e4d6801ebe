//! AdamW (Loshchilov and Hutter 2019), in one pass over plain slices.
//!
//! ```text
//! m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
//! x = x - rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay x)
//! ```
//!
//! Of an embedding only the rows that a batch touches have a gradient; only these are updated, and their moments wait
//! until they are touched again ("lazy" Adam). The cost of a step then does not grow with the vocabulary.

use rayon::prelude::*;

use crate::model::kernels::{AdamW, prefetch};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-8;

/// Numbers that a thread updates at a time.
const BLOCK: usize = 1 << 14;

/// Rows of a table that are asked for ahead: those of a large one lie in no cache, each in another place.
const AHEAD: usize = 4;

/// One update of all parameters.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    step: AdamW,
    rate: f32,
}

/// Running means of the gradient and of its square, as long as the parameter.
#[derive(Debug, Clone)]
pub struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    /// For a parameter of so many numbers.
    pub fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }

    /// Forgets.
    pub(super) fn clear(&mut self) {
        self.first.fill(0.0);
        self.second.fill(0.0);
    }
}

impl Update {
    /// The update of a step, counted from 1, at a rate, with all gradients scaled (by the clipping).
    pub fn new(step: usize, rate: f64, gradient_scale: f64) -> Self {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        let step = AdamW {
            beta1: BETA1,
            beta2: BETA2,
            epsilon: EPSILON,
            gradient_scale: gradient_scale as f32,
            rate: (rate / correction(BETA1)) as f32,
            root: correction(BETA2).sqrt().recip() as f32,
            shrink: 1.0,
        };
        Self { step, rate: rate as f32 }
    }

    /// The numbers of the update of a parameter that shrinks by `decay` times the rate.
    pub fn rule(&self, decay: f32) -> AdamW {
        AdamW { shrink: 1.0 - self.rate * decay, ..self.step }
    }

    /// Updates a parameter that shrinks by `decay` times the rate.
    pub fn dense(&self, values: &mut [f32], gradient: &[f32], moments: &mut Moments, decay: f32) {
        let step = self.rule(decay);
        let means = moments.first.par_chunks_mut(BLOCK).zip(moments.second.par_chunks_mut(BLOCK));
        let blocks = values.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK)).zip(means);
        blocks.for_each(|((values, gradient), (first, second))| step.update(values, gradient, first, second));
    }

    /// Updates the named rows of a table `[V, width]`, ascending; `gradient` holds these rows only.
    pub fn rows(
        &self,
        table: &mut [f32],
        width: usize,
        rows: &[u32],
        gradient: &[f32],
        moments: &mut Moments,
    ) {
        let part = TablePart {
            first_row: 0,
            table,
            first: &mut moments.first,
            second: &mut moments.second,
            rows,
            gradient,
        };
        part.update(&self.step, width);
    }
}

/// Some rows of a table, and those of them that have a gradient.
struct TablePart<'a> {
    first_row: usize,
    table: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    rows: &'a [u32],
    gradient: &'a [f32],
}

impl TablePart<'_> {
    /// Updates its rows, halves on two threads while they are large.
    fn update(mut self, step: &AdamW, width: usize) {
        if self.gradient.len() > BLOCK && self.rows.len() > 1 && rayon::current_num_threads() > 1 {
            let (left, right) = self.halves(width);
            rayon::join(|| left.update(step, width), || right.update(step, width));
            return;
        }
        let first_row = self.first_row;
        let place = |row: u32| (row as usize - first_row) * width..(row as usize - first_row + 1) * width;
        for (index, (&row, gradient)) in self.rows.iter().zip(self.gradient.chunks_exact(width)).enumerate() {
            if let Some(&row) = self.rows.get(index + AHEAD) {
                for of in [&*self.table, &*self.first, &*self.second] {
                    prefetch(&of[place(row)]);
                }
            }
            let at = place(row);
            let (first, second) = (&mut self.first[at.clone()], &mut self.second[at.clone()]);
            step.update(&mut self.table[at], gradient, first, second);
        }
    }

    fn halves(&mut self, width: usize) -> (TablePart<'_>, TablePart<'_>) {
        let (rows, gradients) = (self.rows, self.gradient);
        let (low_rows, high_rows) = rows.split_at(rows.len() / 2);
        let (low_gradient, high_gradient) = gradients.split_at(low_rows.len() * width);
        let middle = high_rows[0] as usize;
        let at = (middle - self.first_row) * width;
        let (low, high) = self.table.split_at_mut(at);
        let (low_first, high_first) = self.first.split_at_mut(at);
        let (low_second, high_second) = self.second.split_at_mut(at);
        (
            TablePart {
                first_row: self.first_row,
                table: low,
                first: low_first,
                second: low_second,
                rows: low_rows,
                gradient: low_gradient,
            },
            TablePart {
                first_row: middle,
                table: high,
                first: high_first,
                second: high_second,
                rows: high_rows,
                gradient: high_gradient,
            },
        )
    }
}

/// The sum of squares.
pub(super) fn square_norm(numbers: &[f32]) -> f64 {
    // Sixteen sums that the compiler keeps in registers; f32 within a chunk is fast, f64 over all is exact enough for
    // millions of numbers.
    let chunk = |chunk: &[f32]| {
        let mut sums = [0.0f32; 16];
        for part in chunk.chunks(16) {
            sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x * x);
        }
        f64::from(sums.iter().sum::<f32>())
    };
    numbers.chunks(1024).map(chunk).sum()
}

/// The one-cycle rate before a step, counted from 0: up to the peak as a line, then down to 0 as a cosine.
pub(super) fn one_cycle(step: usize, steps: usize, peak: f64, warmup: f64) -> f64 {
    let climb = (warmup * steps as f64).max(1.0);
    let (done, steps) = (step as f64, steps as f64);
    if done < climb {
        peak * (done + 1.0) / climb.max(done + 1.0)
    } else {
        let fall = (done - climb) / (steps - climb).max(1.0);
        peak * 0.5 * (1.0 + (std::f64::consts::PI * fall).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_those_of_pytorch() {
        // import torch
        // x = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        // o = torch.optim.AdamW([x], lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.01)
        // for g in [[0.3, -0.2, 0.0], [-0.1, 0.4, 1e-3]]:
        //     x.grad = torch.tensor(g); o.step()
        // print(x.tolist())
        const EXPECTED: [f32; 3] = [0.8580065, -1.932663, 0.4247556];
        let mut x = [1.0, -2.0, 0.5];
        let mut moments = Moments::new(3);
        for (step, gradient) in [(1, [0.3, -0.2, 0.0]), (2, [-0.1, 0.4, 1e-3])] {
            Update::new(step, 0.1, 1.0).dense(&mut x, &gradient, &mut moments, 0.01);
        }
        for (x, expected) in x.iter().zip(EXPECTED) {
            assert!((x - expected).abs() < 1e-6, "{x}, expected {expected}");
        }
    }

    #[test]
    fn only_touched_rows_move_and_as_if_they_were_dense() {
        let mut table = vec![1.0; 8];
        let mut moments = Moments::new(8);
        Update::new(1, 0.1, 0.5).rows(&mut table, 2, &[1, 3], &[0.2, 0.4, -0.2, 0.0], &mut moments);
        let mut dense = vec![1.0; 4];
        Update::new(1, 0.1, 0.5).dense(&mut dense, &[0.2, 0.4, -0.2, 0.0], &mut Moments::new(4), 0.0);
        assert_eq!(table, [1.0, 1.0, dense[0], dense[1], 1.0, 1.0, dense[2], dense[3]]);
        assert!(dense[0] < 1.0 && dense[2] > 1.0);
    }

    #[test]
    fn rows_shared_among_threads_are_updated_as_by_one() {
        let (width, rows) = (128, (0..900).map(|row| row * 3 + 1).collect::<Vec<u32>>());
        let gradient: Vec<f32> = (0..rows.len() * width).map(|i| (i as f32 * 0.37).sin()).collect();
        let update = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut table = vec![1.0; 3000 * width];
            let mut moments = Moments::new(table.len());
            let update = Update::new(3, 0.1, 0.5);
            pool.install(|| update.rows(&mut table, width, &rows, &gradient, &mut moments));
            (table, moments.first, moments.second)
        };
        let one = update(1);
        assert_eq!(one, update(3));
        for (row, values) in one.0.chunks(width).enumerate() {
            assert_eq!(values.iter().any(|&x| x != 1.0), rows.contains(&(row as u32)));
        }
    }

    #[test]
    fn the_rate_climbs_then_falls_to_nothing() {
        let rates: Vec<f64> = (0..100).map(|step| one_cycle(step, 100, 2.0, 0.1)).collect();
        assert!((rates[0] - 0.2).abs() < 1e-9 && (rates[9] - 2.0).abs() < 1e-9);
        assert!(rates[..10].is_sorted() && rates[10..].is_sorted_by(|a, b| a >= b));
        assert!(rates[99] < 1e-2);
        assert!(one_cycle(0, 1, 2.0, 0.1) > 0.0);
    }

    #[test]
    fn norms_of_many_numbers_are_exact_enough() {
        let numbers = vec![0.1f32; 1_000_000];
        assert!((square_norm(&numbers) - 10_000.0).abs() < 0.1);
    }
}
