//! The operations together, values and gradients, against PyTorch 2.15 and against finite differences.

use std::iter;

use candle_core::{Device, Tensor};

use super::*;
use crate::{
    model::{Encoder, Pooling, Preset, encoder::EncoderTensors, kernels::RecurrentWeights},
    text::EncodedText,
};

/// Everything the loss depends on: table, w_ih, w_hh, b, p_w and p_b where states are projected, w, c.
#[derive(Clone)]
struct Weights([Vec<f32>; 8]);

const NAMES: [&str; 8] = ["table", "w_ih", "w_hh", "b", "p_w", "p_b", "w", "c"];

const EXACT: RecurrentWeights = RecurrentWeights::Exact;

/// A network, a batch and its labels.
struct Case {
    architecture: Architecture,
    batch: PackedBatch,
    labels: Vec<u32>,
    targets: ClassTargets,
}

/// Numbers that are easy to make anywhere.
fn wave(phase: f64, count: usize) -> Vec<f32> {
    (0..count).map(|i| (0.5 * (0.7 * i as f64 + phase).sin()) as f32).collect()
}

fn text(bags: &[&[u32]]) -> EncodedText {
    let ends = bags.iter().scan(0, |end, bag| {
        *end += bag.len() as u32;
        Some(*end)
    });
    EncodedText {
        features: bags.concat(),
        offsets: iter::once(0).chain(ends).collect(),
        tokens: bags.len(),
        truncated: false,
        terms: Vec::new(),
    }
}

impl Case {
    fn new(architecture: Architecture) -> Self {
        let texts = [text(&[&[0, 2], &[1]]), text(&[&[4, 4, 0], &[3], &[2, 1]]), text(&[&[1, 3]])];
        Self {
            architecture,
            batch: PackedBatch::new(&texts),
            labels: vec![1, 0, 1],
            targets: ClassTargets {
                class_of_leaf: vec![Some(0), Some(1), Some(1), None],
                classes: 2,
                smoothing: 0.1,
            },
        }
    }

    fn weights(&self) -> Weights {
        let Architecture { embedding, hidden, .. } = self.architecture;
        let gates = self.architecture.directions() * 4 * hidden;
        let projected = if self.architecture.projects() { self.architecture.states() } else { 0 };
        Weights([
            wave(0.0, 5 * embedding),
            wave(1.0, gates * embedding),
            wave(2.0, gates * hidden),
            wave(3.0, gates),
            wave(6.0, projected * (self.architecture.states() + embedding)),
            wave(7.0, projected),
            wave(4.0, 4 * self.architecture.features()),
            wave(5.0, 4),
        ])
    }

    /// The features as a network that answers makes them.
    fn features(&self, Weights([table, w_ih, w_hh, b, p_w, p_b, _, _]): &Weights) -> Vec<f32> {
        let Architecture { embedding, hidden, .. } = self.architecture;
        let (d, gates, states) = (self.architecture.directions(), 4 * hidden, self.architecture.states());
        let tensor =
            |numbers: &[f32], shape: &[usize]| Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap();
        let tensors = EncoderTensors {
            lstm: LstmWeights {
                input: tensor(w_ih, &[d, gates, embedding]),
                recurrent: tensor(w_hh, &[d, gates, hidden]),
                bias: tensor(b, &[d, gates]),
            },
            projection: self.architecture.projects().then(|| ProjectionWeights {
                weight: tensor(p_w, &[states, states + embedding]),
                bias: tensor(p_b, &[states]),
            }),
        };
        let encoder = Encoder::new(&self.architecture, &tensors, EXACT).unwrap();
        let tokens = encoder.tokens(&bag_forward(table, embedding, &self.batch.bags, None));
        let width = encoder.token_width();
        encoder.forward(&self.batch.packing, |row| &tokens[row * width..][..width])
    }

