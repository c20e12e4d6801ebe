//! Which rows of a head belong to which class: the manifest laid over the order of the rows.

use std::collections::{BTreeMap, BTreeSet};

use super::{Class, ClassId, LeafId, Manifest};
use crate::error::{Error, Result};

/// The grouping of a head's rows into the active classes of a manifest.
///
/// ```text
/// p(class) = sum of p(row) over its rows / sum of p(row) over the rows of all active classes
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafGroups {
    /// The active classes, or those that stand for them at a level, ascending; their positions are the columns of class probabilities.
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
        Self::standing_for(manifest, rows, |class| class.id)
    }

    /// Lays a level of a manifest over rows: 0 is the top, where a group stands for all below it; see
    /// [`Manifest::at_level`].
    ///
    /// # Errors
    /// As [`LeafGroups::new`].
    pub fn at_level(manifest: &Manifest, rows: &[LeafId], level: u32) -> Result<Self> {
        Self::standing_for(manifest, rows, |class| manifest.at_level(class.id, level))
    }

    /// Lays active classes over rows, each under the class that stands for it.
    fn standing_for(
        manifest: &Manifest,
        rows: &[LeafId],
        stands_for: impl Fn(&Class) -> ClassId,
    ) -> Result<Self> {
        let classes: BTreeMap<ClassId, ClassId> =
            manifest.active().map(|class| (class.id, stands_for(class))).collect();
        Self::by_leaf(manifest, rows, |class, _| classes[&class.id])
    }

    /// Lays the leaves of the active classes over rows, each under the class that is given for it.
    pub(super) fn by_leaf(
        manifest: &Manifest,
        rows: &[LeafId],
        answers: impl Fn(&Class, LeafId) -> ClassId,
    ) -> Result<Self> {
        let known: BTreeSet<LeafId> = rows.iter().copied().collect();
        if let Some(Class { id, name, .. }) =
            manifest.active().find(|class| !class.leaves().any(|leaf| known.contains(&leaf)))
        {
            return Err(Error::Internal(format!("class #{id} '{name}' has no row in the head")));
        }
        let owned: BTreeMap<LeafId, ClassId> = manifest
            .active()
            .flat_map(|class| class.leaves().map(move |leaf| (leaf, class)))
            .filter(|(leaf, _)| known.contains(leaf))
            .map(|(leaf, class)| (leaf, answers(class, leaf)))
            .collect();
        let classes: BTreeSet<ClassId> = owned.values().copied().collect();
        let column: BTreeMap<ClassId, u32> = classes.iter().copied().zip(0u32..).collect();
        let class_of_row = rows.iter().map(|leaf| owned.get(leaf).map(|class| column[class])).collect();
        Ok(Self { classes: classes.into_iter().collect(), class_of_row })
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
