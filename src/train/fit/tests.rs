//! Trainings of small networks on made-up texts.

use super::*;
use crate::{
    model::{Architecture, Preset, checkpoint::EMBEDDING, surgery},
    registry::Mode,
    taxonomy::{ClassId, LeafId},
    train::Optimiser,
};

const WORDS: [&[&str]; 3] =
    [&["lost", "card", "stolen"], &["transfer", "money", "abroad"], &["忘", "密", "码"]];

/// Texts of three classes whose words overlap a little, by index.
fn text(index: usize) -> (String, u32) {
    let class = index % 3;
    let word = |at: usize| WORDS[class][(index / 3 + at) % 3];
    let filler = WORDS[(class + 1) % 3][index % 2];
    (format!("please {} {} {filler} {}", word(0), word(1), index % 7), class as u32)
}

struct Toy {
    start: Checkpoint,
    train: Vec<Sample>,
    validation: Vec<Sample>,
    groups: LeafGroups,
    recipe: Recipe,
}

/// Two classes: the first with two leaves, the second with one; a fourth leaf is of no class.
fn toy() -> Toy {
    let architecture = Architecture { embedding: 12, hidden: 10, ..Architecture::preset(Preset::Default) };
    let texts: Vec<(String, u32)> = (0..150).map(text).collect();
    let leaves: Vec<LeafId> = (1..=4).map(LeafId).collect();
    let start = surgery::from_scratch(architecture, texts.iter().map(|(text, _)| text.as_str()), &leaves, 3);
    let encoder = start.text_encoder().unwrap();
    let mut samples: Vec<Sample> = texts
        .iter()
        .map(|(text, class)| Sample { text: encoder.encode(text), class: u32::from(*class == 2) })
        .collect();
    let validation = samples.split_off(120);
    let recipe = Recipe {
        epochs: 6,
        learning_rate: 1e-2,
        ..Recipe::for_training(Preset::Default, Mode::Scratch, samples.len())
    };
    let groups = LeafGroups {
        classes: vec![ClassId(1), ClassId(2)],
        class_of_row: vec![Some(0), Some(0), Some(1), None],
    };
    Toy { start, train: samples, validation, groups, recipe }
}

impl Toy {
    fn fit(&self, seed: u64, observe: &mut dyn FnMut(&FitProgress) -> ControlFlow<()>) -> Result<Fitted> {
        let Self { start, train, validation, groups, recipe } = self;
        fit(start, train, validation, groups, recipe, seed, &Device::Cpu, observe)
    }
}

