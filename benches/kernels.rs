//! How fast the kernels are, as a share of what the processor can do.
//!
//! ```text
//! cargo bench --bench kernels -- [--threads N] [--json] [FILTER]
//! ```
//!
//! The yardstick is a large product of matrices by the `gemm` crate (AVX2 where there is AVX2), measured by turns with each
//! kernel, so that a busy machine slows both. Times are the shortest of many runs. Shares above 100 % are those of AVX-512,
//! which the yardstick does not use. Names are those of `pytorch.py`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use clap::Parser;
use taxond::{
    model::{
        Architecture, Preset,
        gradients::{Parameters, gradients},
        kernels::{
            ClassTargets, Directions, Lstm, LstmReader, LstmWeights, Place, PooledStates, Projection,
            ProjectionWeights, RecurrentWeights, bag_backward, bag_forward,
        },
    },
    text::{EncodedText, PackedBatch, Packing},
    train::{Moments, Update},
};

/// Side of the yardstick's square matrices, and of the smaller ones that are measured by turns.
const YARDSTICK: usize = 2048;
const YARDSTICK_BY_TURNS: usize = 768;

/// How long each kernel is measured.
const MEASURED: Duration = Duration::from_millis(1500);

#[derive(Debug, Parser)]
struct Options {
    /// Threads; the yardstick runs on as many.
    #[arg(long, env = "RAYON_NUM_THREADS", default_value_t = 1)]
    threads: usize,
    /// Prints the results as one JSON array, on the last line.
    #[arg(long)]
    json: bool,
    /// Measures only what has this in its name.
    #[arg(default_value = "")]
    filter: String,
    /// Given by cargo; without meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Sizes of an LSTM and its batch, all texts equally long.
struct Shape {
    name: &'static str,
    embedding: usize,
    hidden: usize,
    directions: Directions,
    steps: usize,
    texts: usize,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "seed",
        embedding: 300,
        hidden: 1000,
        directions: Directions::Forward,
        steps: 30,
        texts: 64,
    },
    Shape { name: "wide", embedding: 128, hidden: 256, directions: Directions::Both, steps: 20, texts: 64 },
    Shape {
        name: "default",
        embedding: 128,
        hidden: 128,
        directions: Directions::Both,
        steps: 13,
        texts: 64,
    },
];

struct Bench {
    threads: usize,
    filter: String,
    results: Vec<serde_json::Value>,
}

fn main() {
    let options = Options::parse();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .expect("the system gives as many threads as were asked for");
    let mut bench = Bench { threads: options.threads, filter: options.filter, results: Vec::new() };
    pool.install(|| {
        bench.yardstick();
        SHAPES.iter().for_each(|shape| bench.lstm(shape));
        bench.projection();
        for rows in [10_000, 1_000_000] {
            bench.embedding(rows);
            bench.step(rows);
        }
    });
    if options.json {
        println!("{}", serde_json::Value::Array(bench.results));
    }
}

impl Bench {
    fn yardstick(&self) {
        let mut square = Square::new(YARDSTICK);
        let seconds = (0..3).map(|_| square.seconds(self.threads)).fold(f64::INFINITY, f64::min);
        println!("yardstick: {:.1} GFLOP/s on {} threads", square.flops() / seconds / 1e9, self.threads);
    }

    /// Measures what does so many operations; none where they are not counted.
    fn measure(&mut self, name: &str, flops: Option<f64>, mut run: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        run();
        let mut square = Square::new(YARDSTICK_BY_TURNS);
        let (mut seconds, mut peak) = (f64::INFINITY, 0.0f64);
        let began = Instant::now();
        while began.elapsed() < MEASURED {
            if flops.is_some() {
                peak = peak.max(square.flops() / square.seconds(self.threads));
            }
            for _ in 0..3 {
                let began = Instant::now();
                run();
                seconds = seconds.min(began.elapsed().as_secs_f64());
            }
        }
        let speed = flops.map(|flops| flops / seconds);
        print!("{name:<36} {:>10.3} ms", seconds * 1e3);
        match speed {
            Some(speed) => println!(" {:>8.1} GFLOP/s {:>6.1} %", speed / 1e9, 100.0 * speed / peak),
            None => println!(),
        }
        self.results.push(serde_json::json!({
            "name": name,
            "seconds": seconds,
            "gflops": speed.map(|speed| speed / 1e9),
            "share": speed.map(|speed| speed / peak),
        }));
    }

