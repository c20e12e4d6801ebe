//! Whether the points of a class form two clusters, rather than one blob.
//!
//! ```text
//! y [n, K]      the points along the K axes on which they vary most
//! explained     1 - (squares within two clusters) / (squares about the mean), by 2-means on y
//! blob          the same of points drawn from a normal distribution with the variance of y along each axis
//! separation    1 - mean(blob) / explained
//! ```
//!
//! Two clusters are always found, and in a blob they explain something as well. So what they explain is compared with what
//! they would explain of one blob of the same spread (SigClust, Liu et al. 2008, "Statistical significance of clustering for
//! high-dimension, low-sample size data"). The test says whether there is more than chance; the separation says how much
//! more, and does not grow with the number of points.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// K: more axes hold noise, fewer miss what tells the parts apart.
const AXES: usize = 10;
/// Steps towards the axes.
const AXIS_STEPS: usize = 30;
/// Blobs that are drawn.
const BLOBS: usize = 20;
/// How many standard deviations of the blobs the clusters must explain more than they do.
const MIN_DEVIATIONS: f64 = 3.0;
/// Starts of 2-means, of which the best counts.
const STARTS: usize = 4;
/// Most steps of 2-means.
const STEPS: usize = 50;

/// Points of a part at least: of fewer one cannot say that they are one thing.
pub(super) const MIN_PART: usize = 8;

/// Two clusters of points.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Separated {
    /// Whether each point is in the second cluster, `[n]`.
    pub(super) second: Vec<bool>,
    /// 0 for what one blob would explain as well, towards 1 for two points far apart.
    pub(super) separation: f64,
}

/// The two clusters of points `[n, width]`; none where they are one blob, or one of the two would be too small.
pub(super) fn separate(points: &[f32], width: usize) -> Option<Separated> {
    let n = points.len() / width;
    if n < 2 * MIN_PART {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(n as u64);
    let y = along_axes(points, width, &mut random);
    let (second, explained) = two_means(&y, &mut random);
    let small = second.iter().filter(|second| **second).count();
    if small.min(n - small) < MIN_PART {
        return None;
    }
    let spread = deviations(&y);
    let blobs: Vec<f64> = (0..BLOBS)
        .map(|_| {
            let mut blob: Vec<Point> =
                (0..n).map(|_| spread.map(|deviation| deviation * normal(&mut random))).collect();
            centre(&mut blob);
            two_means(&blob, &mut random).1
        })
        .collect();
    let mean = blobs.iter().sum::<f64>() / BLOBS as f64;
    let variance = blobs.iter().map(|blob| (blob - mean).powi(2)).sum::<f64>() / (BLOBS - 1) as f64;
    let sure = explained > mean + MIN_DEVIATIONS * variance.sqrt();
    sure.then(|| Separated { second, separation: 1.0 - mean / explained })
}

/// A point along the axes.
type Point = [f32; AXES];

/// Points `[n, width]` along the axes on which they vary most, about their mean: by orthogonal iteration on the products of
/// the points, `[n, n]`. Axes that the points do not have are 0.
fn along_axes(points: &[f32], width: usize, random: &mut ChaCha8Rng) -> Vec<Point> {
    let n = points.len() / width;
    let mut mean = vec![0.0f32; width];
    for point in points.chunks_exact(width) {
        mean.iter_mut().zip(point).for_each(|(mean, x)| *mean += x / n as f32);
    }
    let centred: Vec<f32> = points
        .chunks_exact(width)
        .flat_map(|point| point.iter().zip(&mean).map(|(x, mean)| x - mean))
        .collect();
    let row = |at: usize| &centred[at * width..][..width];
    let mut products = vec![0.0f32; n * n];
    for a in 0..n {
        for b in 0..=a {
            let product = dot(row(a), row(b));
            (products[a * n + b], products[b * n + a]) = (product, product);
        }
    }
    let mut axes: Vec<Vec<f32>> = (0..AXES).map(|_| (0..n).map(|_| normal(random)).collect()).collect();
    orthonormalise(&mut axes);
    for _ in 0..AXIS_STEPS {
        for axis in &mut axes {
            *axis = products.chunks_exact(n).map(|row| dot(row, axis)).collect();
        }
        orthonormalise(&mut axes);
    }
    let mut y = vec![[0.0; AXES]; n];
    for (at, axis) in axes.iter().enumerate() {
        let image = products.chunks_exact(n).map(|row| dot(row, axis));
        let length = image.zip(axis).map(|(image, x)| image * x).sum::<f32>().max(0.0).sqrt();
        y.iter_mut().zip(axis).for_each(|(y, x)| y[at] = x * length);
    }
    centre(&mut y);
    y
}

/// Makes vectors orthogonal and of length 1 in order, by Gram and Schmidt, twice for the sake of rounding. What is nothing
/// but rounding beside those before becomes 0.
pub(super) fn orthonormalise(vectors: &mut [Vec<f32>]) {
    for at in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(at);
        let vector = &mut rest[0];
        let length = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let along = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(x, other)| *x -= along * other);
            }
        }
        let left = dot(vector, vector).sqrt();
        let scale = if left > 1e-5 * length { 1.0 / left } else { 0.0 };
        vector.iter_mut().for_each(|x| *x *= scale);
    }
}

/// Sums in eight lanes, which the processor adds at once.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|lane| lanes[lane] += a[lane] * b[lane]);
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// A normal number, by Box and Muller 1958.
pub(super) fn normal(random: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.random::<f64>()).cos()) as f32
}