fn go_on(_: &FitProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn it_learns_and_says_how_far_it_is() {
    let toy = toy();
    let mut seen: Vec<FitProgress> = Vec::new();
    let fitted = toy
        .fit(1, &mut |progress| {
            seen.push(progress.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
    fitted.checkpoint.validate().unwrap();
    assert!(fitted.validation_accuracy.unwrap() > 0.95, "{:?}", fitted.validation_accuracy);
    assert!(fitted.validation_macro_f1.unwrap() > 0.95);
    assert!(fitted.calibration_error.unwrap() < 0.1 && !fitted.rejection.is_empty());
    assert_eq!(fitted.epochs, 6);
    let steps = 6 * 120usize.div_ceil(16);
    let wide = toy.recipe.wide.epochs as usize * 120usize.div_ceil(toy.recipe.wide.batch);
    assert!(seen[..wide].iter().all(|p| (p.stage, p.epoch, p.step) == ("wide", 0, 0)));
    assert!(seen[wide - 1].loss < seen[0].loss);
    assert_eq!(seen.len(), wide + steps + 6);
    assert!(seen.iter().filter(|p| p.stage == "fit").map(|p| p.step).eq(1..=steps as u64));
    let first = seen.iter().find(|p| p.stage == "evaluate").unwrap();
    let last = seen.last().unwrap();
    assert!(last.loss < first.loss && last.eta.is_zero());
    assert_eq!((last.epoch, last.step, last.steps), (6, steps as u64, steps as u64));
    let best = &seen.iter().filter(|p| p.stage == "evaluate").nth(fitted.best_epoch as usize - 1).unwrap();
    assert_eq!(best.validation_accuracy, fitted.validation_accuracy);
    assert_eq!(best.loss, fitted.train_loss);
}

#[test]
fn gradient_descent_and_shuffled_words_learn_too_and_keep_their_bytes() {
    let mut toy = toy();
    toy.recipe = Recipe { word_shuffle: 0.5, ..toy.recipe.with_optimiser(Optimiser::Sgd, Mode::Scratch) };
    (toy.recipe.epochs, toy.recipe.learning_rate) = (30, 0.5);
    let fitted = toy.fit(1, &mut go_on).unwrap();
    assert!(fitted.validation_accuracy.unwrap() > 0.95, "{:?}", fitted.validation_accuracy);
    assert!(fitted.curve.iter().all(|epoch| epoch.learning_rate == 0.5));
    toy.recipe.epochs = 1;
    let bytes = |toy: &Toy| toy.fit(1, &mut go_on).unwrap().checkpoint;
    let shuffled = bytes(&toy);
    assert_eq!(shuffled, bytes(&toy));
    toy.recipe.word_shuffle = 0.0;
    assert_ne!(shuffled, bytes(&toy));
}

#[test]
fn the_curve_has_every_epoch_as_it_was_told() {
    let mut toy = toy();
    toy.recipe.epochs = 3;
    let mut told = Vec::new();
    let fitted = toy.fit(1, &mut |progress| {
        if progress.stage == "evaluate" {
            told.push((progress.epoch, progress.step, progress.loss, progress.validation_accuracy));
        }
        ControlFlow::Continue(())
    });
    let curve = fitted.unwrap().curve;
    let points = curve.iter().map(|at| (at.epoch, at.step, at.train_loss, at.validation_accuracy));
    assert!(points.eq(told));
    assert!(curve.is_sorted_by(|a, b| a.seconds <= b.seconds && a.learning_rate > b.learning_rate));
    // The last rate of a cosine over 24 steps, two of them climbing.
    assert!(curve[2].learning_rate < 0.01 * toy.recipe.learning_rate, "{curve:?}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let mut toy = toy();
    toy.recipe.epochs = 2;
    let fitted = |seed| toy.fit(seed, &mut go_on).unwrap().checkpoint;
    let first = fitted(1);
    assert_eq!(first, fitted(1));
    assert_ne!(first, fitted(2));
}

#[test]
fn without_validation_samples_the_last_epoch_stays() {
    let mut toy = toy();
    toy.validation.clear();
    toy.recipe.epochs = 3;
    let fitted = toy.fit(1, &mut go_on).unwrap();
    assert_eq!((fitted.best_epoch, fitted.validation_accuracy), (3, None));
}

#[test]
fn rows_that_no_text_touches_stay_as_they_were() {
    let mut toy = toy();
    toy.recipe.epochs = 1;
    toy.recipe.word_dropout = 0.0;
    toy.recipe.feature_dropout = 0.0;
    toy.recipe.embedding_dropout = 0.0;
    toy.train.truncate(20);
    let fitted = toy.fit(1, &mut go_on).unwrap();
    let (before, after) = (&toy.start.tensors[EMBEDDING], &fitted.checkpoint.tensors[EMBEDDING]);
    let (mut moved, mut stayed) = (0, 0);
    for row in 0..toy.start.vocabulary.len() {
        let touched = toy.train.iter().any(|sample| sample.text.features.contains(&(row as u32)));
        assert_eq!(before.row(row) != after.row(row), touched, "row {row}");
        *(if touched { &mut moved } else { &mut stayed }) += 1;
    }
    assert!(moved > 10 && stayed > 0, "{moved} {stayed}");
}

#[test]
fn frozen_rows_stay_as_they_were_and_the_rest_learns() {
    let mut toy = toy();
    toy.recipe.epochs = 1;
    toy.start.architecture.frozen_rows = 5;
    let fitted = toy.fit(1, &mut go_on).unwrap();
    let (before, after) = (&toy.start.tensors[EMBEDDING], &fitted.checkpoint.tensors[EMBEDDING]);
    let moved = |row: usize| before.row(row) != after.row(row);
    assert!(!(1..=5).any(moved));
    assert!((6..12).all(moved), "the most frequent features are touched");
}

#[test]
fn it_stops_when_told() {
    let mut steps = 0;
    let stopped = toy().fit(1, &mut |_| {
        steps += 1;
        if steps == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_eq!(steps, 5);
}

#[test]
fn what_the_best_epoch_learnt_is_kept_when_told_to_stop_later() {
    let mut toy = toy();
    let whole = toy.fit(1, &mut go_on).unwrap();
    let stopped = toy.fit(1, &mut |progress| match (progress.epoch, progress.step % 8) {
        (3, 4) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.epochs, stopped.curve.len()), (2, 2));
    let points = |fitted: &Fitted| {
        fitted.curve[..2].iter().map(|at| (at.train_loss, at.validation_accuracy)).collect::<Vec<_>>()
    };
    assert_eq!(points(&stopped), points(&whole));
    assert_eq!(stopped.validation_accuracy, points(&whole)[stopped.best_epoch as usize - 1].1);
    stopped.checkpoint.validate().unwrap();
    // Also when it is told at the end of the epoch itself.
    toy.recipe.epochs = 2;
    let at_once = toy.fit(1, &mut |progress| match progress.stage {
        "evaluate" => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(at_once.unwrap().epochs, 1);
}

#[test]
fn a_network_that_breaks_is_restored_and_goes_on_at_half_the_rate() {
    let toy = toy();
    let Toy { start, train, validation, groups, recipe } = &toy;
    let data = Data { train, validation, groups };
    let mut fitting = Fitting::new(start, data, recipe, 1, &Device::Cpu).unwrap();
    let mut observe = |_: &FitProgress| Ok(());
    assert!(fitting.whole_epoch(1, &mut observe).unwrap());
    let whole = fitting.whole.clone();

    fitting.trainer.poison();
    assert!(!fitting.whole_epoch(2, &mut observe).unwrap(), "eight steps in a row were not finite");
    assert!(fitting.whole == whole, "nothing broken is kept");
    fitting.restore(2).unwrap();
    assert_eq!(fitting.trainer.tensors().unwrap()[EMBEDDING], whole.tensors[EMBEDDING]);
    assert_eq!(fitting.progress.step, 8);

    assert!(fitting.whole_epoch(2, &mut observe).unwrap());
    let rate = recipe.rate(15, 48);
    assert_eq!(fitting.curve[1].learning_rate, 0.5 * rate);
    let fitted = fitting.finish().unwrap();
    assert!(fitted.validation_accuracy.unwrap() > 0.8, "{:?}", fitted.validation_accuracy);
    fitted.checkpoint.validate().unwrap();
}

#[test]
fn a_device_that_is_lost_is_left_for_the_processor_after_the_last_whole_epoch() {
    let mut toy = toy();
    toy.recipe.epochs = 3;
    let Toy { start, train, validation, groups, recipe } = &toy;
    let data = Data { train, validation, groups };
    let mut fitting = Fitting::new(start, data, recipe, 1, &Device::Cpu).unwrap();
    assert!(fitting.whole_epoch(1, &mut |_: &FitProgress| Ok(())).unwrap());
    let first = fitting.curve[0];
    fitting.trainer.lose();
    let gone = fitting.whole_epoch(2, &mut |_: &FitProgress| Ok(())).unwrap_err();
    assert!(gone.to_string().contains("it is gone"), "{gone}");

    // The whole loop: every epoch there, the first of them learnt anew.
    let mut fitting = Fitting::new(start, data, recipe, 1, &Device::Cpu).unwrap();
    fitting.trainer.lose();
    fitting.run(&mut |_: &FitProgress| Ok(())).unwrap();
    assert_eq!(fitting.curve.iter().map(|at| at.epoch).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((fitting.curve[0].step, fitting.curve[0].learning_rate), (first.step, first.learning_rate));
    let fitted = fitting.finish().unwrap();
    assert_eq!(fitted.device, "cpu");
    assert!(fitted.validation_accuracy.unwrap() > 0.6, "{:?}", fitted.validation_accuracy);
}

#[test]
fn a_training_that_diverges_fails_by_name() {
    let mut toy = toy();
    toy.recipe.learning_rate = 1e38;
    let error = toy.fit(1, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::Precondition { reason: "TRAINING_DIVERGED", .. }), "{error}");
    assert!(error.to_string().contains("epoch") && error.to_string().contains("1e38"), "{error}");
}

#[test]
fn nothing_to_learn_from_is_an_error() {
    let mut toy = toy();
    toy.train.clear();
    assert!(matches!(toy.fit(1, &mut go_on), Err(Error::Precondition { reason: "NOTHING_TO_LEARN", .. })));
}
