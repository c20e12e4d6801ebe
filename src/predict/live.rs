//! Versions in memory: loaded when first asked for, shared by all requests, dropped when the budget is spent (`budget`).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Instant,
};

use tracing::{info, warn};

use super::{CacheStats, pace::Pace, revision::Translations, waiting::ByTraffic};
use crate::{
    error::{Error, Result},
    model::{AnswerWeights, Classifier, TokenMemory},
    registry::{CheckpointId, ModelId, Registry, RejectionPoint, Version},
    taxonomy::{ClassId, ClassName, LeafGroups, Manifest, VersionNumber},
};

/// A version that can answer. A request holds one from start to end, whatever is published meanwhile.
pub struct Live {
    /// The version.
    pub version: Version,
    /// The classes it answers in.
    pub manifest: Arc<Manifest>,
    /// How rows of the head become classes.
    pub groups: LeafGroups,
    /// How they become the classes of each level above, from the top down.
    levels: Vec<LeafGroups>,
    /// How it answers in the classes of other revisions.
    pub(super) translations: Translations,
    /// How fast it answers.
    pub(super) paces: ByTraffic<Pace>,
    /// The network; versions with the same tensors share it.
    pub classifier: Arc<Classifier>,
    /// What refusing unsure answers costs and brings: measured on this version, or on the one it was made from at once.
    pub rejection: Vec<RejectionPoint>,
    /// Memory that it takes beside the network and the translations, in bytes, nearly.
    pub(super) bytes: u64,
}

/// Versions in memory.
pub struct LiveVersions {
    registry: Arc<Registry>,
    pub(super) budget_bytes: u64,
    /// Models of which one version is never forgotten.
    pinned: HashSet<ModelId>,
    weights: AnswerWeights,
    pub(super) cache: Mutex<Cache>,
    pub(super) stats: CacheStats,
    /// What the tokens that the networks read take together. They come while requests are answered.
    pub(super) tokens: Arc<TokenMemory>,
    /// So much of that fits the budget, or is more than the budget and cannot be helped.
    pub(super) token_limit: AtomicU64,
    /// Held while memory is brought within the budget.
    pub(super) fitting: Mutex<()>,
}

/// Model records by their uid, so that a model made again under an old name is another one.
pub(super) type Key = (u64, VersionNumber);

#[derive(Default)]
pub(super) struct Cache {
    /// One slot a version; its own lock is held while it loads, so that nobody else waits for that.
    pub(super) slots: HashMap<Key, Arc<Slot>>,
    /// Grows with each use.
    clock: u64,
}

#[derive(Default)]
pub(super) struct Slot {
    pub(super) live: Mutex<Option<Arc<Live>>>,
    pub(super) used: Mutex<Use>,
}

#[derive(Default, Clone, Copy)]
pub(super) struct Use {
    pub(super) at: u64,
    pub(super) checkpoint: Option<CheckpointId>,
    pub(super) pinned: bool,
}

impl Live {
    /// Name of a class of the version.
    pub fn name(&self, class: ClassId) -> &ClassName {
        &self.manifest.classes[&class].name
    }

    /// How rows of the head become classes at a level: 0 is the top; the classes themselves without one.
    pub fn groups_at(&self, level: Option<u32>) -> &LeafGroups {
        level.and_then(|level| self.levels.get(level as usize)).unwrap_or(&self.groups)
    }

    /// The lowest confidence from which on answers are right with this precision.
    ///
    /// # Errors
    /// [`Error::Precondition`] with reason `PRECISION_OUT_OF_REACH`.
    pub fn rejection_threshold(&self, precision: f64) -> Result<f64> {
        if let Some(point) = self.rejection.iter().find(|point| point.precision >= precision) {
            return Ok(point.min_confidence);
        }
        let reached = match self.rejection.last() {
            Some(point) => format!("at most {:.4} was reached on its validation examples", point.precision),
            None => "none was measured on validation examples since classes were last taken out".to_owned(),
        };
        Err(Error::Precondition {
            reason: "PRECISION_OUT_OF_REACH",
            subject: self.version.name(),
            description: format!("no threshold is known for min_precision {precision}: {reached}"),
        })
    }
}

