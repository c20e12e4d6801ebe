//! Matrix products over panels.
//!
//! ```text
//! sums[m, 32] += A[m, k] B[k, 32]        A's rows                 for activations times weights
//! sums[m, 32] += A[k, m]^T B[k, 32]      A's columns              for gradients of weights
//! ```
//!
//! What is accumulated in registers is in [`tile`](super::tile); k is cut so that the part of B's panel that all
//! tiles of the rows read stays in the nearest cache (Goto and van de Geijn 2008, "Anatomy of high-performance matrix
//! multiplication"). Every sum is one chain over k = 0, 1, 2, ... from what is there, so a row's result is the same to the
//! last bit alone and among others, on one thread and on many.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    buffer::Buffer,
    lanes::{Kernel, Lanes, dispatch},
    panels::{PANEL, Panels, fill_row},
    tile::{columns_tile, one_row_tile, rows_tile},
};

/// k's that meet all rows before the next: this part of a panel of B takes 32 KiB.
const DEPTH: usize = 256;

/// The same where columns of A meet B: a part of a panel of each must fit.
const COLUMNS_DEPTH: usize = 128;

/// Panels of A, whose columns meet a part of B one after the other while it is near.
const COLUMN_PANELS: usize = 4;

/// Rows of A that meet a panel of B at a time.
pub(super) const BLOCK_ROWS: usize = 96;

/// Multiply-adds below which another thread costs more than it gives.
const PARALLEL_WORK: usize = 1 << 20;

/// What a product of rows is added to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'a> {
    /// What is in the sums.
    Sums,
    /// In each row these numbers, as many as B has columns, and zeros if they are fewer. The sums may hold anything.
    Row(&'a [f32]),
}

impl Start<'_> {
    /// Nothing; the sums may hold anything.
    pub(super) const NOTHING: Self = Self::Row(&[]);

    /// The numbers of a panel of a row, unless they are in the sums.
    fn of_panel(self, panel: usize) -> Option<[f32; PANEL]> {
        let Self::Row(row) = self else { return None };
        let from = &row[row.len().min(panel * PANEL)..row.len().min((panel + 1) * PANEL)];
        let mut start = [0.0; PANEL];
        start[..from.len()].copy_from_slice(from);
        Some(start)
    }
}

/// Adds the product of some rows of A and some panels of B. `sums` holds for each of these panels `[rows, 32]`, and
/// starts of successive panels lie `sums_stride` numbers apart.
pub(super) fn add_rows_product(
    a: &Panels,
    rows: Range<usize>,
    b: &Panels,
    panels: Range<usize>,
    start: Start<'_>,
    sums: &mut [f32],
    sums_stride: usize,
) {
    assert!(a.columns() == b.rows() && b.rows() > 0, "the operands fit");
    if !rows.is_empty() && !panels.is_empty() {
        dispatch(RowsProduct { a, rows, b, panels, start, sums, sums_stride });
    }
}

/// `start + A B` for each row of A, where `start` is a row or nothing. `[rows of A, columns of B]`, row-major.
pub(super) fn product(a: &Panels, b: &Panels, start: &[f32], out: &mut [f32]) {
    let columns = b.columns();
    if pays(a.rows() * a.columns() * columns) {
        let blocks = out.par_chunks_mut(BLOCK_ROWS * columns).enumerate();
        blocks.for_each(|(index, out)| product_block(a, b, start, index, out));
    } else {
        product_here(a, b, start, out);
    }
}

/// As [`product`], on the caller's thread.
pub(super) fn product_here(a: &Panels, b: &Panels, start: &[f32], out: &mut [f32]) {
    let blocks = out.chunks_mut(BLOCK_ROWS * b.columns()).enumerate();
    blocks.for_each(|(index, out)| product_block(a, b, start, index, out));
}

/// The rows of a product that begin at so many times [`BLOCK_ROWS`].
fn product_block(a: &Panels, b: &Panels, start: &[f32], index: usize, out: &mut [f32]) {
    let columns = b.columns();
    let first = index * BLOCK_ROWS;
    let rows = first..first + out.len() / columns;
    let mut sums = Buffer::stale(b.count() * rows.len() * PANEL);
    let stride = rows.len() * PANEL;
    add_rows_product(a, rows, b, 0..b.count(), Start::Row(start), &mut sums, stride);
    for (at, row) in out.chunks_exact_mut(columns).enumerate() {
        fill_row(row, |panel| &sums[panel * stride + at * PANEL..]);
    }
}

