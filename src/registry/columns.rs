//! A matrix as the columns in which it differs from another. A change of the classes fits the rows of a few leaves, which
//! are columns of the wide branch: only these are stored then.

/// The columns, ascending, in which a matrix `[rows, columns]` differs from another of as many rows and at most as many
/// columns; those that the other does not have among them. None where they are more than half, or the other is no such
/// matrix.
pub(super) fn changed(of: &[f32], before: &[f32], columns: usize) -> Option<Vec<u32>> {
    let rows = of.len().checked_div(columns)?;
    let known = before.len().checked_div(rows)?;
    if rows * columns != of.len() || known * rows != before.len() || known == 0 || known > columns {
        return None;
    }
    let mut differs = vec![false; columns];
    differs[known..].fill(true);
    for (row, before) in of.chunks_exact(columns).zip(before.chunks_exact(known)) {
        let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
        // Hardly a row differs, or every row does.
        if row.iter().zip(before).fold(false, |any, pair| any | differ(pair)) {
            let pairs = row.iter().zip(before);
            differs.iter_mut().zip(pairs).for_each(|(differs, pair)| *differs |= differ(pair));
            if 2 * count(&differs) > columns {
                return None;
            }
        }
    }
    let at = (0u32..).zip(&differs).filter(|(_, differs)| **differs).map(|(at, _)| at);
    (2 * count(&differs) <= columns).then(|| at.collect())
}

fn count(differs: &[bool]) -> usize {
    differs.iter().filter(|differs| **differs).count()
}

/// Some columns of a matrix, `[rows, at]`.
pub(super) fn pick(of: &[f32], columns: usize, at: &[u32]) -> Vec<f32> {
    of.chunks_exact(columns).flat_map(|row| at.iter().map(|&at| row[at as usize])).collect()
}

/// A matrix `[rows, columns]` from another with at most as many columns, and the columns `[rows, at]` in which it differs.
/// None where these do not make it.
pub(super) fn put(before: &[f32], columns: usize, at: &[u32], picked: &[f32]) -> Option<Vec<f32>> {
    let rows = picked.len().checked_div(at.len())?;
    let known = before.len().checked_div(rows)?;
    let is_whole = rows * at.len() == picked.len() && known * rows == before.len();
    if !is_whole || known == 0 || known > columns {
        return None;
    }
    let is_each = at.is_sorted_by(|a, b| a < b)
        && at.last().is_some_and(|last| (*last as usize) < columns)
        && at.iter().filter(|at| **at as usize >= known).count() == columns - known;
    if !is_each {
        return None;
    }
    let mut numbers = Vec::with_capacity(rows.checked_mul(columns)?);
    for (before, picked) in before.chunks_exact(known).zip(picked.chunks_exact(at.len())) {
        let start = numbers.len();
        numbers.extend_from_slice(before);
        numbers.resize(start + columns, 0.0);
        at.iter().zip(picked).for_each(|(&at, &number)| numbers[start + at as usize] = number);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_matrix_comes_back_from_the_columns_that_changed(
            rows in 1usize..5,
            known in 1usize..8,
            new in 0usize..8,
            touched in prop::collection::btree_set(0usize..8, 0..4),
        ) {
            let columns = known + new;
            let before: Vec<f32> = (0..rows * known).map(|n| n as f32).collect();
            let mut of: Vec<f32> = Vec::new();
            for row in before.chunks_exact(known) {
                of.extend(row);
                of.extend((0..new).map(|n| -(n as f32)));
            }
            // A change to one row, of the sign of a zero too.
            touched.iter().filter(|at| **at < known).for_each(|at| of[*at] = -of[*at] - 0.0);
            let expected: Vec<u32> =
                (0..columns).filter(|at| *at >= known || touched.contains(at)).map(|at| at as u32).collect();
            let changed = changed(&of, &before, columns);
            if 2 * expected.len() > columns {
                prop_assert_eq!(changed, None);
            } else {
                prop_assert_eq!(changed.as_ref(), Some(&expected));
                if !expected.is_empty() {
                    let again = put(&before, columns, &expected, &pick(&of, columns, &expected)).unwrap();
                    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                    prop_assert_eq!(bits(&again), bits(&of));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_makes_no_matrix() {
        let before = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(put(&before, 3, &[2], &[5.0, 6.0]), Some(vec![1.0, 2.0, 5.0, 3.0, 4.0, 6.0]));
        for (columns, at, picked) in [
            (3, &[1u32][..], &[5.0, 6.0][..]), // the new column is missing
            (3, &[3], &[5.0, 6.0]),            // there is no such column
            (3, &[2, 2], &[5.0, 6.0, 7.0, 8.0]),
            (3, &[2], &[5.0]),
            (1, &[0], &[5.0, 6.0]),
            (3, &[], &[]),
        ] {
            assert_eq!(put(&before, columns, at, picked), None, "{columns} {at:?} {picked:?}");
        }
        assert_eq!(changed(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0], 2), None, "other rows");
        assert_eq!(changed(&[], &[], 0), None);
        assert_eq!(changed(&[1.0, 2.0], &[], 2), None);
    }
}
