//! Trains a network on a CSV file (header `text,category`) without a daemon, and measures it: for choosing recipes and for
//! timing.
//!
//! ```text
//! cargo run --release --example study -- train --train train.csv --test test.csv --seed 1 --json
//! ```
//!
//! A tenth of the training file, every tenth row, validates and chooses the best epoch. Without `--test` that tenth is
//! all that is measured.

use std::{
    collections::BTreeSet, error::Error, fs::File, io::BufReader, ops::ControlFlow, path::PathBuf,
    time::Instant,
};

use clap::{Args, Parser, Subcommand};
use taxond::{
    model::{Architecture, Checkpoint, Classifier, DeviceChoice, Preset, VectorFile, from_vectors, surgery},
    registry::Mode,
    taxonomy::{ClassName, LeafGroups, LeafId, Manifest},
    text::EncodedText,
    train::{Confusion, Memory, Optimiser, Recipe, Sample, fit, metrics::argmax},
};

/// Trains and measures networks without a daemon.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains from scratch and measures accuracy and seconds.
    Train(Options),
}

#[derive(Debug, Args)]
struct Options {
    /// Examples to train and validate on.
    #[arg(long)]
    train: PathBuf,
    /// Examples to measure on.
    #[arg(long)]
    test: Option<PathBuf>,
    /// Seed of everything drawn at random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Passes over the examples; the recipe's number if absent.
    #[arg(long)]
    epochs: Option<u32>,
    /// Peak learning rate; the recipe's if absent.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Trains the seed network instead of the default one.
    #[arg(long)]
    seed_preset: bool,
    /// Trains by gradient descent instead of AdamW.
    #[arg(long)]
    sgd: bool,
    /// Reads the words of a text in random order with this probability.
    #[arg(long, default_value_t = 0.0)]
    word_shuffle: f32,
    /// Starts from the word vectors of this file.
    #[arg(long)]
    vectors: Option<PathBuf>,
    /// Leaves the word vectors as they are.
    #[arg(long, requires = "vectors")]
    frozen: bool,
    /// Prints one JSON object instead of a sentence.
    #[arg(long)]
    json: bool,
}

struct Row {
    text: String,
    label: ClassName,
}

fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().command {
        Command::Train(options) => train(&options),
    }
}

