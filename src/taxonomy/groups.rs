//! Which rows of a head belong to which class: the manifest laid over the order of the rows.

use std::collections::BTreeMap;

use super::{Class, ClassId, LeafId, Manifest};
use crate::error::{Error, Result};

/// The grouping of a head's rows into the active classes of a manifest.
///
/// ```text
/// p(class) = sum of p(row) over its rows / sum of p(row) over the rows of all active classes
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafGroups {
    /// The active classes, ascending; their positions are the columns of class probabilities.
    pub classes: Vec<ClassId>,
    /// Column of the class that owns each row; none where no active class does.
    pub class_of_row: Vec<Option<u32>>,
}

impl LeafGroups {
    /// Lays a manifest over rows that stand for these leaves.
    ///
    /// # Errors
    /// [`Error::Internal`] where an active class has no row: such a head cannot answer in this manifest.
    pub fn new(manifest: &Manifest, rows: &[LeafId]) -> Result<Self> {
        let classes: Vec<ClassId> = manifest.active().map(|class| class.id).collect();
        let owner: BTreeMap<LeafId, u32> = (0u32..)
            .zip(manifest.active())
            .flat_map(|(column, class)| class.leaves().map(move |leaf| (leaf, column)))
            .collect();
        let class_of_row: Vec<Option<u32>> = rows.iter().map(|leaf| owner.get(leaf).copied()).collect();
        let mut covered = vec![false; classes.len()];
        class_of_row.iter().flatten().for_each(|&column| covered[column as usize] = true);
        let bare = manifest.active().zip(&covered).find(|(_, covered)| !**covered);
        if let Some((Class { id, name, .. }, _)) = bare {
            return Err(Error::Internal(format!("class #{id} '{name}' has no row in the head")));
        }
        Ok(Self { classes, class_of_row })
    }

    /// Probabilities of the classes from those of the rows.
    ///
    /// Summed in `f64` in the order of the rows. A class with one row in a head without idle rows keeps that row's
    /// probability to the bit.
    pub fn sums(&self, rows: &[f32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.classes.len()];
        for (&probability, column) in rows.iter().zip(&self.class_of_row) {
            if let Some(column) = column {
                sums[*column as usize] += f64::from(probability);
            }
        }
        if self.class_of_row.contains(&None) {
            let total: f64 = sums.iter().sum();
            if total > 0.0 {
                sums.iter_mut().for_each(|sum| *sum /= total);
            } else {
                // Every active class underflowed: nothing is known, so each is as likely.
                sums.fill(1.0 / self.classes.len() as f64);
            }
        }
        sums
    }

    /// Column of a class.
    pub fn column(&self, class: ClassId) -> Option<u32> {
        self.classes.binary_search(&class).ok().and_then(|index| u32::try_from(index).ok())
    }
}
