//! Numbers that are counted on the way of every request: atomics, so that nobody waits for a lock, and no labels.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// How values are distributed over buckets.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// Values up to each bound and above the one before.
    buckets: [AtomicU64; N],
    /// Values above the last bound.
    above: AtomicU64,
    /// The sum, as the bits of a float.
    sum: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper bounds and how many values are up to each and above the one before; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all values.
    pub sum: f64,
}

impl Counter {
    /// Nothing counted.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// How many were counted.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<const N: usize> Histogram<N> {
    /// No values, with upper bounds of buckets, ascending.
    pub fn new(bounds: &'static [f64; N]) -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, buckets, above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn add(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.buckets.get(at).unwrap_or(&self.above).fetch_add(1, Relaxed);
        self.sum.update(Relaxed, Relaxed, |sum| (f64::from_bits(sum) + value).to_bits());
    }

    /// What was counted until now.
    pub fn get(&self) -> Distribution {
        let bounds = self.bounds.iter().copied().chain([f64::MAX]);
        let counts = self.buckets.iter().chain([&self.above]).map(|count| count.load(Relaxed));
        Distribution { buckets: bounds.zip(counts).collect(), sum: f64::from_bits(self.sum.load(Relaxed)) }
    }
}

impl Distribution {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 7.0] {
            histogram.add(value);
        }
        let found = histogram.get();
        assert_eq!(found.buckets, [(1.0, 2), (2.0, 1), (f64::MAX, 1)]);
        assert_eq!((found.count(), found.sum), (4, 10.0));
    }
}