/// The sum of `A^T B` over pairs of operands with as many columns each, in the order of the pairs. Panels of A are shared
/// among threads. `[columns of A / 32, columns of B / 32, 32, 32]`, to be read by [`copy_row`].
pub(super) fn columns_product(pairs: &[(&Panels, &Panels)]) -> Buffer {
    let (left, right) = pairs.first().map_or((0, 0), |(a, b)| (a.count(), b.count()));
    let part = right * PANEL * PANEL;
    let mut out = match pairs.first() {
        Some((a, _)) if a.rows() > 0 => Buffer::stale(left * part),
        _ => Buffer::zeros(left * part),
    };
    let work: usize = pairs.iter().map(|(a, b)| a.rows() * a.columns() * b.columns()).sum();
    let group = |(index, sums): (usize, &mut [f32])| {
        let first = index * COLUMN_PANELS;
        for (pair, (a, b)) in pairs.iter().enumerate() {
            assert_eq!(a.rows(), b.rows(), "the operands fit");
            let panels = first..left.min(first + COLUMN_PANELS);
            dispatch(ColumnsProduct { a, panels, b, is_first: pair == 0, sums });
        }
    };
    if pays(work) {
        out.par_chunks_mut(COLUMN_PANELS * part).enumerate().for_each(group);
    } else {
        out.chunks_mut((COLUMN_PANELS * part).max(1)).enumerate().for_each(group);
    }
    out
}

/// Writes a row of what [`columns_product`] gave to a slice as long as B has columns.
pub(super) fn copy_row(product: &[f32], row: usize, to: &mut [f32]) {
    let part = to.len().div_ceil(PANEL) * PANEL * PANEL;
    let panels = &product[row / PANEL * part..][..part];
    fill_row(to, |panel| &panels[panel * PANEL * PANEL + row % PANEL * PANEL..]);
}

/// Whether so many multiply-adds are worth waking other threads.
pub(super) fn pays(work: usize) -> bool {
    work >= PARALLEL_WORK && rayon::current_num_threads() > 1
}

/// Cuts a range of rows into tiles of nearly equal height, so that none leaves most registers idle.
#[inline(always)]
fn tiles(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(most);
    (0..count).map(move |tile| tile * rows / count..(tile + 1) * rows / count)
}

struct RowsProduct<'a> {
    a: &'a Panels,
    rows: Range<usize>,
    b: &'a Panels,
    panels: Range<usize>,
    start: Start<'a>,
    sums: &'a mut [f32],
    sums_stride: usize,
}

impl Kernel for RowsProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        if self.rows.len() == 1 {
            return self.one_row::<L>();
        }
        let Self { a, rows, b, panels, start, sums, sums_stride } = self;
        for (panel, sums) in panels.zip(sums.chunks_mut(sums_stride)) {
            let sums = &mut sums[..rows.len() * PANEL];
            let start = start.of_panel(panel);
            for first in (0..b.rows()).step_by(DEPTH) {
                let depth = first..b.rows().min(first + DEPTH);
                let start = start.as_ref().filter(|_| first == 0);
                for tile in tiles(rows.len(), L::TILE_ROWS) {
                    let sums = &mut sums[tile.start * PANEL..tile.end * PANEL];
                    let (at, b) = (rows.start + tile.start, b.part(panel, depth.clone()));
                    let a = &a.numbers()[(first / PANEL * a.rows() + at) * PANEL..];
                    let stride = self.a.rows() * PANEL;
                    match tile.len() {
                        1 => rows_tile::<L, 1>(a, stride, b, start, sums),
                        2 => rows_tile::<L, 2>(a, stride, b, start, sums),
                        3 => rows_tile::<L, 3>(a, stride, b, start, sums),
                        4 => rows_tile::<L, 4>(a, stride, b, start, sums),
                        5 => rows_tile::<L, 5>(a, stride, b, start, sums),
                        6 => rows_tile::<L, 6>(a, stride, b, start, sums),
                        7 => rows_tile::<L, 7>(a, stride, b, start, sums),
                        8 => rows_tile::<L, 8>(a, stride, b, start, sums),
                        9 => rows_tile::<L, 9>(a, stride, b, start, sums),
                        10 => rows_tile::<L, 10>(a, stride, b, start, sums),
                        11 => rows_tile::<L, 11>(a, stride, b, start, sums),
                        _ => rows_tile::<L, 12>(a, stride, b, start, sums),
                    }
                }
            }
        }
    }
}