    fn lstm(&mut self, shape: &Shape) {
        let &Shape { name, embedding, hidden, directions, steps, texts } = shape;
        let d = if directions == Directions::Both { 2 } else { 1 };
        let gates = d * 4 * hidden;
        let (input, recurrent, bias) = (wave(gates * embedding), wave(gates * hidden), wave(gates));
        let weights = LstmWeights { input: &*input, recurrent: &*recurrent, bias: &*bias };
        let flops = |texts: usize| (2 * texts * steps * gates * (embedding + hidden)) as f64;
        for texts in [texts, 32, 1] {
            let lstm = Lstm::new(weights, directions, embedding);
            let packing = Packing::new(&vec![steps; texts]);
            let x = wave(texts * steps * embedding);
            self.measure(&format!("lstm {name} forward B={texts}"), Some(flops(texts)), || {
                black_box(lstm.forward(&x, &packing));
            });
        }
        for texts in [texts, 1] {
            for (kept, of) in [(RecurrentWeights::Exact, ""), (RecurrentWeights::Rounded, " int8")] {
                let reader = LstmReader::new(weights, directions, embedding, kept);
                let packing = Packing::new(&vec![steps; texts]);
                let (x, columns) = (wave(texts * steps * embedding), reader.states());
                self.measure(&format!("lstm {name} answer{of} B={texts}"), Some(flops(texts)), || {
                    let (gates, width) = (reader.gates(&x), reader.gate_columns());
                    let mut rows = vec![0.0; texts * columns];
                    let mut pooled = PooledStates { rows: &mut rows, columns, with_max: false, states: None };
                    reader.pool(&packing, |token| &gates[token * width..][..width], &mut pooled);
                    black_box(rows);
                });
            }
        }
        let packing = Packing::new(&vec![steps; texts]);
        let (x, dstates) = (wave(texts * steps * embedding), wave(texts * steps * d * hidden));
        self.measure(&format!("lstm {name} forward+backward B={texts}"), Some(3.0 * flops(texts)), || {
            let lstm = Lstm::new(weights, directions, embedding);
            let (states, trace) = lstm.forward(&x, &packing);
            let mut dx = vec![0.0; x.len()];
            black_box(lstm.backward(&trace, &dstates, &mut dx));
            black_box((states, dx));
        });
    }

    /// What a step of training does with the projection of the default preset.
    fn projection(&mut self) {
        const TEXTS: usize = 64;
        let architecture = Architecture::preset(Preset::Default);
        let (states, embedding) = (architecture.states(), architecture.embedding);
        let packing = Packing::new(&[13; TEXTS]);
        let (h, x) = (wave(packing.tokens() * states), wave(packing.tokens() * embedding));
        let (weight, bias) = (wave(states * (states + embedding)), wave(states));
        let weights = ProjectionWeights { weight: &*weight, bias: &*bias };
        let projection = Projection { weights, packing: &packing, states };
        let place = Place { columns: architecture.features(), first: states };
        let mut y = vec![0.0; TEXTS * place.columns];
        let flops = (2 * packing.tokens() * weight.len()) as f64;
        self.measure("projection forward", Some(flops), || {
            black_box(projection.forward(&h, &x, &mut y, place));
        });
        let (dy, mut dh, mut dx) = (wave(y.len()), vec![0.0; h.len()], vec![0.0; x.len()]);
        let strongest = projection.forward(&h, &x, &mut y, place);
        self.measure("projection backward", None, || {
            let below = (&mut *dh, &mut *dx);
            black_box(projection.backward(&strongest, (&h, &x), (&y, &dy), place, below));
        });
    }

    /// What a step of training does with an embedding of so many rows.
    fn embedding(&mut self, rows: usize) {
        const WIDTH: usize = 128;
        let (forward, update) =
            (format!("embedding bag forward+backward V={rows}"), format!("optimiser step V={rows}"));
        if !forward.contains(&self.filter) && !update.contains(&self.filter) {
            return;
        }
        let texts: Vec<EncodedText> = (0..64).map(|text| words(text, rows as u32)).collect();
        let batch = PackedBatch::new(&texts);
        let dy = wave(batch.packing.tokens() * WIDTH);
        let mut table = vec![0.5f32; rows * WIDTH];
        self.measure(&forward, None, || {
            black_box(bag_forward(&table, WIDTH, &batch.bags, None));
            let (touched, batch) = batch.clone().compact();
            black_box(bag_backward(&dy, WIDTH, touched.len(), &batch.bags, None));
        });
        let (touched, _) = batch.clone().compact();
        let gradient = vec![0.1f32; touched.len() * WIDTH];
        let mut moments = Moments::new(table.len());
        self.measure(&update, None, || {
            Update::new(1, 1e-3, 1.0).rows(&mut table, WIDTH, &touched, &gradient, &mut moments);
        });
    }