    /// The loss, and its gradient of everything.
    fn gradients(&self, weights: &Weights) -> (f64, Weights) {
        let (parameters, batch) = (weights.parameters(), self.batch.clone());
        let Gradients { loss, rows, table, lstm, projection, head_weight, head_bias } =
            gradients(&self.architecture, parameters, batch, &self.labels, &self.targets, None);
        assert_eq!(rows, [0, 1, 2, 3, 4], "the batch touches every row");
        let (LstmWeights { input, recurrent, bias }, ProjectionWeights { weight, bias: projection_bias }) =
            (lstm, projection);
        let all = [table, input, recurrent, bias, weight, projection_bias, head_weight, head_bias];
        (loss, Weights(all.map(|gradient| gradient.to_vec())))
    }
}

impl Weights {
    fn parameters(&self) -> Parameters<'_> {
        let [table, input, recurrent, bias, weight, projection_bias, head_weight, head_bias] =
            self.0.each_ref().map(|numbers| &**numbers);
        Parameters {
            table,
            lstm: LstmWeights { input, recurrent, bias },
            projection: ProjectionWeights { weight, bias: projection_bias },
            head_weight,
            head_bias,
        }
    }
}

#[track_caller]
fn assert_close(name: &str, numbers: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(numbers.len(), expected.len(), "{name}");
    for (at, (x, y)) in numbers.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance, "{name}[{at}]: {x}, expected {y}");
    }
}

