//! Matrices as the products want them: in panels of 32 columns.
//!
//! ```text
//! [rows, columns]  ->  [ceil(columns / 32), rows, 32]        zeros right of the last column
//! ```
//!
//! One form serves every part a matrix plays: as the right operand a panel is read row by row, as the left one (or its
//! transpose) a few rows (or columns) of a panel lie close together, and a panel of a result is one block. So what a
//! product makes goes into the next one as it is.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;

/// Columns of a panel: two registers of AVX-512.
pub(super) const PANEL: usize = 32;

/// Rows or columns that are transposed at a time, so that what is written stays in the nearest cache.
const TRANSPOSED: usize = 64;

/// Numbers below which another thread costs more than it gives.
const PARALLEL_NUMBERS: usize = 1 << 18;

/// A matrix in panels.
#[derive(Debug)]
pub(super) struct Panels {
    numbers: Buffer,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// A matrix of any numbers: whoever asks must write each panel before it is read.
    pub(super) fn stale(rows: usize, columns: usize) -> Self {
        Self { numbers: Buffer::stale(rows * columns.next_multiple_of(PANEL)), rows, columns }
    }

    /// A matrix of zeros.
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self { numbers: Buffer::zeros(rows * columns.next_multiple_of(PANEL)), rows, columns }
    }

    /// From the numbers of each row, or fewer, where the rest is zero.
    pub(super) fn of_rows<'a>(rows: usize, columns: usize, row: impl Fn(usize) -> &'a [f32]) -> Self {
        let mut panels = Self::stale(rows, columns);
        for at in 0..rows {
            let row = row(at);
            for (index, panel) in panels.numbers.chunks_exact_mut(rows * PANEL).enumerate() {
                let to = &mut panel[at * PANEL..][..PANEL];
                let from = &row[row.len().min(index * PANEL)..];
                match from.first_chunk::<PANEL>() {
                    Some(from) => to.copy_from_slice(from),
                    None => {
                        to[..from.len()].copy_from_slice(from);
                        to[from.len()..].fill(0.0);
                    }
                }
            }
        }
        panels
    }

    /// From the numbers of each column, or fewer, where the rest is zero.
    pub(super) fn of_columns<'a>(
        rows: usize,
        columns: usize,
        column: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        let mut panels = Self::stale(rows, columns);
        let fill = |(index, panel): (usize, &mut [f32])| {
            for (part, panel) in panel.chunks_mut(TRANSPOSED * PANEL).enumerate() {
                for lane in 0..PANEL {
                    let at = index * PANEL + lane;
                    let column = if at < columns { column(at) } else { &[] };
                    let from = &column[column.len().min(part * TRANSPOSED)..];
                    let (there, missing) = panel.split_at_mut(panel.len().min(from.len() * PANEL));
                    there.chunks_exact_mut(PANEL).zip(from).for_each(|(row, x)| row[lane] = *x);
                    missing.chunks_exact_mut(PANEL).for_each(|row| row[lane] = 0.0);
                }
            }
        };
        if panels.numbers.len() >= PARALLEL_NUMBERS {
            panels.numbers.par_chunks_exact_mut(rows * PANEL).enumerate().for_each(fill);
        } else {
            panels.numbers.chunks_exact_mut(rows * PANEL).enumerate().for_each(fill);
        }
        panels
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Panels.
    pub(super) fn count(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// All panels, one after the other.
    pub(super) fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// All panels, one after the other.
    pub(super) fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }

    /// Some rows of a panel, `[.., 32]`.
    pub(super) fn part(&self, panel: usize, rows: Range<usize>) -> &[f32] {
        &self.numbers[panel * self.rows * PANEL..][rows.start * PANEL..rows.end * PANEL]
    }

    /// Some rows of a panel, `[.., 32]`.
    pub(super) fn part_mut(&mut self, panel: usize, rows: Range<usize>) -> &mut [f32] {
        &mut self.numbers[panel * self.rows * PANEL..][rows.start * PANEL..rows.end * PANEL]
    }

    /// Writes a row to a slice as long as there are columns.
    pub(super) fn copy_row(&self, at: usize, to: &mut [f32]) {
        fill_row(to, |panel| self.part(panel, at..at + 1));
    }

    /// Adds a row to a slice as long as there are columns.
    pub(super) fn add_row(&self, at: usize, to: &mut [f32]) {
        for (index, to) in to.chunks_mut(PANEL).enumerate() {
            to.iter_mut().zip(self.part(index, at..at + 1)).for_each(|(to, x)| *to += x);
        }
    }
}

/// Fills a row with what it has in each panel.
pub(super) fn fill_row<'a>(to: &mut [f32], part: impl Fn(usize) -> &'a [f32]) {
    // Whole parts are a few registers each; a length that the compiler does not know would be a call.
    let (whole, rest) = to.as_chunks_mut::<PANEL>();
    for (panel, to) in whole.iter_mut().enumerate() {
        to.copy_from_slice(&part(panel)[..PANEL]);
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&part(whole.len())[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_give_the_same_panels() {
        for (rows, columns) in [(1, 1), (3, 32), (130, 77), (70, 33)] {
            let numbers: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let turned: Vec<f32> =
                (0..rows * columns).map(|i| numbers[i % rows * columns + i / rows]).collect();
            let of_rows = Panels::of_rows(rows, columns, |row| &numbers[row * columns..][..columns]);
            let of_columns = Panels::of_columns(rows, columns, |column| &turned[column * rows..][..rows]);
            assert_eq!(of_rows.numbers(), of_columns.numbers());
            for (at, expected) in numbers.chunks(columns).enumerate() {
                let mut row = vec![0.0; columns];
                of_rows.copy_row(at, &mut row);
                assert_eq!(row, expected);
            }
        }
    }

    #[test]
    fn what_is_missing_is_zero() {
        let panels = Panels::of_rows(2, 40, |row| if row == 0 { &[1.0, 2.0] } else { &[] });
        assert_eq!(panels.numbers()[..2], [1.0, 2.0]);
        assert_eq!((panels.numbers()[2..].iter().sum::<f32>(), panels.numbers().len()), (0.0, 2 * 64));
        let panels = Panels::of_columns(2, 3, |column| [&[5.0][..], &[], &[6.0, 7.0]][column]);
        assert_eq!(panels.numbers()[..3], [5.0, 0.0, 6.0]);
        assert_eq!(panels.numbers()[32..35], [0.0, 0.0, 7.0]);
    }
}
