//! Checks a graphics processor against the processor, and times its steps.
//!
//! ```text
//! cargo run --release --example gpu -- check            gradients and logits of several networks, beside the processor's
//! cargo run --release --example gpu -- time --steps 200 steps a second at the sizes of the presets and between
//! ```
//!
//! Both print one JSON object. `check` ends with an error if a number is farther off than the tolerance.

use std::{error::Error, sync::Arc, time::Instant};

use clap::{Parser, Subcommand};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use taxond::{
    model::{
        Architecture, Device, DeviceChoice, Pooling, Preset,
        cuda::{Cuda, Dropout, HostBatch, Learner, Masking, Occurrences, UpdateRule},
        gradients::{Gradients, Masks, Parameters, gradients},
        kernels::{ClassTargets, LstmWeights, ProjectionWeights, TokenMask},
    },
    text::{EncodedText, PackedBatch},
    train::Update,
};

/// How far a tensor may be off, as a share of its norm.
const TOLERANCE: f64 = 1e-4;

/// Rows of the embedding.
const VOCABULARY: u32 = 20_000;

/// Checks and times a graphics processor.
#[derive(Debug, Parser)]
struct Cli {
    /// Which one, as cuda:N.
    #[arg(long, default_value = "cuda:0", global = true)]
    device: DeviceChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Compares gradients and logits with those of the processor.
    Check,
    /// Times steps and their parts.
    Time {
        /// Steps of each size, after a tenth as many to warm up.
        #[arg(long, default_value_t = 200)]
        steps: usize,
        /// Lets products round their operands to TF32.
        #[arg(long)]
        tf32: bool,
        /// Times the processor as well.
        #[arg(long)]
        cpu: bool,
    },
}

/// A network with random parameters.
struct Network {
    name: &'static str,
    architecture: Architecture,
    targets: ClassTargets,
    table: Vec<f32>,
    lstm: LstmWeights<Vec<f32>>,
    projection: ProjectionWeights<Vec<f32>>,
    head_weight: Vec<f32>,
    head_bias: Vec<f32>,
}

