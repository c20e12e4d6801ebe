//! What the encoder makes of texts: kept from before, or computed block by block on all threads.

use rayon::prelude::*;
use tracing::{debug, warn};

use super::Sample;
use crate::{
    dataset::{EncoderId, FeatureCache, Features},
    error::Result,
    model::{Checkpoint, Network},
};

/// Texts a thread takes at a time.
const BLOCK: usize = 128;

/// Blocks between two looks at whether to go on.
const BLOCKS: usize = 16;

/// The features that are kept of a model's examples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'a> {
    pub(super) cache: &'a FeatureCache,
    pub(super) uid: u64,
}

/// Who is told how many texts are done, and may break off.
pub(super) type Observe<'a> = &'a mut dyn FnMut(usize) -> Result<()>;

/// The features that a network makes of a model's examples.
pub(super) struct FeaturesOf<'a> {
    kept: Kept<'a>,
    network: &'a Checkpoint,
    encoder: EncoderId,
}

impl<'a> Kept<'a> {
    /// Those of a network.
    pub(super) fn of(self, network: &'a Checkpoint) -> FeaturesOf<'a> {
        FeaturesOf { kept: self, network, encoder: network.encoder_id() }
    }
}

impl FeaturesOf<'_> {
    /// What is kept of some examples; nothing of most of them may be.
    pub(super) fn look_up(&self, ids: &[u64]) -> Option<Features> {
        let mut ascending = ids.to_vec();
        ascending.sort_unstable();
        let found = self.kept.cache.load(self.kept.uid, &self.encoder, &ascending)?;
        (found.width == self.network.architecture.features()).then_some(found)
    }

    /// The features, `[N, F]`, of samples and the ids of their examples: as they were found, or computed.
    ///
    /// # Errors
    /// Those of the network, and of `observe`.
    pub(super) fn complete(
        &self,
        found: Option<&Features>,
        samples: &[&Sample],
        ids: &[u64],
        observe: Observe<'_>,
    ) -> Result<Vec<f32>> {
        let width = self.network.architecture.features();
        let row = |id: u64| found.and_then(|found| found.row(id));
        let missing: Vec<&Sample> = samples
            .iter()
            .zip(ids)
            .filter(|(_, id)| row(**id).is_none())
            .map(|(sample, _)| *sample)
            .collect();
        debug!(texts = ids.len(), missing = missing.len(), "features looked up");
        let mut computed = match missing.as_slice() {
            [] => Vec::new(),
            missing => {
                compute(&Network::new(&self.network.architecture, &self.network.tensors)?, missing, observe)?
            }
        }
        .into_iter();
        let mut features = Vec::with_capacity(samples.len() * width);
        for &id in ids {
            match row(id) {
                Some(row) => features.extend_from_slice(row),
                None => features.extend(computed.by_ref().take(width)),
            }
        }
        Ok(features)
    }

    /// The features, `[N, F]`, of samples and the ids of their examples, read where they are kept.
    ///
    /// # Errors
    /// As [`FeaturesOf::complete`].
    pub(super) fn read(&self, samples: &[&Sample], ids: &[u64], observe: Observe<'_>) -> Result<Vec<f32>> {
        self.complete(self.look_up(ids).as_ref(), samples, ids, observe)
    }

    /// Sees to it that the features of examples, whose ids ascend, are kept. That they cannot be is worth a warning only.
    ///
    /// # Errors
    /// As [`FeaturesOf::complete`].
    pub(super) fn fill(&self, samples: &[&Sample], ids: &[u64], observe: Observe<'_>) -> Result<()> {
        let Kept { cache, uid } = self.kept;
        if cache.holds(uid, &self.encoder, ids) {
            return Ok(());
        }
        let (rows, width) = (self.read(samples, ids, observe)?, self.network.architecture.features());
        if let Err(cause) = cache.store(uid, &self.encoder, &Features { ids: ids.to_vec(), width, rows }) {
            warn!(%cause, "features are computed again next time");
        }
        Ok(())
    }
}

/// The features of samples, `[N, F]`.
fn compute(network: &Network, samples: &[&Sample], observe: Observe<'_>) -> Result<Vec<f32>> {
    let mut features = Vec::new();
    for (round, samples) in samples.chunks(BLOCK * BLOCKS).enumerate() {
        let blocks = samples.par_chunks(BLOCK).map(|block| {
            let texts: Vec<_> = block.iter().map(|sample| &sample.text).collect();
            network.features(&texts)
        });
        features.extend(blocks.collect::<Result<Vec<_>>>()?.into_iter().flatten());
        observe(round * BLOCK * BLOCKS + samples.len())?;
    }
    Ok(features)
}
