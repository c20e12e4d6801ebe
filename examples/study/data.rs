//! Rows of a file, as samples of a network, and what its answers to them are worth.

use std::{error::Error, path::PathBuf, time::Instant};

use rayon::prelude::*;
use taxond::{
    model::{Checkpoint, Classifier, Preset},
    taxonomy::{ClassName, LeafGroups, Manifest},
    text::EncodedText,
    train::{Confusion, Judged, Sample, metrics::argmax},
};

/// A labelled text.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) label: ClassName,
}

/// What the answers to the test texts are worth.
pub(crate) struct Tested {
    pub(crate) confusion: Confusion,
    pub(crate) judged: Vec<Judged>,
    pub(crate) texts_per_second: f64,
}

pub(crate) fn preset(name: &str) -> Result<Preset, String> {
    match name {
        "default" => Ok(Preset::Default),
        "seed" => Ok(Preset::Seed),
        _ => Err("a preset is default or seed".into()),
    }
}

pub(crate) fn test(
    classifier: &Classifier,
    rows: &[Row],
    manifest: &Manifest,
    groups: &LeafGroups,
) -> Result<Tested, Box<dyn Error>> {
    let began = Instant::now();
    let texts: Vec<EncodedText> = rows.iter().map(|row| classifier.encode(&row.text)).collect();
    let answers = classifier.leaf_probabilities(&texts)?;
    let texts_per_second = rows.len() as f64 / began.elapsed().as_secs_f64();
    let mut confusion = Confusion::new(groups.classes.len());
    let mut judged = Vec::new();
    for (row, answer) in rows.iter().zip(answers.iter()) {
        let (label, classes) = (column(manifest, groups, &row.label)? as usize, groups.sums(answer));
        let answer = argmax(&classes);
        confusion.add(label, answer);
        judged.push(Judged { confidence: classes[answer], right: answer == label });
    }
    Ok(Tested { confusion, judged, texts_per_second })
}

pub(crate) fn samples(
    network: &Checkpoint,
    rows: &[(usize, &Row)],
    manifest: &Manifest,
    groups: &LeafGroups,
) -> Result<Vec<Sample>, Box<dyn Error>> {
    let encoder = network.text_encoder()?;
    let classes = rows.iter().map(|(_, row)| column(manifest, groups, &row.label));
    let classes = classes.collect::<Result<Vec<u32>, _>>()?;
    let texts: Vec<EncodedText> = rows.par_iter().map(|(_, row)| encoder.encode(&row.text)).collect();
    Ok(texts.into_iter().zip(classes).map(|(text, class)| Sample { text, class }).collect())
}

pub(crate) fn column(
    manifest: &Manifest,
    groups: &LeafGroups,
    label: &ClassName,
) -> Result<u32, Box<dyn Error>> {
    let class = manifest.living_by_name(label).ok_or_else(|| format!("label '{label}' was not trained"))?;
    Ok(groups.column(class.id).ok_or("an active class has a column")?)
}

pub(crate) fn read(path: &PathBuf) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut reader = csv::Reader::from_path(path)?;
    reader
        .deserialize::<(String, String)>()
        .map(|row| {
            let (text, label) = row?;
            Ok(Row { text, label: ClassName::new(&label)? })
        })
        .collect()
}