impl LiveVersions {
    /// Keeps versions that take up to `budget_bytes`, the latest used ones, and always the latest, and that of each of the
    /// models `pinned`.
    pub fn new(
        registry: Arc<Registry>,
        budget_bytes: u64,
        pinned: HashSet<ModelId>,
        weights: AnswerWeights,
    ) -> Self {
        Self {
            registry,
            budget_bytes,
            pinned,
            weights,
            cache: Mutex::default(),
            stats: CacheStats::default(),
            tokens: Arc::default(),
            token_limit: AtomicU64::new(budget_bytes),
            fitting: Mutex::default(),
        }
    }

    /// What the versions in memory were measured by.
    pub fn stats(&self) -> &CacheStats {
        &self.stats
    }

    /// Loads the serving version of each model that is pinned; one that has none yet, or does not exist, is left for later.
    ///
    /// # Errors
    /// Damage found while loading.
    pub fn load_pinned(&self) -> Result<()> {
        for model in &self.pinned {
            match self.registry.model(model).ok().and_then(|model| model.serving()) {
                Some(number) => drop(self.get(model, number)?),
                None => warn!(%model, "a pinned model has no version that serves yet"),
            }
        }
        Ok(())
    }

    /// A version that is in memory, by the uid of its model; none where it must be loaded, or is being loaded now.
    pub fn loaded(&self, uid: u64, number: VersionNumber) -> Option<Arc<Live>> {
        let slot = self.touch((uid, number));
        let live = slot.live.try_lock().ok().and_then(|live| live.clone());
        if live.is_some() {
            self.stats.hits.add_one();
            self.fit_tokens();
        }
        live
    }

    /// A version, loaded if it is not in memory. Blocks while it loads.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`], or damage found while loading.
    pub fn get(&self, model: &ModelId, number: VersionNumber) -> Result<Arc<Live>> {
        let uid = self.registry.model(model)?.uid;
        let slot = self.touch((uid, number));
        let mut live = lock(&slot.live);
        if let Some(live) = live.as_ref() {
            self.stats.hits.add_one();
            return Ok(Arc::clone(live));
        }
        match self.load(model, number) {
            Ok((loaded, checkpoint)) => {
                self.stats.loads.add_one();
                let mut used = lock(&slot.used);
                used.checkpoint = Some(checkpoint);
                used.pinned = self.pinned.contains(model);
                drop(used);
                *live = Some(Arc::clone(&loaded));
                drop(live);
                self.fit();
                Ok(loaded)
            }
            Err(cause) => {
                lock(&self.cache).slots.remove(&(uid, number));
                Err(cause)
            }
        }
    }

    /// The versions of a model that are in memory, by number.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`] for the model.
    pub fn in_memory(&self, model: &ModelId) -> Result<Vec<VersionNumber>> {
        let uid = self.registry.model(model)?.uid;
        let is_loaded = |slot: &Slot| slot.live.try_lock().is_ok_and(|live| live.is_some());
        let cache = lock(&self.cache);
        let mut loaded: Vec<VersionNumber> = cache
            .slots
            .iter()
            .filter(|((of, _), slot)| *of == uid && is_loaded(slot))
            .map(|((_, number), _)| *number)
            .collect();
        loaded.sort_unstable();
        Ok(loaded)
    }

    /// Forgets the versions of a model. Requests that hold one keep it to their end; the next loads it again.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`] for the model.
    pub fn unload(&self, model: &ModelId) -> Result<()> {
        let uid = self.registry.model(model)?.uid;
        lock(&self.cache).slots.retain(|(of, _), _| *of != uid);
        Ok(())
    }

