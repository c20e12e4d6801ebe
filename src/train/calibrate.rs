//! Makes probabilities mean what they say: the scales of the two branches, and from where on an answer can be trusted.
//!
//! ```text
//! z = s0 d + s1 u        s = argmin  - sum over the texts of log P[label] + l/2 |s - s_default|^2
//! ```
//!
//! Two numbers, so a few hundred validation texts are enough to fit them. With one branch this is temperature scaling
//! (Guo et al. 2017, "On calibration of modern neural networks"); with two it also weighs one branch against the other
//! (Hinton 2002, "Products of experts"). Newton's method with the covariance of the logits as curvature.

use crate::{
    model::{BranchLogits, DEFAULT_SCALES},
    taxonomy::LeafGroups,
};

/// l: how many texts' worth the default is trusted.
const PRIOR: f64 = 5.0;

const MAX_STEPS: usize = 50;
const MAX_SCALE: f64 = 100.0;
const MAX_CURVE_POINTS: usize = 100;

/// An answer: how sure it was, and whether it was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Probability of the best class.
    pub confidence: f64,
    /// Whether that is the class of the label.
    pub right: bool,
}

/// What refusing to answer below a confidence costs and brings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RejectionPoint {
    /// Answers that are less sure are refused.
    pub min_confidence: f64,
    /// Share of the other answers that were right.
    pub precision: f64,
    /// Share of the texts that were answered.
    pub coverage: f64,
}

/// The scales that make the labels of texts most likely.
pub(super) fn fit_scales(logits: &BranchLogits, labels: &[u32], groups: &LeafGroups, wide: bool) -> [f32; 2] {
    let default = DEFAULT_SCALES.map(f64::from);
    let mut scales = default;
    let mut here = Curvature::at(scales, logits, labels, groups);
    for _ in 0..MAX_STEPS {
        let mut gradient = [0, 1].map(|k| here.gradient[k] + PRIOR * (scales[k] - default[k]));
        let mut curvature = here.curvature();
        (0..2).for_each(|k| curvature[k][k] += PRIOR);
        // A scale that is fixed, or at its bound and pushed beyond, stays out of the step.
        for k in 0..2 {
            if k == 1 && !wide || scales[k] <= 0.0 && gradient[k] > 0.0 {
                (gradient[k], curvature[0][1], curvature[1][0]) = (0.0, 0.0, 0.0);
            }
        }
        let step = solve(curvature, gradient);
        let mut length = 1.0;
        let better = loop {
            let tried = [0, 1].map(|k| (scales[k] - length * step[k]).clamp(0.0, MAX_SCALE));
            let there = Curvature::at(tried, logits, labels, groups);
            if there.penalised(tried, default) < here.penalised(scales, default) {
                break Some((tried, there));
            }
            length /= 2.0;
            if length < 1e-4 {
                break None;
            }
        };
        let Some((tried, there)) = better else { break };
        let moved = (tried[0] - scales[0]).abs() + (tried[1] - scales[1]).abs();
        (scales, here) = (tried, there);
        if moved < 1e-6 {
            break;
        }
    }
    scales.map(|scale| scale as f32)
}

/// The loss at some scales, in nats over all texts, with its derivatives.
struct Curvature {
    loss: f64,
    gradient: [f64; 2],
    /// Covariance of the logits over all leaves, and over the leaves of the label; the second derivative is their
    /// difference.
    all: [[f64; 2]; 2],
    own: [[f64; 2]; 2],
}

