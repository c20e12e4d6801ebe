//! From a question to its answers: find the version, compute, sum the leaves, keep the best.

use std::sync::Arc;

use super::{
    BatchStats, InRevision, Live, LiveVersions, QueueLimits,
    batcher::{Batcher, Pending},
};
use crate::{
    error::{Error, Result},
    registry::{ModelId, Registry, Selector, Version},
    taxonomy::{ClassId, ClassName, LeafGroups, Revision, Unresolved, VersionNumber},
};

/// Texts to classify.
#[derive(Debug, Clone)]
pub struct Question {
    /// The model.
    pub model: ModelId,
    /// Which of its versions.
    pub selector: Selector,
    /// The texts.
    pub texts: Vec<String>,
    /// The revision in whose classes to answer; that of the version if absent.
    pub revision: Option<Revision>,
    /// The level of the classes to answer in, 0 at the top; the classes themselves if absent.
    pub level: Option<u32>,
    /// Classes to return for each.
    pub top_k: usize,
    /// Classes below this probability are left out.
    pub min_confidence: f64,
    /// Answers that are less sure than this precision takes are marked; none are if absent.
    pub min_precision: Option<f64>,
}

/// A question on its way: found, checked and in the queue.
#[derive(Debug)]
pub struct Asked {
    live: Arc<Live>,
    terms: Terms,
    /// None for a question without texts.
    computed: Option<Pending>,
}

/// How a question wants its answers.
#[derive(Debug)]
struct Terms {
    in_revision: Option<Arc<InRevision>>,
    level: Option<u32>,
    top_k: usize,
    min_confidence: f64,
    rejection_threshold: Option<f64>,
}

/// What the answer to a question will hold, known before anything is computed.
#[derive(Debug)]
pub struct Outline<'a> {
    live: &'a Live,
    terms: &'a Terms,
    texts: usize,
}

/// What a version says to each text.
#[derive(Debug)]
pub struct Answers {
    /// The version that answered all of them.
    pub live: Arc<Live>,
    /// The revision in whose classes, where one was asked for.
    pub in_revision: Option<Arc<InRevision>>,
    /// The level of the classes.
    pub level: Option<u32>,
    /// One a text, in the order asked.
    pub answers: Vec<Answer>,
    /// Where precision was asked for: the probability of the best class below which an answer is rejected.
    pub rejection_threshold: Option<f64>,
}

/// What a version says to a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The best classes by falling probability; equal ones by ascending id.
    pub scores: Vec<Score>,
    /// Whether the text was longer than the network reads.
    pub truncated: bool,
    /// Tokens that the network read.
    pub tokens: usize,
    /// Probability of the best class, also where it is not among the scores.
    pub confidence: f64,
    /// Whether the best class is less sure than the threshold.
    pub rejected: bool,
}

/// A class and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The class.
    pub class: ClassId,
    /// Probability, 0 to 1.
    pub probability: f64,
}

impl Terms {
    /// How rows of the head become the classes of the answers.
    fn groups<'a>(&'a self, live: &'a Live) -> &'a LeafGroups {
        match &self.in_revision {
            Some(of) => &of.at(self.level).groups,
            None => live.groups_at(self.level),
        }
    }
}

impl Outline<'_> {
    /// The texts.
    pub fn texts(&self) -> usize {
        self.texts
    }

    /// Classes that are listed for a text, at most: as many as are asked for, and as many as can be sure enough, for the
    /// probabilities sum to 1.
    pub fn listed(&self) -> usize {
        let sure = match self.terms.min_confidence {
            // One more for what rounding makes of the sum. A cast of what is too large is the largest number.
            least if least > 0.0 => ((1.0 / least) as usize).saturating_add(1),
            _ => usize::MAX,
        };
        self.terms.top_k.min(sure).min(self.classes().len())
    }

    /// The classes that may be listed.
    pub fn classes(&self) -> &[ClassId] {
        &self.terms.groups(self.live).classes
    }

    /// As [`Answers::name`].
    pub fn name(&self, class: ClassId) -> &ClassName {
        name(self.live, self.terms.in_revision.as_deref(), class)
    }

    /// As [`Answers::unresolved`].
    pub fn unresolved(&self) -> &[Unresolved] {
        self.terms.in_revision.as_ref().map_or(&[], |of| &of.at(self.terms.level).unresolved)
    }
}

/// Name of a class: in the revision asked for if it is one of it, else in that of the version.
fn name<'a>(live: &'a Live, in_revision: Option<&'a InRevision>, class: ClassId) -> &'a ClassName {
    let asked_for = in_revision.and_then(|of| of.class(class));
    asked_for.map_or_else(|| live.name(class), |class| &class.name)
}

impl Answers {
    /// The revision in whose classes the answers are.
    pub fn revision(&self) -> Revision {
        self.in_revision.as_ref().map_or(self.live.version.revision, |of| of.manifest.revision)
    }

    /// Name of a class of the answers: in the revision asked for if it is one of it, else in that of the version.
    pub fn name(&self, class: ClassId) -> &ClassName {
        name(&self.live, self.in_revision.as_deref(), class)
    }

