//! Matrix products: against a matrix that is packed once and used many times, and large ones through the `gemm` crate.
//!
//! ```text
//! out[m, n] += x[m, k] W[k, n]
//! ```
//!
//! W is packed into panels of 16 columns, `[ceil(n / 16), k, 16]`, and a tile of up to 6 rows by 16 columns is
//! accumulated in registers over the whole of k (6 x 2 accumulators, 2 of W and 1 of x fill the 16 registers of AVX2).
//! Each output is thus one chain over k = 0, 1, 2, ... whatever the number of rows: a row's result is the same to the
//! last bit alone and among others. Packing pays when the same matrix meets the states of every step (Goto and van de
//! Geijn 2008, "Anatomy of high-performance matrix multiplication", without its outer loops: k is small here).

use rayon::prelude::*;

use super::lanes::{Kernel, Lanes, WIDTH, dispatch};

const PANEL: usize = 2 * WIDTH;
const TILE_ROWS: usize = 6;

/// Multiply-adds below which another thread costs more than it gives.
const PARALLEL_WORK: usize = 1 << 20;

/// A matrix `[k, n]`, packed for products from the left.
#[derive(Debug, Clone)]
pub(crate) struct PackedMatrix {
    panels: Vec<f32>,
    k: usize,
    n: usize,
}

impl PackedMatrix {
    /// Packs the transpose of a row-major `[n, k]`, as weights are kept: products are then `x W^T`.
    pub(crate) fn transposed(weights: &[f32], n: usize, k: usize) -> Self {
        Self::pack(k, n, |p, column| weights[column * k + p])
    }

    /// Packs a row-major `[k, n]`: products are then `x W`.
    pub(crate) fn plain(weights: &[f32], k: usize, n: usize) -> Self {
        Self::pack(k, n, |p, column| weights[p * n + column])
    }

    fn pack(k: usize, n: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let mut panels = vec![0.0; n.div_ceil(PANEL) * k * PANEL];
        for (index, panel) in panels.chunks_exact_mut(k * PANEL).enumerate() {
            let first = index * PANEL;
            for (p, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                for (column, packed) in (first..n).zip(row) {
                    *packed = at(p, column);
                }
            }
        }
        Self { panels, k, n }
    }

    /// `out[m, n] += x[m, k] W`, on this thread; m is the number of whole rows in `x`.
    pub(crate) fn add_product(&self, x: &[f32], out: &mut [f32]) {
        dispatch(AddProduct { matrix: self, x, out });
    }

    /// `out[m, n] += x[m, k] W`, the rows shared among threads where that pays.
    pub(crate) fn add_product_shared(&self, x: &[f32], out: &mut [f32]) {
        let threads = rayon::current_num_threads();
        let rows = x.len() / self.k;
        if threads < 2 || rows * self.k * self.n < PARALLEL_WORK {
            return self.add_product(x, out);
        }
        let share = rows.div_ceil(threads).next_multiple_of(TILE_ROWS);
        x.par_chunks(share * self.k)
            .zip(out.par_chunks_mut(share * self.n))
            .for_each(|(x, out)| self.add_product(x, out));
    }
}

struct AddProduct<'a> {
    matrix: &'a PackedMatrix,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let PackedMatrix { panels, k, n } = self.matrix;
        let (k, n) = (*k, *n);
        for (x, out) in self.x.chunks(TILE_ROWS * k).zip(self.out.chunks_mut(TILE_ROWS * n)) {
            for (index, panel) in panels.chunks_exact(k * PANEL).enumerate() {
                let first = index * PANEL;
                match x.len() / k {
                    6 => tile::<L, 6>(x, panel, out, first, k, n),
                    5 => tile::<L, 5>(x, panel, out, first, k, n),
                    4 => tile::<L, 4>(x, panel, out, first, k, n),
                    3 => tile::<L, 3>(x, panel, out, first, k, n),
                    2 => tile::<L, 2>(x, panel, out, first, k, n),
                    _ => tile::<L, 1>(x, panel, out, first, k, n),
                }
            }
        }
    }
}

/// Adds the product of M rows and one panel to the columns from `first` on.
#[inline(always)]
fn tile<L: Lanes, const M: usize>(
    x: &[f32],
    panel: &[f32],
    out: &mut [f32],
    first: usize,
    k: usize,
    n: usize,
) {
    let rows: [&[f32]; M] = std::array::from_fn(|row| &x[row * k..(row + 1) * k]);
    let mut sums = [[L::splat(0.0); 2]; M];
    for (p, weights) in panel.chunks_exact(PANEL).enumerate().take(k) {
        let (left, right) = (L::load(&weights[..WIDTH]), L::load(&weights[WIDTH..]));
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let x = L::splat(row[p]);
            sums[0] = x.mul_add(left, sums[0]);
            sums[1] = x.mul_add(right, sums[1]);
        }
    }
    let end = n.min(first + PANEL);
    for (row, sums) in sums.iter().enumerate() {
        let out = &mut out[row * n + first..row * n + end];
        let (left, right) = out.split_at_mut(WIDTH.min(end - first));
        L::load(left).add(sums[0]).store(left);
        L::load(right).add(sums[1]).store(right);
    }
}