// The literals below were printed by this script, those of PROJECTED_* with the line for `top` that is left out:
//
// import math, torch
// from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
// def wave(phase, *shape):
//     n = math.prod(shape)
//     return torch.tensor([0.5 * math.sin(0.7 * i + phase) for i in range(n)]).reshape(shape).requires_grad_()
// E, H, lengths = 3, 2, [2, 3, 1]
// bags = [[0, 2], [1], [4, 4, 0], [3], [2, 1], [1, 3]]           # text 0, then 1, then 2
// table, w_ih, w_hh, b = wave(0, 5, E), wave(1, 2, 4 * H, E), wave(2, 2, 4 * H, H), wave(3, 2, 4 * H)
// w, c = wave(4, 4, 4 * H + E), wave(5, 4)
// p_w, p_b = wave(6, 2 * H, 2 * H + E), wave(7, 2 * H)
// x = torch.stack([table[bag].mean(0) for bag in bags]).split(lengths)
// lstm = torch.nn.LSTM(E, H, bidirectional=True, batch_first=True)
// names = [n + s for s in ("", "_reverse") for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")]
// params = {n: {"weight_ih_l0": w_ih, "weight_hh_l0": w_hh, "bias_ih_l0": b}[n.removesuffix("_reverse")][int("_rev" in n)] for n in names}
// params |= {"bias_hh_l0": torch.zeros(4 * H), "bias_hh_l0_reverse": torch.zeros(4 * H)}
// pad = pack_padded_sequence(torch.nn.utils.rnn.pad_sequence(x, batch_first=True), lengths, batch_first=True, enforce_sorted=False)
// h, _ = pad_packed_sequence(torch.func.functional_call(lstm, params, (pad,))[0], batch_first=True)
// top = [h[i, :n].max(0).values for i, n in enumerate(lengths)]
// # top = [(torch.cat([h[i, :n], x[i]], 1) @ p_w.T + p_b).tanh().max(0).values for i, n in enumerate(lengths)]
// y = torch.stack([torch.cat([h[i, :n].mean(0), top[i], x[i].mean(0)]) for i, n in enumerate(lengths)])
// z = y @ w.T + c
// p = z[:, :3].softmax(1)                                          # leaf 3 has no class
// P = torch.stack([p[:, 0], p[:, 1] + p[:, 2]], 1)                 # leaf 0 is class 0, leaves 1 and 2 are class 1
// q = torch.full((3, 2), 0.05) + 0.9 * torch.eye(2)[[1, 0, 1]]     # labels 1, 0, 1, smoothing 0.1
// loss = -(q * P.log()).sum(1).mean()
// loss.backward()
// for name, t in [("features", y), ("loss", loss)] + [(n, v.grad) for n, v in dict(table=table, w_ih=w_ih, w_hh=w_hh, b=b, p_w=p_w, p_b=p_b, w=w, c=c).items() if v.grad is not None]:
//     print(name, [float(f"{v:.6g}") for v in t.detach().flatten()])
#[rustfmt::skip]
const FEATURES: [f32; 33] = [
    -0.0830279, 0.0213637, -0.13023, -0.0902649, -0.0690848, 0.0603711, -0.0589452, -0.0723918, 0.106855,
    0.0414677, -0.0434229, -0.171866, 0.00776947, -0.125934, -0.162661, -0.114387, 0.0202631, -0.102898,
    -0.0132434, 0.0970605, 0.126788, 0.0968845, -0.139564, -0.00164559, -0.0536188, -0.140319, -0.139564,
    -0.00164559, -0.0536188, -0.140319, 0.220006, 0.247994, 0.159346,
];
const LOSS: f32 = 0.6619;
#[rustfmt::skip]
const D_TABLE: [f32; 15] = [
    -0.00331243, 0.00197158, 0.00632834, 0.0187005, -0.00170698, -0.0213116, 0.00452344, 0.0154512, 0.019112,
    -0.0310655, -0.012305, 0.0122428, -0.00858863, 0.0192053, 0.0379667,
];
#[rustfmt::skip]
const D_W_IH: [f32; 48] = [
    -4.05039e-05, -0.000945305, -0.00140551, 0.000141803, 0.000224959, 0.000202313, 9.89992e-05, -3.52841e-05, -0.000152973,
    -0.000187186, -4.0598e-05, 0.000125083, -0.00032281, 0.00180062, 0.00307718, 0.00162035, 0.00867896, 0.0116557,
    0.000232272, -0.000326384, -0.000731537, -7.99505e-05, 0.000176879, 0.000350519, -0.00114265, 0.000198002, 0.00144553,
    -0.00122931, -0.00241427, -0.00246377, -0.000447827, 0.000937198, 0.00188144, -0.00049991, -0.000415271, -0.000135323,
    0.00683233, -0.00636854, -0.0165742, 0.00766615, 0.0125641, 0.0115529, -0.00188802, 0.00171439, 0.0045105,
    -0.00131301, -0.00192223, -0.00162739,
];
#[rustfmt::skip]
const D_W_HH: [f32; 32] = [
    0.000546865, 5.55008e-05, 6.23129e-05, 2.9243e-05, 0.00052937, 2.3462e-06, 0.000134793, -3.07278e-05, -0.00268959,
    -0.000302902, 0.00716039, -0.000959138, 0.000715436, 3.20983e-05, 7.78885e-05, -2.90544e-06, -0.000195059, 0.000287769,
    0.000929707, 0.000490587, -0.000514796, 0.000225383, 0.000176037, 0.000340352, 0.00384777, -0.00221379, -0.00267747,
    -0.00183509, -0.000798567, 0.000495194, 0.000687585, 0.000543202,
];
#[rustfmt::skip]
const D_B: [f32; 16] = [
    -0.0032533, 6.45062e-05, -0.0024336, -0.000881842, 0.0102924, -0.0121219, -0.00296263, 0.000153379, -0.000659093,
    -0.00678757, 0.00293435, -0.00149525, -0.0123356, 0.00376519, -0.00092497, -0.00527462,
];
#[rustfmt::skip]
const D_W: [f32; 44] = [
    0.0254364, -0.00026332, 0.0161235, 0.022722, 0.0132405, -0.000183911, 0.0162215, -0.0103764, -0.00182878,
    -0.0120631, -0.016624, -0.00966808, 3.58945e-05, -0.00582651, -0.00863195, -0.00513173, -0.00010105, -0.00605911,
    0.00373403, 0.000952154, 0.00504186, 0.0067603, -0.0157683, 0.000227425, -0.010297, -0.01409, -0.00810872,
    0.00028496, -0.0101624, 0.0066424, 0.000876617, 0.00702128, 0.00986372, 0.0, 0.0, 0.0,
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
];
#[rustfmt::skip]
const D_C: [f32; 4] = [
    -0.0981427, 0.03661, 0.0615327, 0.0,
];

