//! A sparse vector and the rows of a table that it names: their weighted sum, and the step back along its gradient.
//!
//! ```text
//! y[C]       += sum over the terms of weight * table[row]        table [U, C]
//! table[row] -= step * g[C]                                      for each term
//! ```

use super::lanes::{Kernel, Lanes, dispatch};

/// Adds the rows of a table, each times its weight, to `sums`, which is as wide as a row.
///
/// # Panics
/// If the table has no such row.
pub fn add_rows(terms: &[(u32, f32)], table: &[f32], sums: &mut [f32]) {
    dispatch(AddRows { terms, table, sums });
}

struct AddRows<'a> {
    terms: &'a [(u32, f32)],
    table: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.sums.len();
        let mut first = 0;
        while first < width {
            let lanes = (width - first) / L::WIDTH;
            first += L::WIDTH
                * match lanes {
                    4.. => block::<L, 4>(self.terms, self.table, width, first, self.sums),
                    2..4 => block::<L, 2>(self.terms, self.table, width, first, self.sums),
                    _ => block::<L, 1>(self.terms, self.table, width, first, self.sums),
                };
        }
    }
}

/// The columns of N lanes from `first` on; the last lanes of a row may be fewer than [`Lanes::WIDTH`]. Returns N.
#[inline(always)]
fn block<L: Lanes, const N: usize>(
    terms: &[(u32, f32)],
    table: &[f32],
    width: usize,
    first: usize,
    sums: &mut [f32],
) -> usize {
    let end = width.min(first + N * L::WIDTH);
    let lanes = |lane: usize| lane * L::WIDTH..(end - first).min((lane + 1) * L::WIDTH);
    let sums = &mut sums[first..end];
    let mut totals: [L; N] = std::array::from_fn(|lane| L::load(&sums[lanes(lane)]));
    for &(row, weight) in terms {
        let weight = L::splat(weight);
        let row = &table[row as usize * width..][first..end];
        for (lane, total) in totals.iter_mut().enumerate() {
            *total = weight.mul_add(L::load(&row[lanes(lane)]), *total);
        }
    }
    for (lane, total) in totals.into_iter().enumerate() {
        total.store(&mut sums[lanes(lane)]);
    }
    N
}

/// Takes from each row its step times the gradient, which is as wide as a row. A row may be there twice.
///
/// # Panics
/// If the table has no such row.
pub fn step_rows(steps: &[(u32, f32)], gradient: &[f32], table: &mut [f32]) {
    dispatch(StepRows { steps, gradient, table });
}

struct StepRows<'a> {
    steps: &'a [(u32, f32)],
    gradient: &'a [f32],
    table: &'a mut [f32],
}

impl Kernel for StepRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.gradient.len();
        for &(row, step) in self.steps {
            let step = L::splat(-step);
            let row = &mut self.table[row as usize * width..][..width];
            for (row, gradient) in row.chunks_mut(L::WIDTH).zip(self.gradient.chunks(L::WIDTH)) {
                step.mul_add(L::load(gradient), L::load(row)).store(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::lanes::Portable, *};

    #[test]
    fn steps_go_against_the_gradient() {
        let mut table = vec![1.0; 3 * 9];
        let gradient: Vec<f32> = (0..9).map(|c| c as f32).collect();
        step_rows(&[(2, 0.5), (0, -1.0), (2, 0.5)], &gradient, &mut table);
        assert_eq!(table[..9], gradient.iter().map(|g| 1.0 + g).collect::<Vec<_>>());
        assert_eq!(table[9..18], [1.0; 9]);
        assert_eq!(table[18..], gradient.iter().map(|g| 1.0 - g).collect::<Vec<_>>());
    }

    #[test]
    fn rows_are_weighted_and_added_whatever_the_width() {
        for width in [1, 7, 8, 31, 32, 77] {
            let table: Vec<f32> = (0..5 * width).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
            let terms = [(4, 0.5), (0, -2.0), (4, 0.25)];
            let expected: Vec<f32> =
                (0..width).map(|c| 1.0 + 0.75 * table[4 * width + c] - 2.0 * table[c]).collect();
            let mut sums = vec![1.0; width];
            add_rows(&terms, &table, &mut sums);
            let mut portable = vec![1.0; width];
            AddRows { terms: &terms, table: &table, sums: &mut portable }.run::<Portable>();
            for (c, expected) in expected.iter().enumerate() {
                assert!((sums[c] - expected).abs() < 1e-5 && (portable[c] - expected).abs() < 1e-5);
            }
        }
    }
}