impl RowsProduct<'_> {
    /// One row alone: several panels together, or each sum would wait for the one before.
    #[inline(always)]
    fn one_row<L: Lanes>(self) {
        let Self { a, rows, b, mut panels, start, mut sums, sums_stride } = self;
        for (panel, sums) in panels.clone().zip(sums.chunks_mut(sums_stride)) {
            if let Some(start) = start.of_panel(panel) {
                sums[..PANEL].copy_from_slice(&start);
            }
        }
        while panels.len() >= 4 {
            one_row_tile::<L, 4>(a, rows.start, b, panels.start, sums, sums_stride);
            panels.start += 4;
            sums = &mut sums[if panels.is_empty() { 0 } else { 4 * sums_stride }..];
        }
        for (panel, sums) in panels.zip(sums.chunks_mut(sums_stride)) {
            one_row_tile::<L, 1>(a, rows.start, b, panel, sums, sums_stride);
        }
    }
}

struct ColumnsProduct<'a> {
    a: &'a Panels,
    panels: Range<usize>,
    b: &'a Panels,
    /// Whether the sums may hold anything.
    is_first: bool,
    /// `[panels, panels of B, 32, 32]`
    sums: &'a mut [f32],
}

impl Kernel for ColumnsProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { a, panels, b, is_first, sums } = self;
        for first in (0..a.rows()).step_by(COLUMNS_DEPTH) {
            let depth = first..a.rows().min(first + COLUMNS_DEPTH);
            let start = (is_first && first == 0).then_some(&[0.0; PANEL]);
            for b_panel in 0..b.count() {
                let part = b.part(b_panel, depth.clone());
                for (index, panel) in panels.clone().enumerate() {
                    let a = a.part(panel, depth.clone());
                    let sums = &mut sums[(index * b.count() + b_panel) * PANEL * PANEL..][..PANEL * PANEL];
                    for tile in tiles(PANEL, L::TILE_ROWS) {
                        let sums = &mut sums[tile.start * PANEL..tile.end * PANEL];
                        match tile.len() {
                            5 => columns_tile::<L, 5>(a, tile.start, part, start, sums),
                            6 => columns_tile::<L, 6>(a, tile.start, part, start, sums),
                            10 => columns_tile::<L, 10>(a, tile.start, part, start, sums),
                            11 => columns_tile::<L, 11>(a, tile.start, part, start, sums),
                            height => unreachable!("32 is cut by 6 or 12, not into tiles of {height}"),
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::lanes::on_each, *};

    /// By which sums of some hundred products of numbers below 1 may differ from exact ones.
    const TOLERANCE: f32 = 5e-5;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn panels(numbers: &[f32], rows: usize, columns: usize) -> Panels {
        Panels::of_rows(rows, columns, |row| &numbers[row * columns..][..columns])
    }

    /// `a` `[m, k]` times `b` `[k, n]`.
    fn naive((m, n, k): (usize, usize, usize), a: &[f32], b: &[f32]) -> Vec<f32> {
        let at = |i: usize| {
            (0..k).map(|p| f64::from(a[i / n * k + p]) * f64::from(b[p * n + i % n])).sum::<f64>() as f32
        };
        (0..m * n).map(at).collect()
    }

    fn transpose(numbers: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..numbers.len()).map(|i| numbers[i % rows * columns + i / rows]).collect()
    }

    #[track_caller]
    fn assert_close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() < TOLERANCE, "at {i}: {a} and {b}");
        }
    }

    const SHAPES: [(usize, usize, usize); 7] =
        [(1, 1, 1), (1, 300, 40), (6, 16, 8), (7, 19, 33), (13, 40, 5), (64, 77, 65), (100, 130, 520)];

    #[test]
    fn rows_give_the_product() {
        for shape @ (m, n, k) in SHAPES {
            let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
            let mut expected = naive(shape, &a, &b);
            expected.iter_mut().enumerate().for_each(|(i, x)| *x += start[i % n]);
            let mut out = vec![0.0; m * n];
            product(&panels(&a, m, k), &panels(&b, k, n), &start, &mut out);
            assert_close(&out, &expected);
        }
    }

    #[test]
    fn columns_give_the_product_of_all_pairs() {
        for shape @ (m, n, k) in SHAPES {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected = naive(shape, &a, &b);
            let a = transpose(&a, m, k);
            let cut = k / 3;
            let (a, b) = (
                [panels(&a[..cut * m], cut, m), panels(&a[cut * m..], k - cut, m)],
                [panels(&b[..cut * n], cut, n), panels(&b[cut * n..], k - cut, n)],
            );
            let product = columns_product(&[(&a[0], &b[0]), (&a[1], &b[1])]);
            let mut out = vec![0.0; m * n];
            out.chunks_exact_mut(n).enumerate().for_each(|(row, out)| copy_row(&product, row, out));
            assert_close(&out, &expected);
        }
    }

    #[test]
    fn pairs_without_rows_add_nothing() {
        let nothing = [Panels::zeros(0, 40), Panels::zeros(0, 33)];
        let some = [panels(&numbers(2 * 40, 1), 2, 40), panels(&numbers(2 * 33, 2), 2, 33)];
        let pair = |of: &[Panels; 2]| columns_product(&[(&of[0], &of[1])]);
        assert!(pair(&nothing).iter().all(|&sum| sum == 0.0));
        for pairs in [[&nothing, &some], [&some, &nothing]] {
            let pairs = pairs.map(|[a, b]| (a, b));
            assert_eq!(columns_product(&pairs), pair(&some));
        }
    }

    /// Both kinds of product, each from sums that are 0.5.
    struct Both<'a> {
        a: &'a Panels,
        turned: &'a Panels,
        b: &'a Panels,
        rows: Range<usize>,
    }

    impl Kernel for Both<'_> {
        type Output = [Vec<f32>; 2];

        #[inline(always)]
        fn run<L: Lanes>(self) -> Self::Output {
            let Self { a, turned, b, rows } = self;
            let (panels, sums_stride) = (0..b.count(), rows.len() * PANEL);
            let mut by_rows = vec![0.5; b.count() * sums_stride];
            RowsProduct { a, rows, b, panels, start: Start::Sums, sums: &mut by_rows, sums_stride }
                .run::<L>();
            let mut by_columns = vec![0.5; b.count() * PANEL * PANEL];
            ColumnsProduct { a: turned, panels: 0..1, b, is_first: false, sums: &mut by_columns }.run::<L>();
            [by_rows, by_columns]
        }
    }

    #[test]
    fn every_processor_gives_the_same_within_the_tolerance() {
        let (m, n, k) = (29, 230, 301);
        let (a, b) = (panels(&numbers(m * k, 1), m, k), panels(&numbers(k * n, 2), k, n));
        let turned = panels(&numbers(k * m, 3), k, m);
        for rows in [0..m, 5..6] {
            let each = on_each(|| Both { a: &a, turned: &turned, b: &b, rows: rows.clone() });
            for other in &each[1..] {
                (0..2).for_each(|kind| assert_close(&other[kind], &each[0][kind]));
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_among_others_and_on_many_threads() {
        let (m, n, k) = (300, 77, 129);
        let (a, b) = (panels(&numbers(m * k, 3), m, k), panels(&numbers(k * n, 4), k, n));
        let mut all = vec![0.0; m * n];
        product(&a, &b, &[], &mut all);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; m * n];
            pool.install(|| product(&a, &b, &[], &mut out));
            assert_eq!(out, all);
        }
        for (row, expected) in all.chunks(n).enumerate() {
            let mut sums = vec![0.5; 3 * PANEL];
            add_rows_product(&a, row..row + 1, &b, 0..3, Start::NOTHING, &mut sums, PANEL);
            assert_eq!(&sums[..n], expected);
        }
    }
}