#[rustfmt::skip]
const PROJECTED_FEATURES: [f32; 33] = [
    -0.0830279, 0.0213637, -0.13023, -0.0902649, 0.428604, 0.646023, 0.538698, 0.314673, 0.106855,
    0.0414677, -0.0434229, -0.171866, 0.00776947, -0.125934, -0.162661, 0.348532, 0.709829, 0.703422,
    0.202968, 0.0970605, 0.126788, 0.0968845, -0.139564, -0.0016456, -0.0536188, -0.140319, 0.249407,
    0.66777, 0.549475, -0.0818937, 0.220006, 0.247994, 0.159346,
];
const PROJECTED_LOSS: f32 = 0.646115;
#[rustfmt::skip]
const PROJECTED_GRADIENTS: [&[f32]; 8] = [
    // table
    &[
        -0.023699, -0.0141074, 0.00211919, 0.051676, 0.0140905, -0.0301219, 0.00100253, 0.0077159, 0.0108004,
        -0.0200236, -0.0308569, -0.0271777, -0.00982142, 0.00510205, 0.0176259,
    ],
    // w_ih
    &[
        0.000439573, -0.000226948, -0.000786732, 0.00129532, 0.000720826, -0.000192686, 0.000280516,
        -0.00026152, -0.000680559, -0.000440796, -0.000227401, 9.29446e-05, -0.00494355, -2.86432e-05,
        0.00489973, -0.00407379, -0.000479619, 0.00334013, 0.000653201, -0.00062107, -0.00160324, 0.000449563,
        0.000289707, -6.40326e-06, 0.000398776, 0.000826373, 0.000865315, 0.00104837, -0.000138613,
        -0.0012604, -0.000577336, -0.00128693, -0.00139127, -0.000656078, -0.000424733, 6.36976e-06,
        -0.0124843, -0.00446314, 0.00565707, -0.0127815, -0.0095776, -0.00186923, -0.000781635, -0.000442218,
        0.000105181, 7.50504e-05, -0.000281656, -0.000505895,
    ],
    // w_hh
    &[
        -0.000147393, 9.69027e-05, -0.000213784, 9.23943e-05, -0.000426058, 6.85826e-05, 8.22945e-05,
        -5.91396e-05, 0.00243019, -0.000959208, -0.000543609, -0.00120155, -0.000312223, 0.000132863,
        -8.32135e-05, 2.16688e-05, -2.44971e-05, -0.000178128, 0.000621903, 8.95456e-05, 0.000483041,
        0.000105387, 4.8134e-05, 0.000137208, -0.00334496, -0.000501273, -0.00105991, 0.000303859,
        0.000191849, -0.000170379, 0.000398777, 0.000100031,
    ],
    // b
    &[
        0.00111961, -0.000822468, 0.00192847, -0.00115431, -0.0180271, -0.0358079, 0.00103714, -0.000552872,
        0.00531495, 0.00609849, -0.00226753, 0.000310153, -0.0384925, -0.0455143, 0.00620806, 0.00544285,
    ],
    // p_w
    &[
        -0.000634938, 3.04969e-05, -0.000311184, -0.00055959, 0.000483922, 0.000785423, 0.000717528,
        -0.000516482, -0.00129341, -0.00102604, -0.000569096, 0.0256612, 0.00511385, -0.0178387, -0.00115902,
        0.00391871, -0.0142203, -0.00598099, -0.0035375, -0.00750397, -0.0079412, -0.00495608, 0.00352459,
        -0.00814708, -0.019377, -0.00223653, 0.0255134, 0.0412639,
    ],
    // p_b
    &[
        0.00418642, 0.0448497, 0.0929502, 0.0809926,
    ],
    // w
    &[
        -0.00596409, 0.0020446, -0.00922748, -0.00849055, 0.0486898, 0.0833766, 0.0528656, 0.0104907,
        0.0301958, 0.0192154, -0.000802399, 0.0024052, -0.00131023, 0.0053304, 0.00398415, -0.0282906,
        -0.0460034, -0.0280037, -0.00758354, -0.0167945, -0.0096002, 0.00210917, 0.0035589, -0.000734368,
        0.00389709, 0.0045064, -0.0203993, -0.0373733, -0.024862, -0.00290719, -0.0134014, -0.00961516,
        -0.00130677, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    ],
    // c
    &[
        0.138853, -0.0776741, -0.0611794, 0.0,
    ],
];

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let small = Architecture { embedding: 3, hidden: 2, ..Architecture::preset(Preset::Default) };
    let plain: [&[f32]; 8] = [&D_TABLE, &D_W_IH, &D_W_HH, &D_B, &[], &[], &D_W, &D_C];
    for (pooling, features, expected_loss, expected) in [
        (Pooling::MeanMaxInput, FEATURES, LOSS, plain),
        (Pooling::MeanProjectedInput, PROJECTED_FEATURES, PROJECTED_LOSS, PROJECTED_GRADIENTS),
    ] {
        let case = Case::new(Architecture { pooling, ..small });
        let weights = case.weights();
        assert_close("features", &case.features(&weights), &features, 2e-6);
        let (loss, Weights(gradients)) = case.gradients(&weights);
        assert_close("loss", &[loss as f32], &[expected_loss], 2e-6);
        for ((name, gradient), expected) in NAMES.into_iter().zip(&gradients).zip(expected) {
            assert_close(name, gradient, expected, 2e-6);
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    const STEP: f32 = 1e-2;
    let default = Architecture { embedding: 5, hidden: 9, ..Architecture::preset(Preset::Default) };
    let plain = Architecture { pooling: Pooling::MeanMaxInput, ..default };
    let forward = Architecture { bidirectional: false, pooling: Pooling::Mean, ..default };
    for architecture in [default, plain, forward, Architecture { reversed: true, ..forward }] {
        let case = Case::new(architecture);
        let weights = case.weights();
        let (_, Weights(gradients)) = case.gradients(&weights);
        for (of, name) in NAMES.into_iter().enumerate() {
            for at in (0..gradients[of].len()).step_by(7) {
                let loss_at = |step: f32| {
                    let mut moved = weights.clone();
                    moved.0[of][at] += step;
                    case.gradients(&moved).0
                };
                let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * f64::from(STEP));
                let name = format!("{name} of {architecture:?}");
                assert_close(&name, &[gradients[of][at]], &[slope as f32], 2e-4);
            }
        }
    }
}

