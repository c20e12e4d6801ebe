//! Which rows are fitted and which stay.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::{
    model::{
        Array, Checkpoint,
        kernels::{ClassTargets, add_rows},
    },
    taxonomy::{LeafGroups, LeafId},
    train::Sample,
};

/// The rows of the active classes: those that are fitted, k of them, and those that stay.
pub(super) struct Rows {
    free: Vec<usize>,
    stay: Vec<usize>,
    /// The class of each row that is fitted, `[k]`.
    class_of_free: Vec<u32>,
    /// The classes that own them, ascending.
    classes: Vec<u32>,
}

impl Rows {
    pub(super) fn new(network: &Checkpoint, groups: &LeafGroups, free: &BTreeSet<LeafId>) -> Self {
        let active = (0..network.leaves.len()).filter(|&row| groups.class_of_row[row].is_some());
        let (free, stay): (Vec<usize>, _) = active.partition(|&row| free.contains(&network.leaves[row]));
        let class_of_free: Vec<u32> = free.iter().filter_map(|&row| groups.class_of_row[row]).collect();
        let classes: BTreeSet<u32> = class_of_free.iter().copied().collect();
        Self { free, stay, class_of_free, classes: classes.into_iter().collect() }
    }

    /// The classes to fit to. The first stands for all classes whose rows stay, where there are such; so does its leaf.
    pub(super) fn targets(&self, smoothing: f32) -> ClassTargets {
        let others = (!self.stay.is_empty()).then_some(Some(0));
        let own = self.class_of_free.iter().map(|&class| Some(self.label(class)));
        let class_of_leaf: Vec<Option<u32>> = others.into_iter().chain(own).collect();
        ClassTargets { class_of_leaf, classes: self.classes.len() + usize::from(others.is_some()), smoothing }
    }

    /// The class of the targets that a class is.
    pub(super) fn label(&self, class: u32) -> u32 {
        let in_front = u32::from(!self.stay.is_empty());
        self.classes.binary_search(&class).map_or(0, |at| at as u32 + in_front)
    }

    /// What the rows that stay say together to each text, from their logits `[N, rows]`: log sum of exp. Empty where no row
    /// stays.
    pub(super) fn others(&self, logits: impl FnOnce(&[usize]) -> Vec<f32>) -> Vec<f32> {
        if self.stay.is_empty() {
            return Vec::new();
        }
        let logits = logits(&self.stay);
        let sums = logits.par_chunks_exact(self.stay.len()).map(|row| {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            max + row.iter().map(|z| (z - max).exp()).sum::<f32>().ln()
        });
        sums.collect()
    }

    /// The rows to be fitted of a matrix, `[k, F]`.
    pub(super) fn of(&self, matrix: &Array) -> Vec<f32> {
        self.free.iter().flat_map(|&row| matrix.row(row)).copied().collect()
    }

    /// The entries to be fitted of a vector, `[k]`.
    pub(super) fn entries(&self, vector: &Array) -> Vec<f32> {
        self.free.iter().map(|&row| vector.data[row]).collect()
    }

    /// Puts the rows that were fitted into the numbers of the matrix, or vector, that they are from.
    pub(super) fn put(&self, fitted: &[f32], numbers: &mut [f32]) {
        let width = fitted.len() / self.free.len();
        for (&row, fitted) in self.free.iter().zip(fitted.chunks_exact(width)) {
            numbers[row * width..][..width].copy_from_slice(fitted);
        }
    }

    /// The columns to be fitted of an array whose last axis is that of the leaves.
    pub(super) fn columns_of(&self, array: &Array) -> Array {
        let mut shape = array.shape.clone();
        let leaves = shape.pop().unwrap_or_default();
        shape.push(self.free.len());
        let picked = array.data.chunks_exact(leaves).flat_map(|row| self.free.iter().map(move |&at| row[at]));
        Array::new(shape, picked.collect::<Vec<f32>>())
    }

    /// Puts the columns that were fitted into the numbers of the array, of so many leaves, that they are from.
    pub(super) fn put_columns(&self, fitted: &[f32], leaves: usize, numbers: &mut [f32]) {
        for (row, fitted) in numbers.chunks_exact_mut(leaves).zip(fitted.chunks_exact(self.free.len())) {
            self.free.iter().zip(fitted).for_each(|(&at, &number)| row[at] = number);
        }
    }
}

/// What some leaves of the wide branch say to samples, `[N, leaves]`.
pub(super) fn wide_logits(samples: &[&Sample], weight: &Array, bias: &Array, leaves: &[usize]) -> Vec<f32> {
    let logits: Vec<Vec<f32>> = samples
        .par_iter()
        .map(|sample| {
            let mut logits = bias.data.to_vec();
            add_rows(&sample.text.terms, &weight.data, &mut logits);
            leaves.iter().map(|&leaf| logits[leaf]).collect()
        })
        .collect();
    logits.concat()
}
