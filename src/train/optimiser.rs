//! AdamW (Loshchilov and Hutter 2019), in one pass over plain slices.
//!
//! ```text
//! m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
//! x = x - rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay x)
//! ```
//!
//! Of an embedding only the rows that a batch touches have a gradient; only these are updated, and their moments wait
//! until they are touched again ("lazy" Adam). The cost of a step then does not grow with the vocabulary.

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-8;

/// One update of all parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    rate: f32,
    gradient_scale: f32,
    correction1: f32,
    correction2: f32,
}

/// Running means of the gradient and of its square, as long as the parameter.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    /// For a parameter of so many numbers.
    pub(super) fn new(len: usize) -> Self {
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
    pub(super) fn new(step: usize, rate: f64, gradient_scale: f64) -> Self {
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
        Self {
            rate: rate as f32,
            gradient_scale: gradient_scale as f32,
            correction1: correction(BETA1),
            correction2: correction(BETA2),
        }
    }

    /// Updates a parameter that shrinks by `decay` times the rate.
    pub(super) fn dense(&self, values: &mut [f32], gradient: &[f32], moments: &mut Moments, decay: f32) {
        self.apply(values, gradient, &mut moments.first, &mut moments.second, decay);
    }

    /// Updates the named rows of a table `[V, width]`; `gradient` holds these rows only.
    pub(super) fn rows(
        &self,
        table: &mut [f32],
        width: usize,
        rows: &[u32],
        gradient: &[f32],
        moments: &mut Moments,
    ) {
        for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(width)) {
            let at = row as usize * width..(row as usize + 1) * width;
            let (first, second) = (&mut moments.first[at.clone()], &mut moments.second[at.clone()]);
            self.apply(&mut table[at], gradient, first, second, 0.0);
        }
    }

    fn apply(&self, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], decay: f32) {
        let shrink = 1.0 - self.rate * decay;
        let (rate, root) = (self.rate / self.correction1, self.correction2.sqrt().recip());
        for (((x, &g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * self.gradient_scale;
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            *x = shrink * *x - rate * *m / (v.sqrt() * root + EPSILON);
        }
    }
}

/// The sum of squares.
pub(super) fn square_norm(numbers: &[f32]) -> f64 {
    // Chunks in f32 are fast, their sum in f64 is exact enough for millions of numbers.
    numbers.chunks(256).map(|chunk| f64::from(chunk.iter().map(|x| x * x).sum::<f32>())).sum()
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