#[test]
fn masks_hide_what_they_say() {
    let case = Case::new(Architecture { embedding: 3, hidden: 2, ..Architecture::preset(Preset::Default) });
    let weights = case.weights();
    let (texts, features) = (case.batch.packing.texts(), case.architecture.features());
    // The second column of every text, the third token in the packed order, and the first feature are not seen.
    let columns = [1.0, 0.0, 1.0].repeat(texts);
    let mut token = 0;
    let tokens = TokenMask::new(&case.batch.packing, columns, || {
        token += 1;
        token != 3
    });
    let mut mask = vec![1.0; features];
    mask[0] = 0.0;
    let masks = Masks { tokens, features: mask.repeat(texts) };
    let batch = case.batch.clone();
    let found =
        gradients(&case.architecture, weights.parameters(), batch, &case.labels, &case.targets, Some(&masks));
    assert!(found.table.chunks(3).all(|row| row[1] == 0.0));
    // Row 3 is in the bags of the hidden token of text 2 and of the second token of text 1.
    assert!(found.table.iter().any(|&g| g != 0.0));
    assert!(found.head_weight.chunks(features).all(|row| row[0] == 0.0));
    assert!(found.lstm.input.chunks(3).all(|row| row[1] == 0.0));
}

#[test]
fn gradients_do_not_depend_on_the_threads() {
    let architecture = Architecture { embedding: 40, hidden: 50, ..Architecture::preset(Preset::Default) };
    let words: Vec<[u32; 2]> = (0..30).map(|word| [word % 5, word * 3 % 5]).collect();
    let texts: Vec<EncodedText> = (0..70)
        .map(|index| {
            let bags: Vec<&[u32]> =
                words[index % 7..index % 7 + 1 + index % 20].iter().map(|bag| &bag[..]).collect();
            text(&bags)
        })
        .collect();
    let case = Case {
        batch: PackedBatch::new(&texts),
        labels: (0..70).map(|index| index % 2).collect(),
        ..Case::new(architecture)
    };
    let weights = case.weights();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.gradients(&weights))
    };
    let (loss, Weights(one)) = on(1);
    for threads in [2, 5] {
        let (same_loss, Weights(many)) = on(threads);
        assert_eq!(loss, same_loss);
        assert!(one == many, "{threads} threads give other gradients than one");
    }
}

