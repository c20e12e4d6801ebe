//! Cross entropy of classes that are groups of leaves.
//!
//! ```text
//! p[j]  = softmax over the leaves j of any class        P[k] = sum of p[j] over the leaves j of class k
//! q[k]  = (1 - s) [k = label] + s / K                   smoothing s over K classes
//! loss  = mean over the texts of - sum_k q[k] log P[k]
//! dloss / dz[j] = (p[j] - q[k] p[j] / P[k]) / B         k the class of j; 0 for a leaf of no class
//! ```
//!
//! With one leaf a class this is the usual cross entropy with label smoothing (Szegedy et al. 2016).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::storage::{numbers, slice, stored, tensor};

/// Which leaf is of which class, and how labels are smoothed.
#[derive(Debug, Clone)]
pub struct ClassTargets {
    /// Class of each leaf, `[C]`; a leaf without one takes no part.
    pub class_of_leaf: Vec<Option<u32>>,
    /// K; each class has a leaf.
    pub classes: usize,
    /// s: probability that is spread over all classes, 0 to 1.
    pub smoothing: f32,
}

/// The mean loss, a scalar, of logits `[B, C]` under the class of each text, `[B]`.
pub fn group_cross_entropy(logits: &Tensor, labels: Vec<u32>, targets: &Arc<ClassTargets>) -> Result<Tensor> {
    logits.apply_op1(GroupCrossEntropy { labels, targets: targets.clone() })
}

struct GroupCrossEntropy {
    labels: Vec<u32>,
    targets: Arc<ClassTargets>,
}

/// The log-sum-exp of the leaves of each class, and of all.
struct LogSums {
    of_class: Vec<f64>,
    of_all: f64,
}

impl GroupCrossEntropy {
    fn log_sums(&self, logits: &[f32]) -> LogSums {
        let grouped = || {
            logits
                .iter()
                .zip(&self.targets.class_of_leaf)
                .filter_map(|(&z, k)| Some((f64::from(z), (*k)? as usize)))
        };
        let mut max = vec![f64::NEG_INFINITY; self.targets.classes];
        grouped().for_each(|(z, k)| max[k] = if z > max[k] || z.is_nan() { z } else { max[k] });
        let mut sums = vec![0.0; self.targets.classes];
        grouped().for_each(|(z, k)| sums[k] += exp_of_difference(z, max[k]));
        // Most classes have one leaf, and their sum is 1.
        let log = |sum: f64| if sum == 1.0 { 0.0 } else { sum.ln() };
        let of_class: Vec<f64> = sums.iter().zip(&max).map(|(&sum, max)| max + log(sum)).collect();
        let top = of_class.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let of_all = top + of_class.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
        LogSums { of_class, of_all }
    }

    fn target(&self, class: usize, label: u32) -> f64 {
        let smoothing = f64::from(self.targets.smoothing);
        let hit = if class == label as usize { 1.0 - smoothing } else { 0.0 };
        hit + smoothing / self.targets.classes as f64
    }
}

/// exp(a - b), without the work where they are equal.
fn exp_of_difference(a: f64, b: f64) -> f64 {
    if a == b { 1.0 } else { (a - b).exp() }
}

impl CustomOp1 for GroupCrossEntropy {
    fn name(&self) -> &'static str {
        "group-cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (texts, leaves) = layout.shape().dims2()?;
        if texts != self.labels.len() || leaves != self.targets.class_of_leaf.len() {
            bail!("logits [{texts}, {leaves}] do not fit the labels and leaves");
        }
        if self.labels.iter().any(|&label| label as usize >= self.targets.classes) {
            bail!("a label is none of the {} classes", self.targets.classes);
        }
        let mut loss = 0.0;
        for (z, &label) in slice(logits, layout)?.chunks_exact(leaves).zip(&self.labels) {
            let sums = self.log_sums(z);
            for (class, of_class) in sums.of_class.iter().enumerate() {
                let target = self.target(class, label);
                if target > 0.0 {
                    loss += target * (sums.of_all - of_class);
                }
            }
        }
        stored(vec![(loss / texts as f64) as f32], ())
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, dloss: &Tensor) -> Result<Option<Tensor>> {
        let (texts, leaves) = logits.dims2()?;
        let scale = f64::from(dloss.to_scalar::<f32>()?) / texts as f64;
        let mut dz = vec![0.0; texts * leaves];
        let rows = numbers(logits)?;
        for ((z, dz), &label) in rows.chunks_exact(leaves).zip(dz.chunks_exact_mut(leaves)).zip(&self.labels)
        {
            let sums = self.log_sums(z);
            for ((&z, dz), class) in z.iter().zip(dz).zip(&self.targets.class_of_leaf) {
                let Some(class) = class.map(|class| class as usize) else { continue };
                let of_all = (f64::from(z) - sums.of_all).exp();
                let within = exp_of_difference(f64::from(z), sums.of_class[class]);
                *dz = (scale * (of_all - self.target(class, label) * within)) as f32;
            }
        }
        Ok(Some(tensor(dz, (texts, leaves))?))
    }
}