    /// Whether a class of the answers is none of the revision asked for.
    pub fn is_newer(&self, class: ClassId) -> bool {
        self.in_revision.as_ref().is_some_and(|of| of.class(class).is_none())
    }

    /// The classes of the revision asked for that are not answered in, or not with all that they were.
    pub fn unresolved(&self) -> &[Unresolved] {
        self.in_revision.as_ref().map_or(&[], |of| &of.at(self.level).unresolved)
    }
}

/// Answers questions.
pub struct Predictor {
    registry: Arc<Registry>,
    live: Arc<LiveVersions>,
    batcher: Batcher,
}

impl Predictor {
    /// Starts so many prediction threads.
    ///
    /// # Errors
    /// [`Error::Io`] where the system gives no thread.
    pub fn start(
        registry: Arc<Registry>,
        live: Arc<LiveVersions>,
        limits: QueueLimits,
        threads: usize,
    ) -> Result<Self> {
        Ok(Self { registry, live, batcher: Batcher::start(limits, threads)? })
    }

    /// What batches were measured by.
    pub fn batch_stats(&self) -> &BatchStats {
        self.batcher.stats()
    }

    /// Texts that wait for a prediction thread.
    pub fn waiting_texts(&self) -> usize {
        self.batcher.waiting_texts()
    }

    /// The version that is meant, ready to answer. Blocks while it loads where it is not in memory.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Precondition`] for a model without a version.
    pub fn resolve(&self, model: &ModelId, selector: &Selector) -> Result<Arc<Live>> {
        let number = self.registry.resolve(model, selector)?;
        self.live.get(model, number)
    }

    /// Brings a version into memory, so that the first request after its promotion does not wait.
    ///
    /// # Errors
    /// As [`LiveVersions::get`].
    pub fn warm(&self, version: &Version) -> Result<VersionNumber> {
        self.live.get(&version.model, version.number).map(|live| live.version.number)
    }

    /// The versions of a model that are in memory, by number.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the model.
    pub fn in_memory(&self, model: &ModelId) -> Result<Vec<VersionNumber>> {
        self.live.in_memory(model)
    }

    /// Takes the versions of a model out of memory; the next question loads its version again.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the model.
    pub fn unload(&self, model: &ModelId) -> Result<()> {
        self.live.unload(model)
    }

    /// Takes a version that was deleted out of memory.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the model.
    pub fn forget(&self, model: &ModelId, number: VersionNumber) -> Result<()> {
        self.live.forget(model, number)
    }

    /// Answers a question.
    ///
    /// # Errors
    /// As [`Predictor::resolve`]; [`Error::NotFound`] for the revision; [`Error::Exhausted`] when too much waits; [`Error::Precondition`] with reason
    /// `PRECISION_OUT_OF_REACH` if no threshold is known for the precision asked for.
    pub async fn predict(&self, question: Question) -> Result<Answers> {
        self.predict_if(question, |_| Ok(())).await
    }

