//! The figures of a run, for programs and for people.

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::Serialize;
use serde_json::json;

use crate::{
    Options,
    health::Health,
    tally::{Counts, quantile},
};

/// What a run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: String,
    seconds: f64,
    requests_per_second: f64,
    texts_per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    errors: u64,
    exhausted: u64,
    versions: Vec<String>,
    generator_cpu_share: Option<f64>,
    server_rss_bytes: Option<u64>,
    /// Only of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_sent: Option<u64>,
    /// Only where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthReport>,
}

#[derive(Debug, Serialize)]
struct HealthReport {
    checks: usize,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
    errors: u64,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        texts: usize,
        mut counts: Counts,
        generator_cpu_share: Option<f64>,
        server_rss_bytes: Option<u64>,
        health: Option<Health>,
    ) -> Self {
        counts.latencies.sort_unstable();
        let requests_per_second = counts.latencies.len() as f64 / options.seconds;
        let milliseconds = |share| quantile(&counts.latencies, share);
        Self {
            scenario: clap::ValueEnum::to_possible_value(&options.scenario)
                .map(|name| name.get_name().to_owned())
                .unwrap_or_default(),
            seconds: options.seconds,
            requests_per_second,
            texts_per_second: requests_per_second * texts as f64,
            p50_ms: milliseconds(0.5),
            p99_ms: milliseconds(0.99),
            p999_ms: milliseconds(0.999),
            errors: counts.errors,
            exhausted: counts.exhausted,
            versions: counts.versions.into_iter().collect(),
            generator_cpu_share,
            server_rss_bytes,
            not_sent: options.rate.map(|_| counts.not_sent),
            health: health.map(|health| HealthReport {
                checks: health.latencies.len(),
                p99_ms: quantile(&health.latencies, 0.99),
                max_ms: quantile(&health.latencies, 1.0),
                errors: health.errors,
            }),
        }
    }

    /// One object, on one line.
    pub(crate) fn json(&self) -> String {
        json!(self).to_string()
    }

    /// A line for each figure.
    pub(crate) fn table(&self) -> Table {
        let number =
            |value: Option<f64>, digits| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        let mut table = Table::new();
        table.load_preset(NOTHING);
        let mut row = |name: &str, value: String| {
            table.add_row([name, &value]);
        };
        row("scenario", self.scenario.clone());
        row("seconds", number(Some(self.seconds), 1));
        row("requests a second", number(Some(self.requests_per_second), 0));
        row("texts a second", number(Some(self.texts_per_second), 0));
        row("p50, ms", number(self.p50_ms, 3));
        row("p99, ms", number(self.p99_ms, 3));
        row("p99.9, ms", number(self.p999_ms, 3));
        row("errors", self.errors.to_string());
        row("exhausted", self.exhausted.to_string());
        if let Some(not_sent) = self.not_sent {
            row("due but not sent", not_sent.to_string());
        }
        row("versions", self.versions.join(", "));
        row("generator, cores", number(self.generator_cpu_share, 2));
        row("server, MiB", number(self.server_rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)), 0));
        if let Some(health) = &self.health {
            row("health checks", health.checks.to_string());
            row("health p99, ms", number(health.p99_ms, 3));
            row("health at most, ms", number(health.max_ms, 3));
            row("health errors", health.errors.to_string());
        }
        if let Some(values) = table.column_mut(1) {
            values.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}