/// Whether a large product may use all threads or must stay on this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// This thread only.
    One,
    /// All threads of the pool.
    All,
}

/// A row-major matrix, or the transpose of one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand<'a> {
    /// As it lies.
    Plain(&'a [f32]),
    /// Its transpose.
    Transposed(&'a [f32]),
}

/// The product `[m, n]` of `a` `[m, k]` and `b` `[k, n]`.
pub(super) fn product(
    (m, n, k): (usize, usize, usize),
    a: Operand<'_>,
    b: Operand<'_>,
    threads: Threads,
) -> Vec<f32> {
    // Slice, stride of a column and stride of a row of an operand with so many rows and columns.
    let strides = |operand, rows: usize, columns: usize| match operand {
        Operand::Plain(x) => (x, 1, columns as isize),
        Operand::Transposed(x) => (x, rows as isize, 1),
    };
    let ((a, a_cs, a_rs), (b, b_cs, b_rs)) = (strides(a, m, k), strides(b, k, n));
    assert_eq!((a.len(), b.len()), (m * k, k * n), "the operands have the shapes that are named");
    let mut out = vec![0.0f32; m * n];
    let threads = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: with these strides the three matrices cover exactly `a`, `b` and `out`, whose lengths are m*k, k*n and m*n;
    // `out` is fresh, so nothing aliases it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_cs,
            a_rs,
            b.as_ptr(),
            b_cs,
            b_rs,
            0.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{super::lanes::Portable, *};

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn naive((m, n, k): (usize, usize, usize), x: &[f32], w: &[f32]) -> Vec<f32> {
        let at = |i: usize| {
            (0..k).map(|p| f64::from(x[i / n * k + p]) * f64::from(w[p * n + i % n])).sum::<f64>() as f32
        };
        (0..m * n).map(at).collect()
    }

    fn transpose(w: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..w.len()).map(|i| w[i % rows * columns + i / rows]).collect()
    }

    #[track_caller]
    fn assert_close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() < 2e-5, "at {i}: {a} and {b}");
        }
    }

    #[test]
    fn every_way_gives_the_product() {
        for shape @ (m, n, k) in [(1, 1, 1), (6, 16, 8), (7, 19, 33), (13, 40, 5), (64, 77, 65)] {
            let (x, w) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected = naive(shape, &x, &w);
            for packed in
                [PackedMatrix::plain(&w, k, n), PackedMatrix::transposed(&transpose(&w, k, n), n, k)]
            {
                let mut out = vec![0.0; m * n];
                packed.add_product(&x, &mut out);
                assert_close(&out, &expected);
                let mut portable = vec![0.0; m * n];
                AddProduct { matrix: &packed, x: &x, out: &mut portable }.run::<Portable>();
                assert_close(&portable, &expected);
            }
            let (xt, wt) = (transpose(&x, m, k), transpose(&w, k, n));
            for threads in [Threads::One, Threads::All] {
                assert_close(&product(shape, Operand::Plain(&x), Operand::Plain(&w), threads), &expected);
                assert_close(
                    &product(shape, Operand::Transposed(&xt), Operand::Transposed(&wt), threads),
                    &expected,
                );
            }
        }
    }

    #[test]
    fn it_adds_to_what_is_there() {
        let packed = PackedMatrix::plain(&[2.0, 3.0], 1, 2);
        let mut out = [10.0, 20.0];
        packed.add_product(&[5.0], &mut out);
        assert_eq!(out, [20.0, 35.0]);
    }

    #[test]
    fn a_row_is_the_same_alone_among_others_and_on_many_threads() {
        let (m, n, k) = (300, 77, 129);
        let (x, w) = (numbers(m * k, 3), numbers(k * n, 4));
        let packed = PackedMatrix::transposed(&w, n, k);
        let (mut all, mut shared) = (vec![0.0; m * n], vec![0.0; m * n]);
        packed.add_product(&x, &mut all);
        packed.add_product_shared(&x, &mut shared);
        assert_eq!(all, shared);
        for (x, expected) in x.chunks(k).zip(all.chunks(n)) {
            let mut alone = vec![0.0; n];
            packed.add_product(x, &mut alone);
            assert_eq!(alone, expected);
        }
    }
}
