//! One training step at a time: a batch, its gradients, an update of the parameters.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tracing::warn;

use super::{
    Recipe,
    engine::{Engine, StepSize},
    prepare::{Prepared, Preparer},
};
use crate::{
    error::{Error, Result},
    model::{Array, Checkpoint, Device, cuda::StepOutcome, kernels::ClassTargets},
    taxonomy::LeafGroups,
    text::EncodedText,
};

/// Steps in a row without a finite gradient after which the network is taken for broken.
pub(super) const MAX_BROKEN_STEPS: u32 = 8;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// The parameters were updated; the loss before that, in nats.
    Learnt(f64),
    /// Loss or gradient were not finite and the batch was left out.
    Skipped,
    /// So were several before it.
    Broken,
}

/// Parameters, optimiser and generator of a training that runs.
pub(super) struct Trainer<'a> {
    recipe: &'a Recipe,
    targets: ClassTargets,
    pub(super) random: ChaCha8Rng,
    engine: Engine,
    device: String,
    /// Steps begun so far, and steps in all.
    begun: usize,
    pub(super) steps: usize,
    /// Learning rate of the last step.
    pub(super) rate: f64,
    /// What the recipe's rate is multiplied with.
    slowdown: f64,
    /// Steps that updated something.
    updates: usize,
    broken: u32,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        start: &Checkpoint,
        groups: &LeafGroups,
        recipe: &'a Recipe,
        steps_per_epoch: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let targets = ClassTargets {
            class_of_leaf: groups.class_of_row.clone(),
            classes: groups.classes.len(),
            smoothing: recipe.label_smoothing,
        };
        let (engine, device) = match Engine::new(device, start, recipe, targets.clone()) {
            Ok(engine) => (engine, device.to_string()),
            Err(Error::Unavailable(reason)) => {
                warn!(%device, reason, "the network learns on the processor");
                (Engine::new(&Device::Cpu, start, recipe, targets.clone())?, Device::Cpu.to_string())
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            recipe,
            engine,
            device,
            targets,
            random: ChaCha8Rng::seed_from_u64(seed),
            begun: 0,
            rate: 0.0,
            slowdown: 1.0,
            steps: steps_per_epoch * recipe.epochs as usize,
            updates: 0,
            broken: 0,
        })
    }

    /// What makes batches ready for [`Trainer::step`].
    pub(super) fn preparer(&self) -> Preparer {
        self.engine.preparer()
    }

    /// One step on a batch. Returns what became of it or, on a device, of the one before, while this one runs; with the
    /// number of its texts.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the device failed; so have the others that name it.
    pub(super) fn step(&mut self, batch: Prepared) -> Result<Option<(Step, usize)>> {
        let rate = self.slowdown * self.recipe.rate(self.begun, self.steps);
        (self.begun, self.rate) = (self.begun + 1, rate);
        // That nothing will be wrong with it: else the moments are taken for a step older than they are.
        self.updates += 1;
        let size = StepSize { update: self.updates, rate, embedding_rate: rate * self.recipe.embedding_rate };
        let outcome = self.engine.step(batch, size)?;
        Ok(outcome.map(|outcome| self.judge(outcome)))
    }

    /// Waits for the last step; none if it was spoken of already.
    pub(super) fn last_step(&mut self) -> Result<Option<(Step, usize)>> {
        let outcome = self.engine.last_step()?;
        Ok(outcome.map(|outcome| self.judge(outcome)))
    }

    /// Steps that have ended.
    pub(super) fn ended(&self) -> usize {
        self.begun - usize::from(self.engine.is_stepping())
    }

    fn judge(&mut self, outcome: StepOutcome) -> (Step, usize) {
        let step = if outcome.finite {
            self.broken = 0;
            Step::Learnt(outcome.loss)
        } else {
            (self.broken, self.updates) = (self.broken + 1, self.updates - 1);
            if self.broken < MAX_BROKEN_STEPS { Step::Skipped } else { Step::Broken }
        };
        (step, outcome.texts)
    }

    /// Goes back to a network as it was after so many epochs, with a fresh optimiser and at half the rate.
    pub(super) fn restore(&mut self, network: &Checkpoint, epochs: u32) -> Result<()> {
        self.engine.set(network)?;
        self.slowdown *= 0.5;
        self.rewind(epochs);
        Ok(())
    }

    /// Goes on from such a network on the processor, with a fresh optimiser.
    pub(super) fn fall_back(&mut self, network: &Checkpoint, epochs: u32) -> Result<()> {
        self.engine = Engine::new(&Device::Cpu, network, self.recipe, self.targets.clone())?;
        self.device = Device::Cpu.to_string();
        self.rewind(epochs);
        Ok(())
    }

    fn rewind(&mut self, epochs: u32) {
        self.begun = self.steps / self.recipe.epochs as usize * epochs as usize;
        (self.updates, self.broken) = (0, 0);
    }

    /// Where the network learns.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// What has been learnt.
    pub(super) fn tensors(&self) -> Result<BTreeMap<String, Array>> {
        self.engine.tensors()
    }

    /// Logits of the deep branch, `[B, C]`, of a network that holds [`Trainer::tensors`].
    pub(super) fn deep_logits(&mut self, network: &Checkpoint, texts: &[&EncodedText]) -> Result<Vec<f32>> {
        self.engine.deep_logits(network, texts)
    }
}

#[cfg(test)]
impl Trainer<'_> {
    /// Makes everything that follows not a number.
    pub(super) fn poison(&mut self) {
        if let Engine::Host(host) = &mut self.engine {
            host.poison();
        }
    }

    /// Fails from now on as a device that is gone.
    pub(super) fn lose(&mut self) {
        self.engine = Engine::Lost;
        self.device = "lost".into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Architecture, Preset, surgery},
        registry::Mode,
        taxonomy::{ClassId, LeafId},
        train::Sample,
    };

    /// Some steps on batches that are large enough to be shared, on a number of threads.
    fn trained(threads: usize) -> BTreeMap<String, Array> {
        let architecture =
            Architecture { embedding: 48, hidden: 40, ..Architecture::preset(Preset::Default) };
        let text = |index: usize| {
            let words = (0..3 + index % 9).map(|at| format!("word{}", (index * 7 + at * at) % 50));
            words.collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..256).map(text).collect();
        let leaves = [LeafId(1), LeafId(2), LeafId(3)];
        let start = surgery::from_scratch(architecture, texts.iter().map(|text| &**text), &leaves, 1);
        let groups = LeafGroups {
            classes: vec![ClassId(1), ClassId(2), ClassId(3)],
            class_of_row: vec![Some(0), Some(1), Some(2)],
        };
        let encoder = start.text_encoder().unwrap();
        let samples: Vec<Sample> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| Sample { text: encoder.encode(text), class: index as u32 % 3 })
            .collect();
        let recipe = Recipe::for_training(Preset::Default, Mode::Scratch, 10_000);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = Trainer::new(&start, &groups, &recipe, 4, 1, &Device::Cpu).unwrap();
            for batch in samples.chunks(64) {
                let samples: Vec<&Sample> = batch.iter().collect();
                let batch = trainer.preparer().prepare(&samples, &recipe, &mut trainer.random);
                assert!(matches!(trainer.step(batch).unwrap(), Some((Step::Learnt(_), 64))));
            }
            trainer.tensors().unwrap()
        })
    }

    #[test]
    fn one_thread_and_many_learn_the_same_bytes() {
        let one = trained(1);
        assert!(one == trained(2), "two threads learn something else than one");
        assert!(one == trained(5), "five threads learn something else than one");
    }
}