impl Curvature {
    fn at(scales: [f64; 2], logits: &BranchLogits, labels: &[u32], groups: &LeafGroups) -> Self {
        let mut sum = Self { loss: 0.0, gradient: [0.0; 2], all: [[0.0; 2]; 2], own: [[0.0; 2]; 2] };
        let mut weights = vec![0.0; logits.leaves];
        let rows = logits.deep.chunks_exact(logits.leaves).zip(logits.wide.chunks_exact(logits.leaves));
        for ((deep, wide), &label) in rows.zip(labels) {
            let leaves = || {
                let values = deep.iter().zip(wide).map(|(&d, &u)| [f64::from(d), f64::from(u)]);
                values.zip(&groups.class_of_row).enumerate()
            };
            let score = |[d, u]: [f64; 2]| scales[0] * d + scales[1] * u;
            let max = leaves().filter(|(_, (_, class))| class.is_some()).map(|(_, (z, _))| score(z));
            let max = max.fold(f64::NEG_INFINITY, f64::max);
            // Sums over all leaves, and over those of the label: of 1, z and z z^T.
            let (mut all, mut own) = (Moments::default(), Moments::default());
            for (leaf, (z, class)) in leaves() {
                let Some(class) = *class else { continue };
                weights[leaf] = (score(z) - max).exp();
                all.add(weights[leaf], z);
                if class == label {
                    own.add(weights[leaf], z);
                }
            }
            sum.loss += all.total.ln() - own.total.max(f64::MIN_POSITIVE).ln();
            for k in 0..2 {
                sum.gradient[k] += all.mean(k) - own.mean(k);
                for l in 0..2 {
                    sum.all[k][l] += all.covariance(k, l);
                    sum.own[k][l] += own.covariance(k, l);
                }
            }
        }
        sum
    }

    /// The second derivative where it is positive definite, as it is with one leaf a class; else an upper bound.
    fn curvature(&self) -> [[f64; 2]; 2] {
        let exact = [0, 1].map(|k| [0, 1].map(|l| self.all[k][l] - self.own[k][l]));
        let determinant = exact[0][0] * exact[1][1] - exact[0][1] * exact[1][0];
        if exact[0][0] > 0.0 && determinant > 0.0 { exact } else { self.all }
    }

    fn penalised(&self, scales: [f64; 2], default: [f64; 2]) -> f64 {
        let distance = (0..2).map(|k| (scales[k] - default[k]).powi(2)).sum::<f64>();
        self.loss + 0.5 * PRIOR * distance
    }
}

/// Weighted sums over leaves.
#[derive(Default)]
struct Moments {
    total: f64,
    first: [f64; 2],
    second: [[f64; 2]; 2],
}

impl Moments {
    fn add(&mut self, weight: f64, z: [f64; 2]) {
        self.total += weight;
        for k in 0..2 {
            self.first[k] += weight * z[k];
            (0..2).for_each(|l| self.second[k][l] += weight * z[k] * z[l]);
        }
    }

    fn mean(&self, k: usize) -> f64 {
        if self.total > 0.0 { self.first[k] / self.total } else { 0.0 }
    }

    fn covariance(&self, k: usize, l: usize) -> f64 {
        if self.total > 0.0 { self.second[k][l] / self.total - self.mean(k) * self.mean(l) } else { 0.0 }
    }
}

/// The solution of a positive definite system.
fn solve(a: [[f64; 2]; 2], b: [f64; 2]) -> [f64; 2] {
    let determinant = a[0][0] * a[1][1] - a[0][1] * a[1][0];
    [(b[0] * a[1][1] - b[1] * a[0][1]) / determinant, (b[1] * a[0][0] - b[0] * a[1][0]) / determinant]
}

