//! What versions in memory take: they are counted by what they use, tokens go before versions do, and versions that share a
//! network are counted once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_fixtures;

use std::{collections::HashSet, ops::Range, path::Path, sync::Arc, time::SystemTime};

use store_fixtures::{label, publication, reopen};
use taxond::{
    model::{AnswerWeights, Architecture, Network, Preset, surgery},
    predict::{Live, LiveVersions},
    registry::{ModelId, Registry, Tensors},
    taxonomy::{LeafId, Manifest, Provenance, Revision, VersionNumber},
};

const FIRST: VersionNumber = VersionNumber(1);

fn id(number: usize) -> ModelId {
    store_fixtures::id(&format!("bank-{number}"))
}

/// A word of three of five letters.
fn word(number: usize) -> String {
    let letter = |place: usize| char::from(b"abcde"[number / place % 5]);
    [25, 5, 1].map(letter).iter().collect()
}

/// Models of two classes, each with its own tensors of some 100 KB.
fn registry(folder: &Path, models: usize) -> Arc<Registry> {
    let registry = reopen(folder);
    for number in 0..models {
        registry.create_model(&id(number), Preset::Default, None).unwrap();
        let architecture =
            Architecture { embedding: 16, hidden: 16, ..Architecture::preset(Preset::Default) };
        // A word is known that two texts hold.
        let words: Vec<String> =
            (0..125).flat_map(|at| ["a", "b"].map(|text| format!("{} {text}", word(at)))).collect();
        let texts = words.iter().map(String::as_str);
        let network = surgery::from_scratch(architecture, texts, &[LeafId(1), LeafId(2)], number as u64);
        let manifest = Manifest::create(&[label("card"), label("cash")], SystemTime::now()).unwrap();
        registry.publish(publication(&id(number), Tensors::New(network), Some(manifest))).unwrap();
    }
    Arc::new(registry)
}

fn versions(registry: &Arc<Registry>, budget: u64) -> LiveVersions {
    LiveVersions::new(Arc::clone(registry), budget, HashSet::new(), AnswerWeights::F32)
}

/// What the versions of so many models take, and what of that is tokens that were read when they were loaded.
fn taken(registry: &Arc<Registry>, models: usize) -> [u64; 2] {
    let live = versions(registry, u64::MAX);
    let loaded = (0..models).map(|number| live.get(&id(number), FIRST).unwrap());
    let tokens = loaded.map(|version| version.classifier.token_bytes()).sum();
    [live.memory_bytes(), tokens]
}

fn is_loaded(live: &LiveVersions, number: usize) -> bool {
    live.in_memory(&id(number)).unwrap() == [FIRST]
}

/// A request for a version that is in memory.
fn ask(live: &LiveVersions, registry: &Registry, number: usize) {
    let uid = registry.model(&id(number)).unwrap().uid;
    assert!(live.loaded(uid, FIRST).is_some(), "{number} is not in memory");
}

/// Has a network read tokens that are no words it knows, and are told by the parts of two.
fn read(live: &Live, tokens: Range<usize>) {
    for token in tokens {
        let text = live.classifier.encode(&(word(token / 125) + &word(token % 125)));
        live.classifier.leaf_probabilities(&[text]).unwrap();
    }
}

#[test]
fn versions_that_fit_by_what_they_use_all_stay() {
    const MODELS: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), MODELS);
    let [bytes, tokens] = taken(&registry, MODELS);
    assert!(tokens > 0 && tokens < bytes);
    // A flat charge for the tokens that each might keep would let four of them stay.
    assert!(bytes < 4 * Network::TOKEN_BYTES as u64, "{bytes}");
    let live = versions(&registry, bytes);
    for _ in 0..2 {
        for number in 0..MODELS {
            live.get(&id(number), FIRST).unwrap();
        }
    }
    assert_eq!((live.stats().loads.get(), live.stats().evictions.get()), (MODELS as u64, 0));
    assert_eq!(live.memory_bytes(), bytes);
}

#[test]
fn tokens_go_before_versions_do() {
    const MODELS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), MODELS);
    let [bytes, tokens] = taken(&registry, MODELS);
    let budget = 3 * (bytes - tokens);
    let live = versions(&registry, budget);
    let loaded: Vec<Arc<Live>> = (0..MODELS).map(|number| live.get(&id(number), FIRST).unwrap()).collect();
    for round in 0.. {
        let before = live.memory_bytes();
        if before > budget {
            break;
        }
        loaded.iter().for_each(|version| read(version, round * 50..(round + 1) * 50));
        assert!(live.memory_bytes() > before, "these tokens are no new ones");
    }
    let kept = || -> Vec<u64> { loaded.iter().map(|version| version.classifier.token_bytes()).collect() };
    let filled = kept();
    // The next request finds that they are too many.
    ask(&live, &registry, 0);
    let left = kept();
    assert!(live.memory_bytes() <= budget, "{left:?} of {filled:?}");
    // Of the versions it is 1 that was not used for longest, and 0 that was used last.
    assert!(left[1] < filled[1] && left[0] == filled[0], "{left:?} of {filled:?}");
    (0..MODELS).for_each(|number| ask(&live, &registry, number));
    assert_eq!(live.stats().evictions.get(), 0);
    // Nothing is forgotten of how they answer.
    let text = loaded[1].classifier.encode("abc cde a");
    let fresh = versions(&registry, u64::MAX).get(&id(1), FIRST).unwrap();
    let answers = |of: &Live| of.classifier.leaf_probabilities(std::slice::from_ref(&text)).unwrap();
    assert_eq!(answers(&loaded[1]), answers(&fresh));
}

#[test]
fn versions_go_where_their_tensors_alone_are_too_much() {
    const MODELS: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), MODELS);
    let [bytes, tokens] = taken(&registry, 3);
    // Three do not fit, not even without their tokens.
    let budget = bytes - tokens - 1;
    let live = versions(&registry, budget);
    for number in 0..MODELS {
        live.get(&id(number), FIRST).unwrap();
        assert!(is_loaded(&live, number), "the latest is always kept");
        assert!(live.memory_bytes() <= budget);
    }
    let kept: Vec<usize> = (0..MODELS).filter(|number| is_loaded(&live, *number)).collect();
    assert_eq!((kept, live.stats().evictions.get()), (vec![3, 4], 3));
}

#[test]
fn versions_that_share_a_network_are_counted_once_and_are_few() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), 1);
    let live = versions(&registry, u64::MAX);
    let first = live.get(&id(0), FIRST).unwrap();
    let [bytes, _] = taken(&registry, 1);
    let mut now = Manifest::clone(&first.manifest);
    for number in 2..=40 {
        let provenance = Provenance {
            revision: Revision(number),
            serving: VersionNumber(number - 1),
            reason: String::new(),
            author: String::new(),
            created: SystemTime::now(),
        };
        now = now.rename("#1", &format!("card {number}"), provenance).unwrap();
        registry.publish(publication(&id(0), Tensors::Same(FIRST), Some(now.clone()))).unwrap();
        live.get(&id(0), VersionNumber(number)).unwrap();
    }
    let kept = live.in_memory(&id(0)).unwrap();
    assert_eq!(kept, (25..=40).map(VersionNumber).collect::<Vec<_>>());
    assert!(live.memory_bytes() < bytes * 2, "{} of {bytes} for one", live.memory_bytes());
    assert!(live.get(&id(0), FIRST).is_ok());
    assert_eq!(live.stats().evictions.get(), 0);
}