#[test]
fn a_reversed_lstm_reads_from_the_end() {
    let forward = Architecture {
        embedding: 3,
        hidden: 9,
        bidirectional: false,
        pooling: Pooling::Mean,
        ..Architecture::preset(Preset::Default)
    };
    let case = |architecture, texts: [EncodedText; 2]| Case {
        batch: PackedBatch::new(&texts),
        ..Case::new(architecture)
    };
    let ahead = case(forward, [text(&[&[1], &[2], &[3]]), text(&[&[0], &[4]])]);
    let back = Architecture { reversed: true, ..forward };
    let back = case(back, [text(&[&[3], &[2], &[1]]), text(&[&[4], &[0]])]);
    let weights = ahead.weights();
    assert_close("features", &back.features(&weights), &ahead.features(&weights), 1e-6);
}

#[test]
fn with_one_leaf_a_class_the_loss_is_plain_cross_entropy() {
    let logits = wave(1.0, 12);
    let targets = ClassTargets { class_of_leaf: (0..4).map(Some).collect(), classes: 4, smoothing: 0.0 };
    let labels = [2, 0, 3];
    let (loss, gradient) = targets.loss_and_gradient(&logits, &labels);
    let mut expected = 0.0;
    for ((z, gradient), label) in logits.chunks(4).zip(gradient.chunks(4)).zip(labels) {
        let total: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
        let p: Vec<f64> = z.iter().map(|&z| f64::from(z).exp() / total).collect();
        expected -= p[label as usize].ln() / 3.0;
        for (leaf, p) in p.iter().enumerate() {
            let hit = if leaf == label as usize { 1.0 } else { 0.0 };
            assert!((f64::from(gradient[leaf]) - (p - hit) / 3.0).abs() < 1e-7);
        }
    }
    assert!((loss - expected).abs() < 1e-12, "{loss}, expected {expected}");
}

#[test]
fn a_leaf_without_a_class_changes_nothing() {
    let loss = |logits: &[f32], class_of_leaf: Vec<Option<u32>>| {
        ClassTargets { class_of_leaf, classes: 2, smoothing: 0.1 }.loss_and_gradient(logits, &[1]).0
    };
    let without = loss(&[0.3, -0.2], vec![Some(0), Some(1)]);
    assert_eq!(without, loss(&[0.3, 90.0, -0.2], vec![Some(0), None, Some(1)]));
    // Even logits far apart keep the loss finite.
    assert!(loss(&[500.0, -500.0], vec![Some(0), Some(1)]).is_finite());
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let architecture = Architecture { embedding: 3, hidden: 2, ..Architecture::preset(Preset::Default) };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let lstm = |input: &[usize]| LstmWeights {
        input: zeros(input),
        recurrent: zeros(&[2, 8, 2]),
        bias: zeros(&[2, 8]),
    };
    let projection = || Some(ProjectionWeights { weight: zeros(&[4, 7]), bias: zeros(&[4]) });
    let fits = |architecture, tensors| Encoder::new(architecture, &tensors, EXACT).is_ok();
    assert!(fits(&architecture, EncoderTensors { lstm: lstm(&[2, 8, 3]), projection: projection() }));
    assert!(!fits(&architecture, EncoderTensors { lstm: lstm(&[2, 8, 2]), projection: projection() }));
    assert!(!fits(&architecture, EncoderTensors { lstm: lstm(&[2, 8, 3]), projection: None }));
    let plain = Architecture { pooling: Pooling::MeanMaxInput, ..architecture };
    assert!(!fits(&plain, EncoderTensors { lstm: lstm(&[2, 8, 3]), projection: projection() }));
}