impl Network {
    fn new(name: &'static str, architecture: Architecture, classes: u32, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let Architecture { embedding, hidden, .. } = architecture;
        let gates = architecture.directions() * 4 * hidden;
        let states = architecture.states();
        let projected = if architecture.projects() { states } else { 0 };
        let mut numbers = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|_| scale * (2.0 * random.random::<f32>() - 1.0)).collect()
        };
        // Every class has a leaf, the first ones two; the last leaf is of no class.
        let leaves: Vec<Option<u32>> = (0..classes).chain(0..classes / 4).map(Some).chain([None]).collect();
        let spread = (hidden as f32).sqrt().recip();
        Self {
            name,
            table: numbers(VOCABULARY as usize * embedding, 0.2),
            lstm: LstmWeights {
                input: numbers(gates * embedding, spread),
                recurrent: numbers(gates * hidden, spread),
                bias: numbers(gates, spread),
            },
            projection: ProjectionWeights {
                weight: numbers(projected * (states + embedding), (states as f32).sqrt().recip()),
                bias: numbers(projected, 0.2),
            },
            head_weight: numbers(leaves.len() * architecture.features(), 0.2),
            head_bias: numbers(leaves.len(), 0.2),
            targets: ClassTargets { class_of_leaf: leaves, classes: classes as usize, smoothing: 0.1 },
            architecture,
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        let LstmWeights { input, recurrent, bias } = &self.lstm;
        Parameters {
            table: &self.table,
            lstm: LstmWeights { input, recurrent, bias },
            projection: ProjectionWeights { weight: &self.projection.weight, bias: &self.projection.bias },
            head_weight: &self.head_weight,
            head_bias: &self.head_bias,
        }
    }

    /// A batch of texts of several lengths around a mean, with its masks.
    fn batch(&self, texts: usize, tokens: usize, seed: u64) -> HostBatch {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let texts: Vec<EncodedText> = (0..texts)
            .map(|_| {
                let tokens = random.random_range(tokens.div_ceil(2)..=tokens + tokens / 2);
                let bags: Vec<Vec<u32>> = (0..tokens)
                    .map(|_| {
                        (0..random.random_range(1..8)).map(|_| random.random_range(0..VOCABULARY)).collect()
                    })
                    .collect();
                let ends = bags.iter().scan(0, |end, bag| {
                    *end += bag.len() as u32;
                    Some(*end)
                });
                EncodedText {
                    offsets: std::iter::once(0).chain(ends).collect(),
                    features: bags.concat(),
                    tokens,
                    truncated: false,
                    terms: Vec::new(),
                }
            })
            .collect();
        let batch = PackedBatch::new(&texts);
        let mut dropped = |count: usize, share: f32| -> Vec<f32> {
            let kept = 1.0 / (1.0 - share);
            (0..count).map(|_| if random.random::<f32>() < share { 0.0 } else { kept }).collect()
        };
        let columns = dropped(texts.len() * self.architecture.embedding, 0.2);
        let features = dropped(texts.len() * self.architecture.features(), 0.4);
        let tokens = TokenMask::new(&batch.packing, columns, || random.random::<f32>() >= 0.1);
        let classes = self.targets.classes as u32;
        HostBatch {
            occurrences: Occurrences::of(&batch.bags),
            labels: (0..texts.len()).map(|_| random.random_range(0..classes)).collect(),
            masking: Masking::Given(Masks { tokens, features }),
            batch,
        }
    }

    fn on_processor(&self, batch: &HostBatch) -> Gradients {
        let HostBatch { batch, labels, masking, .. } = batch;
        let masks = match masking {
            Masking::Given(masks) => Some(masks),
            Masking::Drawn(_) => None,
        };
        let (architecture, parameters) = (&self.architecture, self.parameters());
        gradients(architecture, parameters, batch.clone(), labels, &self.targets, masks)
    }
}

/// The networks that are checked and timed: small odd sizes, the presets, and sizes between.
fn networks() -> Vec<(Network, usize, usize)> {
    let default = Architecture::preset(Preset::Default);
    let seed = Architecture::preset(Preset::Seed);
    let forward = Architecture { bidirectional: false, pooling: Pooling::Mean, ..default };
    vec![
        (Network::new("odd", Architecture { embedding: 45, hidden: 37, ..default }, 5, 1), 30, 11),
        (Network::new("forward", Architecture { hidden: 100, ..forward }, 7, 2), 50, 9),
        (Network::new("backward", Architecture { reversed: true, hidden: 130, ..forward }, 7, 3), 50, 9),
        (Network::new("default", default, 77, 4), 64, 13),
        (Network::new("long", default, 77, 5), 64, 60),
        (Network::new("classes", default, 1000, 6), 64, 13),
        (Network::new("wide", Architecture { hidden: 256, ..default }, 77, 7), 64, 20),
        (Network::new("seed", seed, 77, 8), 64, 20),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let Cli { device, command } = Cli::parse();
    let Device::Cuda(cuda) = device.open()? else {
        return Err("name a graphics processor, as cuda:0".into());
    };
    match command {
        Command::Check => check(&cuda),
        Command::Time { steps, tf32, cpu } => {
            cuda.round_products(tf32)?;
            time(&cuda, steps, cpu)
        }
    }
}

/// The norm of the difference as a share of the norm.
fn off(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut expected.iter().map(|x| f64::from(*x))).max(1e-30)
}

