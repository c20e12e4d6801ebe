//! What the work of answering is measured by.

use crate::measure::{Counter, Histogram};

/// Texts of a batch.
const TEXTS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Seconds that a batch takes.
const SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Measurements of the batches.
#[derive(Debug)]
pub struct BatchStats {
    /// Texts of each batch.
    pub texts: Histogram<7>,
    /// Seconds that each took to compute.
    pub seconds: Histogram<12>,
}

/// Measurements of the versions in memory.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Versions that were asked for and in memory.
    pub hits: Counter,
    /// Versions that were loaded.
    pub loads: Counter,
    /// Versions that were dropped to stay within the budget.
    pub evictions: Counter,
}

impl Default for BatchStats {
    fn default() -> Self {
        Self { texts: Histogram::new(&TEXTS), seconds: Histogram::new(&SECONDS) }
    }
}
