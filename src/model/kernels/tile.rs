//! The innermost part of a product: a tile of sums in registers.
//!
//! A tile is M rows by two registers: on AVX-512 up to 12 rows of 32 columns, which with two registers of B and one of A
//! come to 27 of 32; on AVX2 up to 6 rows of half a panel, 15 of 16. Each sum is one chain over k.

use super::{
    lanes::Lanes,
    panels::{PANEL, Panels},
};

/// Adds the product of M rows, the panels of which lie `stride` numbers apart, and rows of a panel of B, to a row of `start` for
/// each or, without one, to the sums.
#[inline(always)]
pub(super) fn rows_tile<L: Lanes, const M: usize>(
    a: &[f32],
    stride: usize,
    b: &[f32],
    start: Option<&[f32; PANEL]>,
    sums: &mut [f32],
) {
    let sums: &mut [[f32; PANEL]; M] = block_mut(sums);
    let b = b.as_chunks::<PANEL>().0;
    for columns in (0..PANEL).step_by(2 * L::WIDTH) {
        let mut tile = first_tile::<L, M>(start, sums, columns);
        for (index, b) in b.chunks(PANEL).enumerate() {
            let a: &[[f32; PANEL]; M] = block(&a[index * stride..]);
            // Spelt out for a whole panel, as its length is then known to the compiler.
            match b.first_chunk::<PANEL>() {
                Some(b) => {
                    for (k, b) in b.iter().enumerate() {
                        multiply_add(&mut tile, b, columns, |row| a[row][k]);
                    }
                }
                None => {
                    for (k, b) in b.iter().enumerate() {
                        multiply_add(&mut tile, b, columns, |row| a[row][k]);
                    }
                }
            }
        }
        store_tile(&tile, sums, columns);
    }
}

/// Adds the product of one row and P panels of B from `first` on.
#[inline(always)]
pub(super) fn one_row_tile<L: Lanes, const P: usize>(
    a: &Panels,
    row: usize,
    b: &Panels,
    first: usize,
    sums: &mut [f32],
    sums_stride: usize,
) {
    for columns in (0..PANEL).step_by(2 * L::WIDTH) {
        let (left, right) = (columns..columns + L::WIDTH, columns + L::WIDTH..columns + 2 * L::WIDTH);
        let mut tile = [[L::splat(0.0); 2]; P];
        for (panel, tile) in tile.iter_mut().enumerate() {
            let sums = &sums[panel * sums_stride..][..PANEL];
            *tile = [L::load(&sums[left.clone()]), L::load(&sums[right.clone()])];
        }
        for k in (0..b.rows()).step_by(PANEL) {
            let depth = k..b.rows().min(k + PANEL);
            let a = &a.part(k / PANEL, row..row + 1)[..depth.len()];
            let mut parts: [&[[f32; PANEL]]; P] = [&[]; P];
            for (panel, part) in parts.iter_mut().enumerate() {
                *part = &b.part(first + panel, depth.clone()).as_chunks().0[..a.len()];
            }
            for (k, a) in a.iter().enumerate() {
                let a = L::splat(*a);
                for (tile, b) in tile.iter_mut().zip(&parts) {
                    tile[0] = a.mul_add(L::load(&b[k][left.clone()]), tile[0]);
                    tile[1] = a.mul_add(L::load(&b[k][right.clone()]), tile[1]);
                }
            }
        }
        for (panel, tile) in tile.iter().enumerate() {
            let sums = &mut sums[panel * sums_stride..][..PANEL];
            tile[0].store(&mut sums[left.clone()]);
            tile[1].store(&mut sums[right.clone()]);
        }
    }
}

/// The first M rows of a panel.
#[inline(always)]
fn block<const M: usize>(panel: &[f32]) -> &[[f32; PANEL]; M] {
    panel.as_chunks().0.first_chunk().expect("a tile lies within its panel")
}

/// The first M rows of a panel.
#[inline(always)]
fn block_mut<const M: usize>(panel: &mut [f32]) -> &mut [[f32; PANEL]; M] {
    panel.as_chunks_mut().0.first_chunk_mut().expect("a tile lies within its panel")
}

/// Two registers of each row, from a column on: of the one that all start with or, without it, of the sums.
#[inline(always)]
fn first_tile<L: Lanes, const M: usize>(
    start: Option<&[f32; PANEL]>,
    sums: &[[f32; PANEL]; M],
    column: usize,
) -> [[L; 2]; M] {
    let load = |row: &[f32; PANEL]| {
        let row = &row[column..column + 2 * L::WIDTH];
        [L::load(&row[..L::WIDTH]), L::load(&row[L::WIDTH..])]
    };
    if let Some(start) = start {
        return [load(start); M];
    }
    let mut tile = [[L::splat(0.0); 2]; M];
    tile.iter_mut().zip(sums).for_each(|(tile, row)| *tile = load(row));
    tile
}

#[inline(always)]
fn store_tile<L: Lanes, const M: usize>(tile: &[[L; 2]; M], sums: &mut [[f32; PANEL]; M], column: usize) {
    for (tile, row) in tile.iter().zip(sums) {
        let row = &mut row[column..column + 2 * L::WIDTH];
        tile[0].store(&mut row[..L::WIDTH]);
        tile[1].store(&mut row[L::WIDTH..]);
    }
}

/// Adds to a tile a number for each of its rows times a row of B.
#[inline(always)]
fn multiply_add<L: Lanes, const M: usize>(
    tile: &mut [[L; 2]; M],
    b: &[f32; PANEL],
    column: usize,
    a: impl Fn(usize) -> f32,
) {
    let b = &b[column..column + 2 * L::WIDTH];
    let (left, right) = (L::load(&b[..L::WIDTH]), L::load(&b[L::WIDTH..]));
    for (row, tile) in tile.iter_mut().enumerate() {
        let a = L::splat(a(row));
        tile[0] = a.mul_add(left, tile[0]);
        tile[1] = a.mul_add(right, tile[1]);
    }
}

/// Adds the product of the transpose of M columns of A and a panel of B, from where [`rows_tile`] starts.
#[inline(always)]
pub(super) fn columns_tile<L: Lanes, const M: usize>(
    a: &[f32],
    first: usize,
    b: &[f32],
    start: Option<&[f32; PANEL]>,
    sums: &mut [f32],
) {
    let sums: &mut [[f32; PANEL]; M] = block_mut(sums);
    let (a, b) = (a.as_chunks::<PANEL>().0, b.as_chunks::<PANEL>().0);
    for columns in (0..PANEL).step_by(2 * L::WIDTH) {
        let mut tile = first_tile::<L, M>(start, sums, columns);
        for (a, b) in a.iter().zip(b) {
            let a: &[f32; M] = a[first..].first_chunk().expect("the columns lie in the panel");
            multiply_add(&mut tile, b, columns, |row| a[row]);
        }
        store_tile(&tile, sums, columns);
    }
}