    /// Answers a question, unless `check` refuses what the answer will hold. It is asked before anything is computed.
    ///
    /// # Errors
    /// As [`Predictor::predict`], and those of `check`.
    pub async fn predict_if(
        &self,
        question: Question,
        check: impl FnOnce(&Outline<'_>) -> Result<()>,
    ) -> Result<Answers> {
        let (live, terms) = self.prepare(&question).await?;
        check(&Outline { live: &live, terms: &terms, texts: question.texts.len() })?;
        let submit = |texts| self.batcher.submit(&live, texts);
        let computed = some(question.texts).map(submit).transpose()?;
        Asked { live, terms, computed }.answers().await
    }

    /// Puts a question of a stream in the queue, after waiting for room there. Its version is found now, whatever is
    /// published until it is answered.
    ///
    /// # Errors
    /// As [`Predictor::predict_if`], but never [`Error::Exhausted`].
    pub async fn predict_in_turn(
        &self,
        question: Question,
        check: impl FnOnce(&Outline<'_>) -> Result<()>,
    ) -> Result<Asked> {
        let (live, terms) = self.prepare(&question).await?;
        check(&Outline { live: &live, terms: &terms, texts: question.texts.len() })?;
        let computed = match some(question.texts) {
            Some(texts) => Some(self.batcher.submit_in_turn(&live, texts).await?),
            None => None,
        };
        Ok(Asked { live, terms, computed })
    }

    async fn prepare(&self, question: &Question) -> Result<(Arc<Live>, Terms)> {
        let live = self.find(&question.model, &question.selector).await?;
        let threshold = |precision| live.rejection_threshold(precision);
        let in_revision = match question.revision {
            Some(revision) => Some(self.translate(&live, revision).await?),
            None => None,
        };
        let terms = Terms {
            in_revision,
            level: question.level,
            top_k: question.top_k,
            min_confidence: question.min_confidence,
            rejection_threshold: question.min_precision.map(threshold).transpose()?,
        };
        Ok((live, terms))
    }

    /// How a version answers in the classes of a revision.
    async fn translate(&self, live: &Arc<Live>, revision: Revision) -> Result<Arc<InRevision>> {
        if let Some(kept) = live.translations.get(revision) {
            return Ok(kept);
        }
        let (registry, live) = (Arc::clone(&self.registry), Arc::clone(live));
        let translated = tokio::task::spawn_blocking(move || {
            let manifest = registry.manifest(&live.version.model, revision)?;
            let translation = InRevision::new(&live.manifest, manifest, live.classifier.leaves())?;
            Ok(live.translations.keep(translation))
        });
        translated
            .await
            .unwrap_or_else(|_| Err(Error::Internal("translating the classes panicked; see the log".into())))
    }

    /// As [`Predictor::resolve`], without blocking the caller's thread while a version loads.
    async fn find(&self, model: &ModelId, selector: &Selector) -> Result<Arc<Live>> {
        let (uid, number) = self.registry.locate(model, selector)?;
        if let Some(live) = self.live.loaded(uid, number) {
            return Ok(live);
        }
        let (versions, model) = (Arc::clone(&self.live), model.clone());
        tokio::task::spawn_blocking(move || versions.get(&model, number))
            .await
            .unwrap_or_else(|_| Err(Error::Internal("loading the version panicked; see the log".into())))
    }

    /// Answers by a version already found, in its classes.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when too much waits.
    pub async fn ask(
        &self,
        live: &Arc<Live>,
        texts: Vec<String>,
        top_k: usize,
        min_confidence: f64,
    ) -> Result<Vec<Answer>> {
        let (in_revision, level, rejection_threshold) = (None, None, None);
        let terms = Terms { in_revision, level, top_k, min_confidence, rejection_threshold };
        let live = Arc::clone(live);
        let computed = some(texts).map(|texts| self.batcher.submit(&live, texts)).transpose()?;
        Ok(Asked { live, terms, computed }.answers().await?.answers)
    }
}

impl Asked {
    /// Waits for the answers. Dropped before, the question costs no computation.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the daemon stops first; [`Error::Internal`] if the network fails.
    pub async fn answers(self) -> Result<Answers> {
        let Self { live, terms, computed } = self;
        let Some(computed) = computed else {
            let Terms { in_revision, level, rejection_threshold, .. } = terms;
            return Ok(Answers { live, in_revision, level, answers: Vec::new(), rejection_threshold });
        };
        let computed = match computed {
            Pending::Done(computed) => computed,
            Pending::Waits(receiver) => receiver
                .await
                .map_err(|_| Error::Unavailable("the daemon is shutting down; try again later".into()))??,
        };
        let groups = terms.groups(&live);
        let (top_k, min_confidence) = (terms.top_k, terms.min_confidence);
        let rejection_threshold = terms.rejection_threshold;
        let answers = computed.rows.iter().zip(&computed.texts).map(|(row, text)| {
            let classes = groups.sums(row);
            let confidence = classes.iter().copied().fold(0.0, f64::max);
            Answer {
                scores: best(&groups.classes, &classes, top_k, min_confidence),
                truncated: text.truncated,
                tokens: text.tokens,
                confidence,
                rejected: rejection_threshold.is_some_and(|threshold| confidence < threshold),
            }
        });
        let answers = answers.collect();
        let Terms { in_revision, level, .. } = terms;
        Ok(Answers { live, in_revision, level, answers, rejection_threshold })
    }
}

/// Texts, if there are any: none are none of the queue's business.
fn some(texts: Vec<String>) -> Option<Vec<String>> {
    (!texts.is_empty()).then_some(texts)
}

/// The `top_k` most probable classes that reach `min_confidence`, best first, equal ones by ascending id.
fn best(classes: &[ClassId], probabilities: &[f64], top_k: usize, min_confidence: f64) -> Vec<Score> {
    let mut scores = Vec::with_capacity(classes.len());
    let reached =
        classes.iter().zip(probabilities).filter(|(_, probability)| **probability >= min_confidence);
    scores.extend(reached.map(|(&class, &probability)| Score { class, probability }));
    let falling = |a: &Score, b: &Score| b.probability.total_cmp(&a.probability).then(a.class.cmp(&b.class));
    if top_k < scores.len() {
        scores.select_nth_unstable_by(top_k, falling);
        scores.truncate(top_k);
        scores.shrink_to_fit();
    }
    scores.sort_unstable_by(falling);
    scores
}

impl std::fmt::Debug for Predictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Predictor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_equal_ones_in_order() {
        let classes = [0, 1, 2, 3, 4].map(ClassId);
        let columns = |top_k, floor| {
            let scores = best(&classes, &[0.1, 0.3, 0.2, 0.3, 0.1], top_k, floor);
            scores.iter().map(|score| score.class.0).collect::<Vec<_>>()
        };
        assert_eq!(columns(5, 0.0), [1, 3, 2, 0, 4]);
        assert_eq!(columns(2, 0.0), [1, 3]);
        assert_eq!(columns(1000, 0.2), [1, 3, 2]);
        assert!(columns(3, 0.31).is_empty());
    }
}
