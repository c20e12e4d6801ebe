//! What the encoder makes of texts: kept from before, or computed block by block on all threads.

use rayon::prelude::*;
use tracing::{debug, warn};

use super::Sample;
use crate::{
    dataset::{FeatureCache, Features},
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

impl Kept<'_> {
    /// The features, `[N, F]`, of samples and the ids of their examples, read where they are kept.
    ///
    /// # Errors
    /// Those of the network, and of `observe`.
    pub(super) fn features(
        &self,
        network: &Checkpoint,
        samples: &[&Sample],
        ids: &[u64],
        observe: Observe<'_>,
    ) -> Result<Vec<f32>> {
        let width = network.architecture.features();
        let encoder = network.encoder_id();
        let kept = self.cache.load(self.uid, &encoder).filter(|kept| kept.width == width);
        let row = |id: u64| kept.as_ref().and_then(|kept| kept.row(id));
        let missing: Vec<&Sample> = samples
            .iter()
            .zip(ids)
            .filter(|(_, id)| row(**id).is_none())
            .map(|(sample, _)| *sample)
            .collect();
        debug!(texts = ids.len(), missing = missing.len(), "features looked up");
        let mut computed = match missing.as_slice() {
            [] => Vec::new(),
            missing => compute(&Network::new(&network.architecture, &network.tensors)?, missing, observe)?,
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

    /// Sees to it that the features of examples, whose ids ascend, are kept. That they cannot be is worth a warning only.
    ///
    /// # Errors
    /// As [`Kept::features`].
    pub(super) fn fill(
        &self,
        network: &Checkpoint,
        samples: &[&Sample],
        ids: &[u64],
        observe: Observe<'_>,
    ) -> Result<()> {
        let encoder = network.encoder_id();
        if self.cache.load(self.uid, &encoder).is_some_and(|kept| kept.ids == ids) {
            return Ok(());
        }
        let (rows, width) = (self.features(network, samples, ids, observe)?, network.architecture.features());
        if let Err(cause) = self.cache.store(self.uid, &encoder, &Features { ids: ids.to_vec(), width, rows })
        {
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
