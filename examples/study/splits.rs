//! Whether the suggested splits find classes that are two: pairs of classes that are joined at random, in a model that never
//! knew them apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::PathBuf,
    time::Instant,
};

use clap::Args;
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use taxond::{
    model::Preset,
    proto::v1::{LabelledText, SplitSuggestion, TrainRequest},
};
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    data::{preset, read},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Examples to train on.
    #[arg(long)]
    train: PathBuf,
    /// Pairs of classes that are joined.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Leaves out every other text of the joined classes, so that they are as large as others.
    #[arg(long)]
    thin: bool,
    /// Network to train: default or seed.
    #[arg(long, default_value = "default", value_parser = preset)]
    preset: Preset,
    /// Seed of the pairs and of the training.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Epochs of the training; as the recipe says if absent.
    #[arg(long)]
    epochs: Option<u32>,
    /// Prints one JSON object instead of sentences.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Runtime::new()?.block_on(study(options))
}

async fn study(options: &Options) -> Result<(), Box<dyn Error>> {
    let rows = read(&options.train)?;
    let labels: BTreeSet<String> = rows.iter().map(|row| row.label.to_string()).collect();
    let mut labels: Vec<String> = labels.into_iter().collect();
    labels.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let joint: BTreeMap<&String, String> = labels
        .chunks_exact(2)
        .take(options.pairs)
        .flat_map(|pair| pair.iter().map(|label| (label, pair.join(" or "))))
        .collect();
    let joined: BTreeSet<&String> = joint.values().collect();
    let mut truth: BTreeMap<String, String> = BTreeMap::new();
    let mut texts = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let label = row.label.to_string();
        let together = joint.get(&label);
        if together.is_none() || !options.thin || at % 2 == 0 {
            let name = together.unwrap_or(&label).clone();
            texts.push(LabelledText { text: row.text.clone(), label: name });
            truth.insert(row.text.clone(), label);
        }
    }

    let folder = TempDir::new()?;
    let mut daemon = Daemon::start(&folder).await?;
    let training =
        TrainRequest { seed: Some(options.seed), epochs: options.epochs, ..TrainRequest::default() };
    daemon.learn("joined", &texts, options.preset, training).await?;
    let began = Instant::now();
    let answer = daemon.suggest_splits("joined").await?;
    let seconds = began.elapsed().as_secs_f64();
    let by_id = daemon.texts("joined").await?;
    daemon.stop().await?;

    let hits: Vec<bool> = answer.suggestions.iter().map(|split| joined.contains(&split.class_name)).collect();
    let found: Vec<&SplitSuggestion> =
        answer.suggestions.iter().filter(|split| joined.contains(&split.class_name)).collect();
    let purities = found.iter().map(|split| purity(split, &by_id, &truth));
    let report = json!({
        "seed": options.seed,
        "thin": options.thin,
        "classes": answer.classes,
        "joined": joined.len(),
        "suggested": hits.len(),
        "found": found.len(),
        "first": hits.iter().take(joined.len()).filter(|hit| **hit).count(),
        "average_precision": average_precision(&hits, joined.len()),
        "purity": purities.sum::<f64>() / found.len().max(1) as f64,
        "seconds": seconds,
    });
    if options.json {
        println!("{report}");
        return Ok(());
    }
    for split in &answer.suggestions {
        let mark = if joined.contains(&split.class_name) { '*' } else { ' ' };
        let sizes: Vec<usize> = split.parts.iter().map(|part| part.example_ids.len()).collect();
        println!("{mark} {:.3} {} {sizes:?}", split.separation, split.class_name);
    }
    println!("{report:#}");
    Ok(())
}

/// The mean precision at each hit, with 0 for those that are not there.
fn average_precision(hits: &[bool], wanted: usize) -> f64 {
    let at = hits.iter().enumerate().filter(|(_, hit)| **hit).map(|(at, _)| at + 1);
    let precisions = at.zip(1..).map(|(at, nth)| f64::from(nth) / at as f64);
    precisions.sum::<f64>() / wanted.max(1) as f64
}

/// The share of the examples that are in the part of their true label, the parts named as fits best.
fn purity(split: &SplitSuggestion, texts: &BTreeMap<u64, String>, truth: &BTreeMap<String, String>) -> f64 {
    let label = |id: &u64| texts.get(id).and_then(|text| truth.get(text));
    let mut counts: BTreeMap<&String, [usize; 2]> = BTreeMap::new();
    for (side, part) in split.parts.iter().enumerate().take(2) {
        for label in part.example_ids.iter().filter_map(label) {
            counts.entry(label).or_default()[side] += 1;
        }
    }
    let same = |flip: usize| -> usize {
        counts.values().enumerate().map(|(at, sides)| sides[(at % 2) ^ flip]).sum()
    };
    let all: usize = counts.values().flatten().sum();
    same(0).max(same(1)) as f64 / all.max(1) as f64
}
