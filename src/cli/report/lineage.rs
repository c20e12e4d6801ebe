//! How versions came from each other, and in which classes they answer.

use std::collections::BTreeMap;

use svg::node::element::{Circle, Group, Path, SVG, Title, path::Data};

use super::chart::{COLOURS, picture, rounded, text};
use crate::{
    cli::{
        json,
        output::{excerpt, percent},
    },
    proto::v1::{HistoryEntry, Version, VersionOrigin},
};

const ROW: f64 = 30.0;
const TOP: f64 = 20.0;
const LANE: f64 = 40.0;
/// Where the texts of versions and of classes begin.
const TEXTS: f64 = 120.0;
const CLASSES: f64 = 420.0;
const WIDTH: f64 = 940.0;
/// Versions that are drawn, the newest.
const MOST: usize = 40;
/// Characters of what changed.
const CHANGE: usize = 80;

/// One version below the other, the newest first, with lines from what each was made of.
pub(super) fn draw(versions: &[Version], serving: Option<u64>, history: &[HistoryEntry]) -> SVG {
    let shown: Vec<&Version> = versions.iter().take(MOST).collect();
    let rows: BTreeMap<u64, f64> =
        shown.iter().enumerate().map(|(row, version)| (version.number, TOP + row as f64 * ROW)).collect();
    let said: BTreeMap<u64, &HistoryEntry> = history.iter().map(|entry| (entry.revision, entry)).collect();
    let mut drawn = Group::new();
    for version in &shown {
        let to = rows[&version.number];
        if let Some(from) = rows.get(&version.parent) {
            drawn = drawn.add(connection(*from, to));
        }
    }
    let mut revision_above = 0;
    for version in &shown {
        let y = rows[&version.number];
        let serves = serving == Some(version.number);
        let colour = match version.origin() {
            VersionOrigin::Training => COLOURS[2],
            VersionOrigin::Undo => COLOURS[3],
            VersionOrigin::Import => COLOURS[4],
            VersionOrigin::Instant | VersionOrigin::Unspecified => COLOURS[0],
        };
        let dot = Circle::new().set("cx", LANE).set("cy", rounded(y)).set("r", if serves { 8 } else { 5 });
        drawn = drawn.add(dot.set("fill", colour).add(Title::new(version.reason.clone())));
        let accuracy = version.report.as_ref().and_then(|report| report.validation_accuracy).map(percent);
        let words = [
            Some(format!("version {}", version.number)),
            Some(json::origin(version.origin())),
            accuracy,
            serves.then(|| "serves".to_owned()),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        let weight = if serves { "bold" } else { "normal" };
        drawn = drawn.add(text(TEXTS, y + 4.0, &words.join(" · ")).set("font-weight", weight));
        if version.manifest_revision != revision_above {
            revision_above = version.manifest_revision;
            let what = said.get(&revision_above).map_or("", |entry| entry.description.as_str());
            let line = format!("revision {revision_above}: {}", excerpt(what, CHANGE));
            drawn = drawn.add(text(CLASSES, y + 4.0, &line));
        }
    }
    let height = 2.0 * TOP + shown.len().saturating_sub(1) as f64 * ROW;
    picture(WIDTH, height, "Versions, the newest first, with lines from those they were made of").add(drawn)
}

/// A line from a row to one above it: straight to the next, around those between.
fn connection(from: f64, to: f64) -> Path {
    let bend = if from - to > ROW * 1.5 { 28.0 + (from - to).min(ROW * 20.0) / 20.0 } else { 0.0 };
    let data = Data::new().move_to((LANE, rounded(from))).cubic_curve_to((
        LANE + bend,
        rounded(from),
        LANE + bend,
        rounded(to),
        LANE,
        rounded(to),
    ));
    Path::new().set("d", data).set("fill", "none").set("stroke", "#9ca3af").set("stroke-width", 2)
}