    /// A step of training of the default preset, of which the embedding has so many rows: forwards, back, and the update.
    fn step(&mut self, rows: usize) {
        const CLASSES: u32 = 77;
        let name = format!("training step V={rows}");
        if !name.contains(&self.filter) {
            return;
        }
        let architecture = Architecture::preset(Preset::Default);
        let (width, hidden) = (architecture.embedding, architecture.hidden);
        let gates = architecture.directions() * 4 * hidden;
        let texts: Vec<EncodedText> = (0..64).map(|text| words(text, rows as u32)).collect();
        let batch = PackedBatch::new(&texts);
        let labels: Vec<u32> = (0..64).map(|text| text % CLASSES).collect();
        let class_of_leaf = (0..CLASSES).map(Some).collect();
        let targets = ClassTargets { class_of_leaf, classes: CLASSES as usize, smoothing: 0.1 };
        let mut table = wave(rows * width);
        let mut table_moments = Moments::new(table.len());
        let head = CLASSES as usize * architecture.features();
        let states = architecture.states();
        let projection = states * (states + width);
        let sizes = [gates * width, gates * hidden, gates, projection, states, head, CLASSES as usize];
        let mut dense = sizes.map(wave);
        let mut moments = dense.each_ref().map(|numbers| Moments::new(numbers.len()));
        self.measure(&name, None, || {
            let [input, recurrent, bias, weight, projection_bias, head_weight, head_bias] =
                dense.each_ref().map(|numbers| &**numbers);
            let lstm = LstmWeights { input, recurrent, bias };
            let projection = ProjectionWeights { weight, bias: projection_bias };
            let parameters = Parameters { table: &table, lstm, projection, head_weight, head_bias };
            let found = gradients(&architecture, parameters, batch.clone(), &labels, &targets, None);
            let update = Update::new(1, 1e-3, 1.0);
            let of_dense = [
                &found.lstm.input,
                &found.lstm.recurrent,
                &found.lstm.bias,
                &found.projection.weight,
                &found.projection.bias,
                &found.head_weight,
                &found.head_bias,
            ];
            for ((numbers, moments), gradient) in dense.iter_mut().zip(&mut moments).zip(of_dense) {
                update.dense(numbers, gradient, moments, 0.0);
            }
            update.rows(&mut table, width, &found.rows, &found.table, &mut table_moments);
        });
    }
}

/// A text of 13 tokens of 9 features each. All texts together touch 2,500 rows, evenly scattered over the table.
fn words(text: u32, rows: u32) -> EncodedText {
    const TOUCHED: u32 = 2500;
    let feature = |i: u32| (text * 131 + i).wrapping_mul(2_654_435_761) % TOUCHED * (rows / TOUCHED);
    let features = (0..13 * 9).map(feature).collect();
    let offsets = (0..=13).map(|token| token * 9).collect();
    EncodedText { features, offsets, tokens: 13, truncated: false, terms: Vec::new() }
}

/// Small numbers.
fn wave(count: usize) -> Vec<f32> {
    (0..count).map(|i| 0.05 * (0.7 * i as f32).sin()).collect()
}

/// A product of two square matrices.
struct Square {
    side: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    out: Vec<f32>,
}

impl Square {
    fn new(side: usize) -> Self {
        let numbers = |seed: f32| (0..side * side).map(|i| (i as f32 * seed).sin()).collect();
        Self { side, a: numbers(0.3), b: numbers(0.7), out: vec![0.0; side * side] }
    }

    fn flops(&self) -> f64 {
        2.0 * (self.side as f64).powi(3)
    }

    fn seconds(&mut self, threads: usize) -> f64 {
        let (n, row) = (self.side, self.side as isize);
        let threads = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
        let began = Instant::now();
        // SAFETY: with these strides the matrices cover exactly `out`, `a` and `b`, each of side times side numbers.
        unsafe {
            gemm::gemm(
                n,
                n,
                n,
                self.out.as_mut_ptr(),
                1,
                row,
                false,
                self.a.as_ptr(),
                1,
                row,
                self.b.as_ptr(),
                1,
                row,
                0.0,
                1.0,
                false,
                false,
                false,
                threads,
            );
        }
        black_box(&self.out);
        began.elapsed().as_secs_f64()
    }
}
