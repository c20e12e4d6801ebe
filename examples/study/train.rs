//! Training from scratch.

use std::{
    collections::BTreeSet, error::Error, fs::File, io::BufReader, ops::ControlFlow, path::PathBuf,
    time::Instant,
};

use clap::Args;
use taxond::{
    model::{
        Architecture, Array, Classifier, DeviceChoice, Preset, VectorFile, checkpoint::OUTPUT_SCALES,
        from_vectors, surgery,
    },
    registry::Mode,
    taxonomy::{ClassName, LeafGroups, LeafId, Manifest},
    train::{Memory, Optimiser, Recipe, fit, metrics::calibration_error},
};

use crate::data::{preset, read, samples, test};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Examples to train and validate on.
    #[arg(long)]
    train: PathBuf,
    /// Examples to measure on.
    #[arg(long)]
    test: Option<PathBuf>,
    /// Network to train: default or seed.
    #[arg(long, default_value = "default", value_parser = preset)]
    preset: Preset,
    /// Seed of everything drawn at random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads to compute with; one for each processor if absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Where to learn: auto, cpu or cuda:N.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Trains by gradient descent instead of AdamW.
    #[arg(long)]
    sgd: bool,
    /// Starts from the word vectors of this file.
    #[arg(long)]
    vectors: Option<PathBuf>,
    /// Leaves the word vectors as they are.
    #[arg(long, requires = "vectors")]
    frozen: bool,
    /// Sets a number of the recipe, as in `--set epochs=6 --set wide.rate=0.1`; may be given several times.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = setting)]
    set: Vec<(String, f64)>,
    /// Prints one JSON object instead of sentences.
    #[arg(long)]
    json: bool,
}

fn setting(pair: &str) -> Result<(String, f64), String> {
    let (name, number) = pair.split_once('=').ok_or("a setting reads NAME=NUMBER")?;
    let number = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    Ok((name.to_owned(), number))
}

/// The recipe with some of its numbers replaced.
fn adjusted(mut recipe: Recipe, settings: &[(String, f64)]) -> Result<Recipe, String> {
    for (name, number) in settings {
        match name.as_str() {
            "epochs" => recipe.epochs = *number as u32,
            "learning_rate" => recipe.learning_rate = *number,
            "embedding_rate" => recipe.embedding_rate = *number,
            "warmup" => recipe.warmup = *number,
            "batch" => recipe.batch = *number as usize,
            "weight_decay" => recipe.weight_decay = *number as f32,
            "clip_norm" => recipe.clip_norm = *number,
            "label_smoothing" => recipe.label_smoothing = *number as f32,
            "word_dropout" => recipe.word_dropout = *number as f32,
            "feature_dropout" => recipe.feature_dropout = *number as f32,
            "embedding_dropout" => recipe.embedding_dropout = *number as f32,
            "output_dropout" => recipe.output_dropout = *number as f32,
            "word_shuffle" => recipe.word_shuffle = *number as f32,
            "wide.epochs" => recipe.wide.epochs = *number as u32,
            "wide.rate" => recipe.wide.rate = *number as f32,
            "wide.batch" => recipe.wide.batch = *number as usize,
            "wide.dropout" => recipe.wide.dropout = *number as f32,
            _ => return Err(format!("the recipe has no number '{name}'")),
        }
    }
    Ok(recipe)
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(threads) = options.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let rows = read(&options.train)?;
    let labels: BTreeSet<ClassName> = rows.iter().map(|row| row.label.clone()).collect();
    let labels: Vec<ClassName> = labels.into_iter().collect();
    let manifest = Manifest::create(&labels, std::time::SystemTime::UNIX_EPOCH)?;
    let leaves: Vec<LeafId> = manifest.leaves().into_iter().collect();
    let groups = LeafGroups::new(&manifest, &leaves)?;
    let (validation, training): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|(at, _)| at % 10 == 0);
    let device = options.device.open()?;

    let began = Instant::now();
    let texts = training.iter().map(|(_, row)| row.text.as_str());
    let architecture = Architecture::preset(options.preset);
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
    let prepared = began.elapsed().as_secs_f64();
    let optimiser = if options.sgd { Optimiser::Sgd } else { Optimiser::AdamW };
    let recipe = Recipe::for_training(options.preset, Mode::Scratch, training.len());
    let recipe = adjusted(recipe.with_optimiser(optimiser, Mode::Scratch), &options.set)?;
    let memory = Memory::estimate(&start, &training, &validation, &recipe, 0);
    let mut wide_end = prepared;
    let fitted = fit(&start, &training, &validation, &groups, &recipe, options.seed, &device, &mut |at| {
        let seconds = began.elapsed().as_secs_f64();
        if at.stage == "wide" {
            wide_end = seconds;
        }
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
    let seconds = began.elapsed().as_secs_f64();

    let rows = options.test.as_ref().map(read).transpose()?;
    let test_with = |scales: [f32; 2]| {
        let mut checkpoint = fitted.checkpoint.clone();
        checkpoint.tensors.insert(OUTPUT_SCALES.to_owned(), Array::new([2], scales));
        let classifier = Classifier::from_checkpoint(&checkpoint)?;
        rows.as_ref().map(|rows| test(&classifier, rows, &manifest, &groups)).transpose()
    };
    let scales = &fitted.checkpoint.tensors[OUTPUT_SCALES].data;
    let tested = test_with([scales[0], scales[1]])?;
    let accuracy = tested.as_ref().map(|tested| tested.confusion.accuracy());
    let macro_f1 = tested.as_ref().map(|tested| tested.confusion.macro_f1());
    let ece = tested.as_ref().map(|tested| calibration_error(&tested.judged));
    if options.json {
        let alone =
            |scales| Ok::<_, Box<dyn Error>>(test_with(scales)?.map(|tested| tested.confusion.accuracy()));
        let report = serde_json::json!({
            "accuracy": accuracy,
            "macro_f1": macro_f1,
            "ece": ece,
            "seconds": seconds,
            "phases": { "prepare": prepared, "wide": wide_end - prepared, "deep": seconds - wide_end },
            "examples_per_second": (training.len() as f64 * f64::from(recipe.epochs)) / (seconds - wide_end),
            "test_texts_per_second": tested.as_ref().map(|tested| tested.texts_per_second),
            "peak_rss_bytes": peak_rss_bytes(),
            "examples": training.len(),
            "classes": labels.len(),
            "vocabulary": start.vocabulary.len(),
            "terms": start.terms.len(),
            "scales": scales.to_vec(),
            "branches": { "deep": alone([1.0, 0.0])?, "wide": alone([0.0, 1.0])? },
            "epochs": recipe.epochs,
            "best_epoch": fitted.best_epoch,
            "seed": options.seed,
            "device": device.to_string(),
            "threads": rayon::current_num_threads(),
            "estimated_memory_bytes": memory.total(),
            "validation_accuracy": fitted.validation_accuracy,
        });
        println!("{report}");
    } else {
        let percent =
            |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.2} %", 100.0 * share));
        println!(
            "{seconds:.1} s, best epoch {}: validation {}, test {}, macro F1 {}, calibration error {}",
            fitted.best_epoch,
            percent(fitted.validation_accuracy),
            percent(accuracy),
            percent(macro_f1),
            percent(ece),
        );
    }
    Ok(())
}

/// The most memory this process ever held, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