fn train(options: &Options) -> Result<(), Box<dyn Error>> {
    let rows = read(&options.train)?;
    let labels: BTreeSet<ClassName> = rows.iter().map(|row| row.label.clone()).collect();
    let labels: Vec<ClassName> = labels.into_iter().collect();
    let manifest = Manifest::create(&labels, std::time::SystemTime::UNIX_EPOCH)?;
    let leaves: Vec<LeafId> = manifest.leaves().into_iter().collect();
    let groups = LeafGroups::new(&manifest, &leaves)?;
    let (validation, training): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|(at, _)| at % 10 == 0);
    let device = DeviceChoice::Auto.open()?;

    let began = Instant::now();
    let preset = if options.seed_preset { Preset::Seed } else { Preset::Default };
    let texts = training.iter().map(|(_, row)| row.text.as_str());
    let architecture = Architecture::preset(preset);
    let start = match &options.vectors {
        None => surgery::from_scratch(architecture, texts, &leaves, options.seed),
        Some(path) => {
            let input = BufReader::with_capacity(1 << 20, File::open(path)?);
            let file = VectorFile { name: path.display().to_string(), input, frozen: options.frozen };
            from_vectors(architecture, texts, &leaves, options.seed, file)?
        }
    };
    let training = samples(&start, &training, &manifest, &groups)?;
    let validation = samples(&start, &validation, &manifest, &groups)?;
    let optimiser = if options.sgd { Optimiser::Sgd } else { Optimiser::AdamW };
    let recipe = Recipe::for_training(preset, Mode::Scratch, training.len());
    let recipe = recipe.with_optimiser(optimiser, Mode::Scratch);
    let recipe = Recipe {
        epochs: options.epochs.unwrap_or(recipe.epochs),
        learning_rate: options.learning_rate.unwrap_or(recipe.learning_rate),
        word_shuffle: options.word_shuffle,
        ..recipe
    };
    let memory = Memory::estimate(&start, &training, &validation, &recipe);
    let fitted = fit(&start, &training, &validation, &groups, &recipe, options.seed, &device, &mut |at| {
        if at.stage == "evaluate" && !options.json {
            let accuracy = at.validation_accuracy.unwrap_or(f64::NAN);
            let (speed, eta) = (at.examples_per_second, at.eta.as_secs_f64());
            println!(
                "epoch {} of {}: loss {:.4}, validation {accuracy:.4}, {speed:.0} examples/s, eta {eta:.0} s",
                at.epoch, at.epochs, at.loss
            );
        }
        ControlFlow::Continue(())
    })?;
    let train_seconds = began.elapsed().as_secs_f64();

    let classifier = Classifier::from_checkpoint(&fitted.checkpoint, &device)?;
    let rows = options.test.as_ref().map(read).transpose()?;
    let tested = rows.map(|rows| -> Result<_, Box<dyn Error>> {
        let began = Instant::now();
        let texts: Vec<EncodedText> = rows.iter().map(|row| classifier.encode(&row.text)).collect();
        let mut confusion = Confusion::new(groups.classes.len());
        for (row, answer) in rows.iter().zip(classifier.leaf_probabilities(&texts)?.iter()) {
            let label = column(&manifest, &groups, &row.label)?;
            confusion.add(label as usize, argmax(&groups.sums(answer)));
        }
        Ok((confusion, rows.len() as f64 / began.elapsed().as_secs_f64()))
    });
    let tested = tested.transpose()?;
    let accuracy = tested.as_ref().map(|(confusion, _)| confusion.accuracy());
    let macro_f1 = tested.as_ref().map(|(confusion, _)| confusion.macro_f1());
    let speed = tested.as_ref().map(|(_, speed)| *speed);
    if options.json {
        let report = serde_json::json!({
            "examples": training.len(),
            "classes": labels.len(),
            "vocabulary": start.vocabulary.len(),
            "epochs": recipe.epochs,
            "best_epoch": fitted.best_epoch,
            "seed": options.seed,
            "train_seconds": train_seconds,
            "estimated_memory_bytes": memory.total(),
            "validation_accuracy": fitted.validation_accuracy,
            "test_accuracy": accuracy,
            "test_macro_f1": macro_f1,
            "test_texts_per_second": speed,
        });
        println!("{report}");
    } else {
        let percent =
            |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.2} %", 100.0 * share));
        println!(
            "{train_seconds:.1} s, best epoch {}: validation {}, test {}, macro F1 {}",
            fitted.best_epoch,
            percent(fitted.validation_accuracy),
            percent(accuracy),
            percent(macro_f1),
        );
    }
    Ok(())
}

fn samples(
    network: &Checkpoint,
    rows: &[(usize, &Row)],
    manifest: &Manifest,
    groups: &LeafGroups,
) -> Result<Vec<Sample>, Box<dyn Error>> {
    let encoder = network.text_encoder()?;
    rows.iter()
        .map(|(_, row)| {
            Ok(Sample { text: encoder.encode(&row.text), class: column(manifest, groups, &row.label)? })
        })
        .collect()
}

fn column(manifest: &Manifest, groups: &LeafGroups, label: &ClassName) -> Result<u32, Box<dyn Error>> {
    let class = manifest.active_by_name(label).ok_or_else(|| format!("label '{label}' was not trained"))?;
    Ok(groups.column(class.id).ok_or("an active class has a column")?)
}

fn read(path: &PathBuf) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut reader = csv::Reader::from_path(path)?;
    reader
        .deserialize::<(String, String)>()
        .map(|row| {
            let (text, label) = row?;
            Ok(Row { text, label: ClassName::new(&label)? })
        })
        .collect()
}
