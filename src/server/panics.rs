//! Panics, wherever in the process: counted, beside what is done about them where they happen.

use std::{panic, sync::Once};

use crate::measure::Counter;

static PANICS: Counter = Counter::new();
static COUNTED: Once = Once::new();

/// Counts panics from now on. They go on being reported as before.
pub(super) fn count() {
    COUNTED.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.add_one();
            report(info);
        }));
    });
}

/// Panics that were counted.
pub(super) fn counted() -> u64 {
    PANICS.get()
}
