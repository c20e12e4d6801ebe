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

/// The log-sum-exp of the leaves of each class, and of all.
struct LogSums {
    of_class: Vec<f64>,
    of_all: f64,
}

impl ClassTargets {
    /// The mean loss, in nats, of logits `[B, C]` under the class of each text, `[B]`, and its gradient.
    ///
    /// # Panics
    /// If a label is none of the classes.
    pub fn loss_and_gradient(&self, logits: &[f32], labels: &[u32]) -> (f64, Vec<f32>) {
        let leaves = self.class_of_leaf.len();
        let scale = 1.0 / labels.len() as f64;
        let (mut loss, mut gradient) = (0.0, vec![0.0; logits.len()]);
        let rows = logits.chunks_exact(leaves).zip(gradient.chunks_exact_mut(leaves));
        for ((logits, gradient), &label) in rows.zip(labels) {
            loss += self.text_loss(logits, label, scale, gradient);
        }
        (loss * scale, gradient)
    }

    /// The loss of one text, in nats; sets the gradient of its logits, `[C]`, times a scale.
    ///
    /// # Panics
    /// If the label is none of the classes.
    pub fn text_loss(&self, logits: &[f32], label: u32, scale: f64, gradient: &mut [f32]) -> f64 {
        assert!((label as usize) < self.classes, "a label is one of the classes");
        if self.each_is_a_class() {
            return self.text_loss_of_classes(logits, label, scale, gradient);
        }
        let sums = self.log_sums(logits);
        for ((&z, dz), class) in logits.iter().zip(gradient).zip(&self.class_of_leaf) {
            *dz = class.map_or(0.0, |class| {
                let class = class as usize;
                let of_all = (f64::from(z) - sums.of_all).exp();
                let within = exp_of_difference(f64::from(z), sums.of_class[class]);
                (scale * (of_all - self.target(class, label) * within)) as f32
            });
        }
        let of_class = sums.of_class.iter().enumerate();
        of_class
            .map(|(class, of_class)| (self.target(class, label), of_class))
            .filter(|(target, _)| *target > 0.0)
            .map(|(target, of_class)| target * (sums.of_all - of_class))
            .sum()
    }

    /// Whether the leaves are the classes, in their order.
    fn each_is_a_class(&self) -> bool {
        let mut leaves = (0..).zip(&self.class_of_leaf);
        self.classes == self.class_of_leaf.len() && leaves.all(|(leaf, class)| *class == Some(leaf))
    }

    /// As [`text_loss`](Self::text_loss), to the bit, of leaves that are the classes.
    fn text_loss_of_classes(&self, logits: &[f32], label: u32, scale: f64, gradient: &mut [f32]) -> f64 {
        let (hit, other) =
            (self.target(label as usize, label), f64::from(self.smoothing) / self.classes as f64);
        let target = |class: usize| if class == label as usize { hit } else { other };
        let higher = |top: f64, z: &f32| if f64::from(*z) > top || z.is_nan() { f64::from(*z) } else { top };
        let top = logits.iter().fold(f64::NEG_INFINITY, higher);
        let of_all = top + logits.iter().map(|&z| (f64::from(z) - top).exp()).sum::<f64>().ln();
        let mut loss = 0.0;
        for (class, (&z, dz)) in logits.iter().zip(gradient).enumerate() {
            let (z, target) = (f64::from(z), target(class));
            *dz = (scale * ((z - of_all).exp() - target)) as f32;
            if target > 0.0 {
                loss += target * (of_all - z);
            }
        }
        loss
    }

    fn log_sums(&self, logits: &[f32]) -> LogSums {
        let grouped = || {
            logits.iter().zip(&self.class_of_leaf).filter_map(|(&z, k)| Some((f64::from(z), (*k)? as usize)))
        };
        let mut max = vec![f64::NEG_INFINITY; self.classes];
        grouped().for_each(|(z, k)| max[k] = if z > max[k] || z.is_nan() { z } else { max[k] });
        let mut sums = vec![0.0; self.classes];
        grouped().for_each(|(z, k)| sums[k] += exp_of_difference(z, max[k]));
        // Most classes have one leaf, and their sum is 1.
        let log = |sum: f64| if sum == 1.0 { 0.0 } else { sum.ln() };
        let of_class: Vec<f64> = sums.iter().zip(&max).map(|(&sum, max)| max + log(sum)).collect();
        let top = of_class.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let of_all = top + of_class.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
        LogSums { of_class, of_all }
    }

    fn target(&self, class: usize, label: u32) -> f64 {
        let smoothing = f64::from(self.smoothing);
        let hit = if class == label as usize { 1.0 - smoothing } else { 0.0 };
        hit + smoothing / self.classes as f64
    }
}

/// exp(a - b), without the work where they are equal.
fn exp_of_difference(a: f64, b: f64) -> f64 {
    if a == b { 1.0 } else { (a - b).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_that_are_the_classes_are_computed_as_others_are() {
        let logits: Vec<f32> = (0..60).map(|at| (at as f32 * 1.7).sin() * 9.0).collect();
        for smoothing in [0.0, 0.1] {
            let alone = ClassTargets { class_of_leaf: (0..5).map(Some).collect(), classes: 5, smoothing };
            // A leaf that takes no part.
            let class_of_leaf = (0..5).map(Some).chain([None]).collect();
            let beside = ClassTargets { class_of_leaf, ..alone.clone() };
            for (text, logits) in logits.chunks_exact(5).enumerate() {
                let (mut one, mut other) = ([9.0; 5], [9.0; 6]);
                let label = text as u32 % 5;
                let loss = alone.text_loss(logits, label, 0.3, &mut one);
                let with = [logits, &[7.0]].concat();
                assert_eq!(loss, beside.text_loss(&with, label, 0.3, &mut other));
                assert_eq!((&one[..], other[5]), (&other[..5], 0.0));
            }
        }
        let alone = ClassTargets { class_of_leaf: vec![Some(0), Some(1)], classes: 2, smoothing: 0.1 };
        assert!(alone.text_loss(&[f32::NAN, 1.0], 1, 1.0, &mut [0.0; 2]).is_nan());
    }
}
