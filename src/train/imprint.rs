//! Rows for classes that came, from a part of the examples: good enough to answer with at once.
//!
//! The parts of what was split start from its rows, so that they have only to be told from each other. Classes that the
//! texts of a new class were taken for are fitted with it: their rows never had to tell it apart. Of the other classes few examples
//! are read, but those that come nearest to the rows that are fitted are among them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use rayon::prelude::*;
use tracing::debug;

use super::{
    Recipe, Sample, WideRecipe,
    features::{FeaturesOf, Kept},
    refit::{Featured, RefitRecipe, head_logits, refit, strongest_rows},
};
use crate::{
    cancel::Cancellation,
    dataset::{Example, Features, Meanings, Split},
    error::Result,
    model::{
        Checkpoint,
        checkpoint::{HEAD_BIAS, HEAD_WEIGHT, WIDE_BIAS, WIDE_WEIGHT},
    },
    registry::Mode,
    taxonomy::{ClassId, LeafGroups, LeafId, Manifest},
    text::{EncodedText, Terms, TextEncoder},
};

/// Examples of a class whose rows are fitted.
const OWN: usize = 512;
/// Examples of all other classes together, how many of them are the nearest, and among how many these are looked for: among
/// more where classes are new, whose rows are far from where they will be.
const OTHERS: usize = 1024;
const NEAREST: usize = 512;
const LOOKED_AT: usize = 2048;
const LOOKED_AT_FOR_NEW: usize = 4096;
/// Steps of the solver.
const STEPS: usize = 8;
/// A class is fitted with a new one of which at least one in so many texts was taken for it.
const TAKEN_ONE_IN: usize = 10;

/// How rows that came are fitted: not to the end, since a job goes on.
fn recipe(network: &Checkpoint) -> RefitRecipe {
    let Recipe { label_smoothing, refit_decay, wide, .. } =
        Recipe::for_training(network.architecture.preset, Mode::Scratch, OTHERS);
    let wide = WideRecipe { epochs: wide.epochs / 3, rate: 2.0 * wide.rate, ..wide };
    RefitRecipe { decay: refit_decay, steps: STEPS, smoothing: label_smoothing, wide }
}

/// A network that got rows for leaves.
pub(super) struct Grown<'a> {
    pub(super) network: Checkpoint,
    /// The classes before.
    pub(super) before: &'a Manifest,
    /// The leaves that came.
    pub(super) newcomers: &'a [LeafId],
}

/// A network whose new rows were fitted.
pub(super) struct Imprinted {
    pub(super) network: Checkpoint,
    /// The leaves that came, of classes that have examples.
    pub(super) fitted: Vec<LeafId>,
}