/// From the answers to validation texts, the confidence to ask for at each precision that can be had: precision rises and
/// coverage falls from point to point. Empty without answers.
pub(super) fn rejection_curve(answers: &[Judged]) -> Vec<RejectionPoint> {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut right = 0;
    let prefixes: Vec<RejectionPoint> = sorted
        .iter()
        .enumerate()
        .filter_map(|(at, answer)| {
            right += usize::from(answer.right);
            // Equally sure answers are refused together.
            let last = sorted.get(at + 1).is_none_or(|next| next.confidence < answer.confidence);
            last.then(|| RejectionPoint {
                min_confidence: answer.confidence,
                precision: right as f64 / (at + 1) as f64,
                coverage: (at + 1) as f64 / sorted.len() as f64,
            })
        })
        .collect();
    let mut curve: Vec<RejectionPoint> = Vec::new();
    for point in prefixes.into_iter().rev() {
        if curve.last().is_none_or(|last| point.precision > last.precision) {
            curve.push(point);
        }
    }
    let every = curve.len().div_ceil(MAX_CURVE_POINTS).max(1);
    let last = curve.len().saturating_sub(1);
    curve.into_iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last).map(|(_, p)| p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taxonomy::ClassId;

    fn groups(class_of_row: &[Option<u32>]) -> LeafGroups {
        let classes = class_of_row.iter().flatten().max().unwrap() + 1;
        LeafGroups { classes: (0..classes).map(ClassId).collect(), class_of_row: class_of_row.to_vec() }
    }

    /// Texts of three leaves: the deep branch is right three times of four but shouts, the wide branch is noise.
    fn loud(texts: usize) -> (BranchLogits, Vec<u32>) {
        let (mut deep, mut wide, mut labels) = (vec![0.0; texts * 3], vec![0.0; texts * 3], vec![]);
        for text in 0..texts {
            let label = text % 3;
            let answer = if text % 4 == 3 { (label + 1) % 3 } else { label };
            deep[text * 3 + answer] = 20.0;
            wide[text * 3 + text * 7 % 3 * 5 % 3] = 3.0;
            labels.push(label as u32);
        }
        (BranchLogits { deep, wide, leaves: 3 }, labels)
    }

    #[test]
    fn a_branch_that_shouts_is_toned_down_to_its_accuracy() {
        let (logits, labels) = loud(1200);
        let groups = groups(&[Some(0), Some(1), Some(2)]);
        let [deep, wide] = fit_scales(&logits, &labels, &groups, false);
        assert_eq!(wide, DEFAULT_SCALES[1]);
        let without_noise = BranchLogits { wide: vec![0.0; 3600], ..logits };
        let [deep_alone, _] = fit_scales(&without_noise, &labels, &groups, false);
        // Right with 3/4, each other class with 1/8: the logit is ln 6.
        assert!((deep_alone - 6f32.ln() / 20.0).abs() < 2e-3, "{deep_alone}");
        assert!(deep > 0.0 && deep < 0.2);
    }

    #[test]
    fn no_other_scales_are_better() {
        let (mut logits, labels) = loud(300);
        for (text, &label) in labels.iter().enumerate() {
            if text % 5 != 0 {
                logits.wide[text * 3 + label as usize] += 2.0;
            }
        }
        for classes in [[Some(0), Some(1), Some(2)], [Some(0), Some(1), Some(1)], [Some(0), None, Some(1)]] {
            let groups = groups(&classes);
            let pairs = labels.iter().map(|&label| classes[label as usize].unwrap_or(0));
            let labels: Vec<u32> = pairs.collect();
            let best = fit_scales(&logits, &labels, &groups, true).map(f64::from);
            let default = DEFAULT_SCALES.map(f64::from);
            let loss = |scales| Curvature::at(scales, &logits, &labels, &groups).penalised(scales, default);
            for other in [[0.01, 0.0], [-0.01, 0.0], [0.0, 0.01], [0.0, -0.01]] {
                let moved = [best[0] + other[0], best[1] + other[1]];
                assert!(moved.iter().any(|s| *s < 0.0) || loss(moved) > loss(best), "{best:?} {other:?}");
            }
        }
    }

    #[test]
    fn without_texts_the_default_stays() {
        let none = BranchLogits { deep: vec![], wide: vec![], leaves: 2 };
        assert_eq!(fit_scales(&none, &[], &groups(&[Some(0), Some(1)]), true), DEFAULT_SCALES);
    }

    #[test]
    fn the_curve_trades_coverage_for_precision() {
        let answers: Vec<Judged> = [(0.9, true), (0.8, true), (0.8, false), (0.6, true), (0.5, false)]
            .map(|(confidence, right)| Judged { confidence, right })
            .to_vec();
        let curve = rejection_curve(&answers);
        let points: Vec<_> = curve.iter().map(|p| (p.min_confidence, p.precision, p.coverage)).collect();
        assert_eq!(points, [(0.5, 0.6, 1.0), (0.6, 0.75, 0.8), (0.9, 1.0, 0.2)]);
        assert!(rejection_curve(&[]).is_empty());
        let many: Vec<Judged> = (0..5000)
            .map(|i| Judged { confidence: f64::from(i) / 5000.0, right: i * i % 5000 < i })
            .collect();
        let curve = rejection_curve(&many);
        assert!(curve.len() <= MAX_CURVE_POINTS + 1);
        assert!(curve.windows(2).all(|p| p[0].precision < p[1].precision && p[0].coverage > p[1].coverage));
    }
}