    /// Forgets a version, which was deleted. Requests that hold it keep it to their end.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`] for the model.
    pub fn forget(&self, model: &ModelId, number: VersionNumber) -> Result<()> {
        let uid = self.registry.model(model)?.uid;
        lock(&self.cache).slots.remove(&(uid, number));
        Ok(())
    }

    fn load(&self, model: &ModelId, number: VersionNumber) -> Result<(Arc<Live>, CheckpointId)> {
        let started = Instant::now();
        let version = self.registry.version(model, number)?;
        let manifest = self.registry.shared_manifest(model, version.revision)?;
        let checkpoint = self.registry.checkpoint_id(model, number)?;
        let shared = self.with_checkpoint(&checkpoint);
        let is_shared = shared.is_some();
        let classifier = match shared {
            Some(classifier) => classifier,
            None => {
                let checkpoint = self.registry.checkpoint(model, number)?;
                Arc::new(match self.of_model(self.registry.model(model)?.uid) {
                    Some(other) => Classifier::beside(&checkpoint, &other)?,
                    None => {
                        let classifier = Classifier::for_answers(&checkpoint, self.weights)?;
                        let classifier = classifier.counted_by(&self.tokens);
                        classifier.warm()?;
                        classifier
                    }
                })
            }
        };
        let rows = classifier.leaves();
        let groups = LeafGroups::new(&manifest, rows)?;
        let levels = (0..manifest.depth()).map(|level| LeafGroups::at_level(&manifest, rows, level));
        let levels = levels.collect::<Result<Vec<_>>>()?;
        let rejection = self.registry.rejection(&version)?;
        info!(%model, version = %number, shared = is_shared, millis = started.elapsed().as_millis(), "version loaded");
        let (translations, paces) = (Translations::default(), ByTraffic::default());
        let rows = (levels.len() + 1) * rows.len() * size_of::<Option<u32>>();
        let bytes = (size_of::<Live>() + manifest.memory_bytes() + rows) as u64;
        let live =
            Live { version, manifest, groups, levels, translations, paces, classifier, rejection, bytes };
        Ok((Arc::new(live), checkpoint))
    }

    /// The network of a checkpoint that is in memory under another version.
    fn with_checkpoint(&self, checkpoint: &CheckpointId) -> Option<Arc<Classifier>> {
        let slots: Vec<Arc<Slot>> = lock(&self.cache).slots.values().cloned().collect();
        slots
            .iter()
            .filter(|slot| lock(&slot.used).checkpoint.as_ref() == Some(checkpoint))
            // A slot that is locked is being loaded; whoever finds it so loads for itself.
            .find_map(|slot| {
                slot.live
                    .try_lock()
                    .ok()
                    .and_then(|live| live.as_ref().map(|live| Arc::clone(&live.classifier)))
            })
    }

    /// The network of the version of a model that was used last, of those in memory.
    fn of_model(&self, uid: u64) -> Option<Arc<Classifier>> {
        let cache = lock(&self.cache);
        let mut slots: Vec<Arc<Slot>> =
            cache.slots.iter().filter(|((of, _), _)| *of == uid).map(|(_, slot)| Arc::clone(slot)).collect();
        drop(cache);
        slots.sort_by_key(|slot| std::cmp::Reverse(lock(&slot.used).at));
        // A slot that is locked is being loaded.
        slots
            .iter()
            .find_map(|slot| slot.live.try_lock().ok()?.as_ref().map(|live| Arc::clone(&live.classifier)))
    }

    fn touch(&self, key: Key) -> Arc<Slot> {
        let mut cache = lock(&self.cache);
        cache.clock += 1;
        let at = cache.clock;
        let slot = Arc::clone(cache.slots.entry(key).or_default());
        lock(&slot.used).at = at;
        slot
    }
}

/// What these locks guard is replaced as a whole, so a panic elsewhere leaves it usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for LiveVersions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveVersions").field("budget_bytes", &self.budget_bytes).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("version", &self.version.number).finish_non_exhaustive()
    }
}