/// A network with rows of leaves that came fitted to the examples that train; but for those of classes that these examples
/// were taken for, all other rows stay as they are. Leaves of classes without examples keep their rows as well.
///
/// # Errors
/// Those of the network; that of the token.
pub(super) fn imprint(
    Grown { network, before, newcomers }: Grown<'_>,
    manifest: &Manifest,
    examples: &[Example],
    kept: Kept<'_>,
    cancel: &Cancellation,
) -> Result<Imprinted> {
    let newcomers: BTreeSet<LeafId> = newcomers.iter().copied().collect();
    let by_class = by_class(manifest, examples, cancel)?;
    let has_come = |class: &ClassId| {
        manifest.classes.get(class).is_some_and(|class| class.leaves().any(|leaf| newcomers.contains(&leaf)))
    };
    let came: BTreeSet<ClassId> = by_class.keys().copied().filter(has_come).collect();
    if came.is_empty() {
        return Ok(Imprinted { network, fitted: Vec::new() });
    }
    let groups = LeafGroups::new(manifest, &network.leaves)?;
    let start = with_rows_of_parents(network, before, manifest, &came)?;
    let (features, terms) = rayon::join(|| kept.of(&start), || start.term_table());
    let reader = Reader {
        network: &start,
        features,
        terms: terms?,
        encoder: OnceLock::new(),
        groups: &groups,
        cancel,
    };
    let all_of = |classes: &BTreeSet<ClassId>| {
        let own = classes.iter().filter_map(|class| Some((*class, by_class.get(class)?)));
        let own = own.flat_map(|(class, own)| spread(own, OWN).map(move |(example, w)| (*example, class, w)));
        own.collect::<Vec<_>>()
    };
    // The rows of other classes tell the parts from these already, as they told what was split.
    let heirs: BTreeSet<ClassId> = before
        .active()
        .filter(|class| !manifest.is_active(class.id))
        .flat_map(|class| manifest.heirs(class.id))
        .collect();
    let new: BTreeSet<ClassId> = came.difference(&heirs).copied().collect();
    let mut texts = reader.read(&all_of(&new))?;
    let mut fitted = rivals(&start, &groups, &before.leaves(), &texts)?;
    fitted.extend(came);
    let free: BTreeSet<LeafId> = fitted
        .iter()
        .filter_map(|class| manifest.classes.get(class))
        .flat_map(|class| class.leaves())
        .collect();
    let others: Vec<(&Example, ClassId)> = by_class
        .iter()
        .filter(|(class, _)| !fitted.contains(class))
        .flat_map(|(class, own)| own.iter().map(|example| (*example, *class)))
        .collect();
    let looked_at = if new.is_empty() { LOOKED_AT } else { LOOKED_AT_FOR_NEW };
    let rest: BTreeSet<ClassId> = fitted.difference(&new).copied().collect();
    let (rest, nearest) = rayon::join(
        || reader.read(&all_of(&rest)),
        || {
            let (nearest, found) = reader.nearest(&free, &others, looked_at)?;
            reader.complete(&nearest, found)
        },
    );
    texts.append(rest?);
    texts.append(nearest?);
    cancel.check()?;
    debug!(classes = fitted.len(), texts = texts.samples.len(), "examples read");
    let samples: Vec<&Sample> = texts.samples.iter().collect();
    let data = Featured { samples: &samples, features: &texts.features, weights: &texts.weights };
    let recipe = recipe(&start);
    let network = refit(start, data, &groups, &free, &recipe, 0)?;
    Ok(Imprinted { network, fitted: free.intersection(&newcomers).copied().collect() })
}

/// The examples that train, by the class that they mean.
fn by_class<'a>(
    manifest: &Manifest,
    examples: &'a [Example],
    cancel: &Cancellation,
) -> Result<BTreeMap<ClassId, Vec<&'a Example>>> {
    let meanings = Meanings::new(Some(manifest.clone()));
    let mut by_class: BTreeMap<ClassId, Vec<&Example>> = BTreeMap::new();
    for example in examples.iter().filter(|example| example.split == Split::Train) {
        cancel.check()?;
        if let Some(class) = meanings.class_id_of(example) {
            by_class.entry(class).or_default().push(example);
        }
    }
    Ok(by_class)
}

/// Texts to fit rows on.
struct Texts {
    samples: Vec<Sample>,
    /// `[N, F]`
    features: Vec<f32>,
    /// How many texts each stands for.
    weights: Vec<f32>,
}

impl Texts {
    fn append(&mut self, other: Self) {
        if self.samples.is_empty() {
            *self = other;
            return;
        }
        self.samples.extend(other.samples);
        self.features.extend(other.features);
        self.weights.extend(other.weights);
    }
}

/// An example with its class, and how many it stands for.
type Chosen<'a> = (&'a Example, ClassId, f32);

fn ids(examples: &[Chosen<'_>]) -> Vec<u64> {
    examples.iter().map(|(example, ..)| example.id).collect()
}

/// Reads examples for a network.
struct Reader<'a> {
    network: &'a Checkpoint,
    features: FeaturesOf<'a>,
    terms: Terms,
    /// Made for the first text whose features are not kept.
    encoder: OnceLock<TextEncoder>,
    groups: &'a LeafGroups,
    cancel: &'a Cancellation,
}