fn centre(points: &mut [Point]) {
    let mut mean = [0.0; AXES];
    points.iter().for_each(|point| (0..AXES).for_each(|at| mean[at] += point[at]));
    let n = points.len() as f32;
    points.iter_mut().for_each(|point| (0..AXES).for_each(|at| point[at] -= mean[at] / n));
}

/// Standard deviations of centred points along the axes.
fn deviations(points: &[Point]) -> Point {
    let mut squares = [0.0; AXES];
    points.iter().for_each(|point| (0..AXES).for_each(|at| squares[at] += point[at] * point[at]));
    squares.map(|square| (square / points.len() as f32).sqrt())
}

fn distance(a: &Point, b: &Point) -> f32 {
    (0..AXES).map(|at| (a[at] - b[at]).powi(2)).sum()
}

/// Two clusters of centred points, whether each point is in the second, and the share of the squares that they explain:
/// the best of several starts of Lloyd's algorithm, chosen as k-means++ does (Arthur and Vassilvitskii 2007).
fn two_means(points: &[Point], random: &mut ChaCha8Rng) -> (Vec<bool>, f64) {
    let total: f64 = points.iter().map(|point| f64::from(distance(point, &[0.0; AXES]))).sum();
    let mut best = (vec![false; points.len()], 0.0);
    if total <= 0.0 {
        return best;
    }
    for _ in 0..STARTS {
        let first = points[random.random_range(0..points.len())];
        let far: Vec<f32> = points.iter().map(|point| distance(point, &first)).collect();
        let mut ticket = random.random::<f32>() * far.iter().sum::<f32>();
        let chosen = far.iter().position(|far| {
            ticket -= far;
            ticket < 0.0
        });
        let mut centres = [first, points[chosen.unwrap_or(points.len() - 1)]];
        let mut second = vec![false; points.len()];
        for _ in 0..STEPS {
            let next: Vec<bool> = points
                .iter()
                .map(|point| distance(point, &centres[1]) < distance(point, &centres[0]))
                .collect();
            let settled = next == second;
            second = next;
            centres = centres_of(points, &second);
            if settled {
                break;
            }
        }
        // Centred points: the squares between are those of the two centres about 0.
        let count = second.iter().filter(|second| **second).count();
        let square = |centre: &Point, count: usize| count as f64 * f64::from(distance(centre, &[0.0; AXES]));
        let between = square(&centres[0], points.len() - count) + square(&centres[1], count);
        if between / total > best.1 {
            best = (second, between / total);
        }
    }
    best
}

/// The means of the two clusters; 0 of one that is empty.
fn centres_of(points: &[Point], second: &[bool]) -> [Point; 2] {
    let (mut centres, mut counts) = ([[0.0; AXES]; 2], [0.0f32; 2]);
    for (point, second) in points.iter().zip(second) {
        let side = usize::from(*second);
        counts[side] += 1.0;
        (0..AXES).for_each(|at| centres[side][at] += point[at]);
    }
    for (centre, count) in centres.iter_mut().zip(counts) {
        centre.iter_mut().for_each(|x| *x /= count.max(1.0));
    }
    centres
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 40;

    /// Points about 0 with unlike spreads; the second half is moved along one direction.
    fn points(n: usize, apart: f32, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let spread = |at: usize| 3.0 / (1.0 + at as f32 / 4.0);
        (0..n * WIDTH)
            .map(|i| {
                let moved =
                    if i / WIDTH >= n / 2 { apart * if i % 2 == 0 { 1.0 } else { -1.0 } } else { 0.0 };
                spread(i % WIDTH) * normal(&mut random) + moved
            })
            .collect()
    }

    #[test]
    fn two_blobs_are_found_and_told_apart() {
        for seed in 0..5 {
            let found = separate(&points(120, 2.0, seed), WIDTH).unwrap();
            assert!(found.separation > 0.3, "{}", found.separation);
            let split = |second: &[bool]| second.iter().filter(|second| **second != found.second[0]).count();
            assert_eq!((split(&found.second[..60]), split(&found.second[60..])), (0, 60));
        }
    }

    #[test]
    fn one_blob_stays_one_however_many_points_it_has() {
        for n in [2 * MIN_PART, 60, 400] {
            let found = (0..10).filter(|seed| separate(&points(n, 0.0, *seed), WIDTH).is_some()).count();
            assert!(found <= 1, "{found} of 10 blobs of {n} were split");
        }
    }

    #[test]
    fn the_separation_says_how_far_apart_whatever_the_number() {
        let separation = |n, apart| separate(&points(n, apart, 3), WIDTH).unwrap().separation;
        assert!(separation(200, 1.2) < separation(200, 2.0));
        assert!(separation(200, 2.0) < separation(200, 6.0));
        assert!((separation(100, 3.0) - separation(800, 3.0)).abs() < 0.1);
    }

    #[test]
    fn the_same_points_are_separated_the_same_way() {
        let points = points(90, 2.0, 1);
        assert_eq!(separate(&points, WIDTH), separate(&points, WIDTH));
    }

    #[test]
    fn what_is_too_small_or_alike_is_left_whole() {
        assert_eq!(separate(&points(2 * MIN_PART - 1, 9.0, 1), WIDTH), None);
        assert_eq!(separate(&[1.0; 50 * WIDTH], WIDTH), None);
        // Three that are far away are no class.
        let mut odd = points(100, 0.0, 1);
        odd[..3 * WIDTH].iter_mut().for_each(|x| *x += 50.0);
        assert_eq!(separate(&odd, WIDTH), None);
    }
}
