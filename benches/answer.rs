//! How fast a network of each preset answers, by the number of texts in company.
//!
//! The weights are those of a network that learnt nothing: the time does not depend on them.

use divan::{Bencher, counter::ItemsCount};
use taxond::{
    cli::demo,
    model::{Architecture, Classifier, Preset, surgery},
    taxonomy::LeafId,
};

const CLASSES: u32 = 77;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 8, 32, 256])]
fn preset_default(bencher: Bencher<'_, '_>, texts: usize) {
    answer(bencher, Preset::Default, texts);
}

#[divan::bench(args = [1, 32], sample_count = 10)]
fn preset_seed(bencher: Bencher<'_, '_>, texts: usize) {
    answer(bencher, Preset::Seed, texts);
}

/// Text in, probabilities of the leaves out.
fn answer(bencher: Bencher<'_, '_>, preset: Preset, texts: usize) {
    let data = demo::dataset(1);
    let learnt = data.train.iter().map(|(text, _)| text.as_str());
    let leaves: Vec<LeafId> = (1..=CLASSES).map(LeafId).collect();
    let checkpoint = surgery::from_scratch(Architecture::preset(preset), learnt, &leaves, 1);
    let classifier = Classifier::from_checkpoint(&checkpoint).expect("it was made just now");
    let asked: Vec<&str> = data.test.iter().take(texts).map(|(text, _)| text.as_str()).collect();
    bencher.counter(ItemsCount::new(texts)).bench(|| {
        let encoded: Vec<_> = asked.iter().map(|text| classifier.encode(text)).collect();
        classifier.leaf_probabilities(&encoded)
    });
}