fn check(cuda: &Arc<Cuda>) -> Result<(), Box<dyn Error>> {
    let mut reports = Vec::new();
    let mut worst = 0.0f64;
    for (network, texts, tokens) in networks() {
        let mut learner = network.learner(cuda)?;
        let mut offs: Vec<(&str, f64)> = Vec::new();
        for seed in 0..3 {
            let batch = network.batch(texts, tokens, 100 + seed);
            let expected = network.on_processor(&batch);
            let found = learner.gradients(&batch)?;
            assert_eq!(found.rows, expected.rows);
            assert!(learner.gradients(&batch)? == found, "the same batch twice gives the same bytes");
            offs.extend([
                ("loss", (found.loss - expected.loss).abs() / expected.loss),
                ("table", off(&found.table, &expected.table)),
                ("input", off(&found.lstm.input, &expected.lstm.input)),
                ("recurrent", off(&found.lstm.recurrent, &expected.lstm.recurrent)),
                ("bias", off(&found.lstm.bias, &expected.lstm.bias)),
                ("projection", off(&found.projection.weight, &expected.projection.weight)),
                ("projection_bias", off(&found.projection.bias, &expected.projection.bias)),
                ("head_weight", off(&found.head_weight, &expected.head_weight)),
                ("head_bias", off(&found.head_bias, &expected.head_bias)),
            ]);
        }
        let mut report = json!({ "network": network.name });
        for (name, off) in offs {
            let largest = report[name].as_f64().unwrap_or(0.0).max(off);
            worst = if off.is_nan() { f64::NAN } else { worst.max(off) };
            report[name] = if off.is_nan() { Value::from("NaN") } else { Value::from(largest) };
        }
        reports.push(report);
    }
    println!(
        "{}",
        json!({ "device": cuda.name(), "tolerance": TOLERANCE, "worst": worst, "networks": reports })
    );
    if worst <= TOLERANCE {
        Ok(())
    } else {
        Err(format!("{worst:e} is over the tolerance {TOLERANCE:e}").into())
    }
}

impl Network {
    fn learner(&self, cuda: &Arc<Cuda>) -> Result<Learner, Box<dyn Error>> {
        let parameters = self.parameters();
        Ok(Learner::new(Arc::clone(cuda), self.architecture, parameters, &self.targets, true)?)
    }
}

fn time(cuda: &Arc<Cuda>, steps: usize, cpu: bool) -> Result<(), Box<dyn Error>> {
    let rule = UpdateRule::AdamW {
        dense: Update::new(10, 1e-3, 1.0).rule(0.01),
        rows: Update::new(10, 5e-3, 1.0).rule(0.0),
    };
    let mut reports = Vec::new();
    for (network, texts, tokens) in networks() {
        let mut learner = network.learner(cuda)?;
        let drawn = |seed| HostBatch {
            masking: Masking::Drawn(Dropout { seed, words: 0.1, embedding: 0.2, output: 0.4 }),
            ..network.batch(texts, tokens, seed)
        };
        let batches: Vec<HostBatch> = (0..8).map(drawn).collect();
        let mut milliseconds = Vec::with_capacity(steps);
        for step in 0..steps + steps / 10 {
            let began = Instant::now();
            learner.step(&batches[step % 8], 1.0, &rule)?;
            let outcome = learner.last_step()?;
            if outcome.is_none_or(|outcome| !outcome.finite) {
                return Err(format!("a step of '{}' was not finite", network.name).into());
            }
            milliseconds.push(1e3 * began.elapsed().as_secs_f64());
        }
        let mut report = json!({
            "network": network.name,
            "texts": texts,
            "tokens": batches.iter().map(|batch| batch.batch.packing.tokens()).sum::<usize>() / 8,
            "step_ms": median(&mut milliseconds[steps / 10..]),
        });
        if cpu {
            let mut milliseconds: Vec<f64> = batches
                .iter()
                .cycle()
                .take(11)
                .map(|batch| {
                    let began = Instant::now();
                    std::hint::black_box(network.on_processor(batch));
                    1e3 * began.elapsed().as_secs_f64()
                })
                .collect();
            report["processor_gradients_ms"] = json!(median(&mut milliseconds[1..]));
            report["threads"] = json!(rayon::current_num_threads());
        }
        reports.push(report);
    }
    println!("{}", json!({ "device": cuda.name(), "networks": reports }));
    Ok(())
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