impl Reader<'_> {
    /// What examples are to the network.
    fn read(&self, examples: &[Chosen<'_>]) -> Result<Texts> {
        self.complete(examples, self.features.look_up(&ids(examples)))
    }

    /// As [`Reader::read`], where the features that are kept were found before.
    fn complete(&self, examples: &[Chosen<'_>], found: Option<Features>) -> Result<Texts> {
        let ids = ids(examples);
        let is_kept = |id: u64| found.as_ref().is_some_and(|found| found.row(id).is_some());
        let encoder = match ids.iter().all(|id| is_kept(*id)) {
            true => None,
            false => Some(self.encoder()?),
        };
        let (terms, groups) = (&self.terms, self.groups);
        let samples: Vec<Sample> = examples
            .par_iter()
            .map(|(example, class, _)| {
                self.cancel.check()?;
                let text = match encoder {
                    Some(encoder) if !is_kept(example.id) => encoder.encode(&example.text),
                    _ => EncodedText::of_terms(&example.text, terms),
                };
                // Active classes have a column.
                Ok(Sample { text, class: groups.column(*class).unwrap_or_default() })
            })
            .collect::<Result<_>>()?;
        let each: Vec<&Sample> = samples.iter().collect();
        let features = self.features.complete(found.as_ref(), &each, &ids, &mut |_| self.cancel.check())?;
        Ok(Texts { samples, features, weights: examples.iter().map(|(.., weight)| *weight).collect() })
    }

    fn encoder(&self) -> Result<&TextEncoder> {
        match self.encoder.get() {
            Some(encoder) => Ok(encoder),
            None => {
                let encoder = self.network.text_encoder()?;
                Ok(self.encoder.get_or_init(|| encoder))
            }
        }
    }

    /// A part of the examples of classes that are not fitted: those that come nearest to being taken for the leaves that are,
    /// by the head, where their features are kept; and of the others a few, spread evenly. At most so many are looked at. With
    /// the features that were found.
    fn nearest<'a>(
        &self,
        fitted: &BTreeSet<LeafId>,
        others: &[(&'a Example, ClassId)],
        most: usize,
    ) -> Result<(Vec<Chosen<'a>>, Option<Features>)> {
        let evenly = |others: &[(&'a Example, ClassId)], at_most, each: f32| {
            let some =
                spread(others, at_most).map(|(&(example, class), every)| (example, class, each * every));
            some.collect::<Vec<_>>()
        };
        let looked_at = evenly(others, most, 1.0);
        let found = if looked_at.len() > OTHERS { self.features.look_up(&ids(&looked_at)) } else { None };
        let Some(found) = found.filter(|found| found.ids.len() == looked_at.len()) else {
            let few = evenly(others, OTHERS, 1.0);
            let found = self.features.look_up(&ids(&few));
            return Ok((few, found));
        };
        let margins = margins(self.network, fitted, &found.rows)?;
        let mut nearest: Vec<(f32, Chosen<'_>)> = looked_at
            .into_iter()
            .map(|other| {
                (found.ids.binary_search(&other.0.id).map_or(f32::NEG_INFINITY, |at| margins[at]), other)
            })
            .collect();
        nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.0.id.cmp(&b.1.0.id)));
        let mut rest: Vec<(&Example, ClassId)> =
            nearest[NEAREST..].iter().map(|(_, (example, class, _))| (*example, *class)).collect();
        rest.sort_unstable_by_key(|(example, class)| (*class, example.id));
        let each = nearest[0].1.2;
        let mut chosen: Vec<_> = nearest[..NEAREST].iter().map(|(_, other)| *other).collect();
        chosen.extend(evenly(&rest, OTHERS - NEAREST, each));
        Ok((chosen, Some(found)))
    }
}

/// The network with the rows of what was split in place of those of its parts.
fn with_rows_of_parents(
    mut network: Checkpoint,
    before: &Manifest,
    manifest: &Manifest,
    came: &BTreeSet<ClassId>,
) -> Result<Checkpoint> {
    let row_of = |leaf: LeafId| network.leaves.iter().position(|other| *other == leaf);
    // What each row becomes the mean of, and its bias lower by.
    let mut rows: BTreeMap<usize, (Vec<usize>, f32)> = BTreeMap::new();
    for parent in before.active().filter(|class| !manifest.is_active(class.id)) {
        let heirs = manifest.heirs(parent.id);
        let parts: Vec<ClassId> = heirs.intersection(came).copied().collect();
        let of: Vec<usize> = parent.leaves().filter_map(row_of).collect();
        for part in parts.iter().filter_map(|part| manifest.classes.get(part)) {
            for row in part.leaves().filter_map(row_of).filter(|row| !of.contains(row)) {
                rows.insert(row, (of.clone(), (parts.len() as f32).ln()));
            }
        }
    }
    // Of numbers that lie `stride` apart, a row each.
    let mean = |numbers: &[f32], of: &[usize], stride: usize| {
        of.iter().map(|&row| numbers[row * stride]).sum::<f32>() / of.len() as f32
    };
    let biases = |numbers: &mut [f32]| {
        rows.iter().for_each(|(&row, (of, lowered))| numbers[row] = mean(numbers, of, 1) - lowered);
    };
    let (width, leaves) = (network.architecture.features(), network.leaves.len());
    let numbers = network.numbers_mut(HEAD_WEIGHT)?;
    for (&row, (of, _)) in &rows {
        (0..width).for_each(|at| numbers[row * width + at] = mean(&numbers[at..], of, width));
    }
    biases(network.numbers_mut(HEAD_BIAS)?);
    if network.architecture.wide {
        for weights in network.numbers_mut(WIDE_WEIGHT)?.chunks_exact_mut(leaves) {
            rows.iter().for_each(|(&row, (of, _))| weights[row] = mean(weights, of, 1));
        }
        biases(network.numbers_mut(WIDE_BIAS)?);
    }
    Ok(network)
}

/// By how much the strongest row of some leaves exceeds the strongest of all others, for each text by its features `[N, F]`.
fn margins(network: &Checkpoint, of: &BTreeSet<LeafId>, features: &[f32]) -> Result<Vec<f32>> {
    let logits = head_logits(network, features)?;
    let is_of: Vec<bool> = network.leaves.iter().map(|leaf| of.contains(leaf)).collect();
    let margin = |logits: &[f32]| {
        let strongest = |side: bool| {
            let rows = logits.iter().zip(&is_of).filter(|(_, is_of)| **is_of == side);
            rows.fold(f32::NEG_INFINITY, |most, (logit, _)| most.max(*logit))
        };
        strongest(true) - strongest(false)
    };
    Ok(logits.chunks_exact(network.leaves.len()).map(margin).collect())
}

/// The classes, of those that own the leaves from before, that a good part of the texts of some class were taken for by the
/// head.
fn rivals(
    network: &Checkpoint,
    groups: &LeafGroups,
    before: &BTreeSet<LeafId>,
    texts: &Texts,
) -> Result<BTreeSet<ClassId>> {
    // What was split is among them: its texts were taken for what they were.
    let known: Vec<usize> =
        (0..network.leaves.len()).filter(|&row| before.contains(&network.leaves[row])).collect();
    if known.is_empty() || texts.samples.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut taken: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    let mut texts_of: BTreeMap<u32, usize> = BTreeMap::new();
    let strongest = strongest_rows(network, &texts.features, &known)?;
    for (sample, row) in texts.samples.iter().zip(strongest) {
        *texts_of.entry(sample.class).or_default() += 1;
        if let Some(class) = groups.class_of_row[row] {
            *taken.entry((sample.class, class)).or_default() += 1;
        }
    }
    let often = taken.iter().filter(|((of, _), count)| **count * TAKEN_ONE_IN >= texts_of[of]);
    Ok(often.map(|((_, class), _)| groups.classes[*class as usize]).collect())
}

/// At most so many of some things, spread evenly, each with how many it stands for.
fn spread<T>(all: &[T], at_most: usize) -> impl Iterator<Item = (&T, f32)> {
    let every = all.len().div_ceil(at_most).max(1);
    all.iter().step_by(every).map(move |one| (one, every as f32))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        model::{Architecture, Array, Preset, surgery, with_newcomers},
        taxonomy::{ClassName, Part, Provenance, Revision, VersionNumber},
    };

    const TEXTS: [&str; 4] = ["my card is lost", "my card", "take cash out", "cash out"];

    /// Classes of two leaves, of which the second is split, and a network with rows for the parts.
    fn split() -> (Manifest, Manifest, Checkpoint) {
        let names = ["card", "cash"].map(|name| ClassName::new(name).unwrap());
        let before = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        let (reason, author) = Default::default();
        let (revision, serving) = (Revision(2), VersionNumber(1));
        let provenance = Provenance { revision, serving, reason, author, created: SystemTime::UNIX_EPOCH };
        let parts = ["small", "large"].map(|name| Part { name: name.into(), ..Part::default() });
        let after = before.split("cash", &parts, provenance).unwrap();
        let architecture = Architecture { embedding: 2, hidden: 1, ..Architecture::preset(Preset::Default) };
        let leaves: Vec<LeafId> = before.leaves().into_iter().collect();
        let mut network = surgery::from_scratch(architecture, TEXTS, &leaves, 1);
        let terms = network.terms.len();
        let weights: Vec<f32> = (0..terms * 2).map(|at| at as f32).collect();
        network.tensors.insert(WIDE_WEIGHT.into(), Array::new([terms, 2], weights));
        let newcomers: Vec<LeafId> = after.leaves().difference(&before.leaves()).copied().collect();
        let grown = with_newcomers(&network, &before.leaves(), &newcomers).unwrap();
        (before, after, grown)
    }

    #[test]
    fn parts_start_from_the_rows_of_what_was_split() {
        let (before, after, network) = split();
        let came: BTreeSet<ClassId> = after.heirs(ClassId(2));
        assert_eq!(came.len(), 2);
        let start = with_rows_of_parents(network.clone(), &before, &after, &came).unwrap();
        start.validate().unwrap();
        let head = &start.tensors[HEAD_WEIGHT];
        assert!((2..4).all(|part| head.row(part) == head.row(1)));
        let bias = &start.tensors[HEAD_BIAS].data;
        assert!((2..4).all(|part| (bias[part] - (bias[1] - 2f32.ln())).abs() < 1e-6));
        let wide = &start.tensors[WIDE_WEIGHT];
        for term in 0..wide.shape[0] {
            let weights = wide.row(term);
            assert_eq!(weights[1..], [weights[1]; 3]);
        }
        // What was not split has its rows, and without a split so have all.
        assert_eq!(head.row(0), network.tensors[HEAD_WEIGHT].row(0));
        assert_eq!(with_rows_of_parents(network.clone(), &after, &after, &came).unwrap(), network);
    }

    #[test]
    fn a_margin_is_that_of_the_strongest_row_over_the_strongest_other() {
        let (_, _, mut network) = split();
        let width = network.architecture.features();
        let mut head = vec![0.0; network.leaves.len() * width];
        // The first feature speaks for the first leaf, the second for the third, and more for the fourth.
        (head[0], head[2 * width + 1], head[3 * width + 1]) = (1.0, 1.0, 2.0);
        network.tensors.insert(HEAD_WEIGHT.into(), Array::new([network.leaves.len(), width], head));
        network.tensors.insert(HEAD_BIAS.into(), Array::new([network.leaves.len()], vec![0.0; 4]));
        let mut features = vec![0.0; 2 * width];
        (features[0], features[width + 1]) = (3.0, 5.0);
        let of: BTreeSet<LeafId> = network.leaves[2..].iter().copied().collect();
        assert_eq!(margins(&network, &of, &features).unwrap(), [0.0 - 3.0, 10.0 - 0.0]);
    }

    #[test]
    fn a_class_that_many_texts_of_a_new_one_were_taken_for_is_a_rival() {
        let (before, after, mut network) = split();
        let groups = LeafGroups::new(&after, &network.leaves).unwrap();
        let width = network.architecture.features();
        // The first feature speaks for the first class, the second for the one that was split.
        let mut head = vec![0.0; network.leaves.len() * width];
        (head[0], head[width + 1]) = (1.0, 1.0);
        network.tensors.insert(HEAD_WEIGHT.into(), Array::new([network.leaves.len(), width], head));
        network.tensors.insert(HEAD_BIAS.into(), Array::new([network.leaves.len()], vec![0.0; 4]));
        let terms = network.term_table().unwrap();
        let taken = |for_the_first: usize| {
            let sample = |_| Sample { text: EncodedText::of_terms("cash", &terms), class: 1 };
            let row = |text: usize| {
                let mut row = vec![0.0; width];
                row[usize::from(text >= for_the_first)] = 1.0;
                row
            };
            let features = (0..20).flat_map(row).collect();
            let texts = Texts { samples: (0..20).map(sample).collect(), features, weights: vec![1.0; 20] };
            rivals(&network, &groups, &before.leaves(), &texts).unwrap()
        };
        assert_eq!(taken(2), BTreeSet::from([ClassId(1)]));
        assert_eq!(taken(1), BTreeSet::new());
    }
}
