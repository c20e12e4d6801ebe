//! Changes of the classes on a living model: right at once through a version that shares the tensors, then a job that
//! learns.

use std::{collections::BTreeMap, time::Instant};

use tracing::{debug, info};

use super::{
    Division, Jobs, Order, Strategy, TrainOptions,
    answered::{Answered, validating},
    edited::{Edited, Serving},
    imprint::{Grown, Imprinted, imprint},
};
use crate::{
    cancel::Cancellation,
    dataset::{Dataset, Example, hold_out},
    error::{Error, Result},
    model::with_newcomers,
    registry::{
        Batch, JobRecord, Model, ModelId, Origin, Publication, PublishedManifest, Receipt, Tensors, Version,
    },
    taxonomy::{Edit, LeafId, Manifest, VersionNumber},
};

/// Changes of the classes as asked for.
#[derive(Debug, Clone)]
pub struct ChangeOrder {
    /// The model.
    pub model: ModelId,
    /// What shall change.
    pub edits: Edits,
    /// Why.
    pub reason: String,
    /// Who, as the caller claimed.
    pub author: String,
    /// The identity whose share of the training time the job that learns uses.
    pub identity: String,
    /// The revision that the serving manifest must have, if given.
    pub expected_revision: Option<u64>,
}

/// An undo as asked for.
#[derive(Debug, Clone)]
pub struct UndoOrder {
    /// The model.
    pub model: ModelId,
    /// Why.
    pub reason: String,
    /// Who, as the caller claimed.
    pub author: String,
    /// The revision that the serving manifest must have, if given.
    pub expected_revision: Option<u64>,
}

/// One change, or a list of them as one.
#[derive(Debug, Clone)]
pub enum Edits {
    /// One, whose fields are those of the request.
    One(Edit),
    /// A list, whose fields are those of `changes[i]`.
    Several(Vec<Edit>),
}

/// Whether a job follows a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// One that learns the change, where there is something to learn from.
    Follows {
        /// How.
        strategy: Strategy,
        /// Whether it is promoted also where the gate would refuse it.
        force: bool,
    },
    /// One in place of the job that learnt an earlier change and had to make way, if there was any. For changes that
    /// leave nothing to learn.
    GoesOn,
    /// None.
    None,
}

/// A change that stands.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The new manifest.
    pub manifest: Manifest,
    /// The version that answers in it.
    pub version: Version,
    /// The job that learns.
    pub job: Option<JobRecord>,
    /// How splits divided the examples.
    pub divisions: Vec<Division>,
}

/// What a change would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The manifest it would make.
    pub manifest: Manifest,
    /// Accuracy on the validation examples before and after; none without such examples.
    pub accuracy: Option<(f64, f64)>,
    /// Validation examples that counted.
    pub validation_examples: u64,
    /// How splits would divide the examples.
    pub divisions: Vec<Division>,
}

/// A version that a change made, and what is stored with it.
struct Made<'a> {
    origin: Origin,
    /// The version whose tensors it has, or those that its own were made from.
    parent: VersionNumber,
    tensors: Tensors,
    /// Leaves whose rows were fitted.
    fitted: Vec<LeafId>,
    manifest: &'a Manifest,
    /// The order of the job that learns, which comes with it.
    new_job: Option<String>,
    receipt: Option<Receipt>,
    also: Batch,
}

impl Jobs {
    /// Changes the classes: publishes a version that answers in the new manifest, with the same tensors or, where leaves
    /// came in, rows for them that are fitted to a part of the examples, and queues the job that learns, if any.
    ///
    /// # Errors
    /// As [`Manifest::edit`]; [`Error::Conflict`] where a training runs or the revision is not the expected one;
    /// [`Error::Precondition`] for a model without a version; that of the token until the change is stored.
    pub fn change(
        &self,
        order: &ChangeOrder,
        learning: Learning,
        mut receipt: Option<Receipt>,
        cancel: &Cancellation,
    ) -> Result<Applied> {
        let started = Instant::now();
        let _changing = self.shared.lock_changes();
        cancel.check()?;
        let serving = self.serving(&order.model, order.expected_revision)?;
        let Edited { manifest, divisions, mut examples } = self.edited(&serving, order, cancel)?;
        if let Some(examples) = &mut examples {
            hold_out(examples, &manifest);
        }
        debug!(micros = started.elapsed().as_micros(), "the classes are edited");
        let (tensors, fitted) = match self.grown(&serving, &manifest, examples.as_deref(), cancel)? {
            Some(Imprinted { network, fitted }) => (Tensors::New(network), fitted),
            None => (Tensors::Same(serving.number), Vec::new()),
        };
        debug!(micros = started.elapsed().as_micros(), "the rows are fitted");
        if let Some(receipt) = receipt.as_mut().filter(|_| !divisions.is_empty()) {
            receipt.details = Division::encode(&divisions)?;
        }
        // From here on it is done to its end.
        cancel.check()?;
        let made_way = self.shared.make_way(&order.model)?;
        let wanted = match learning {
            // Of classes that came and have no examples there is nothing to learn.
            Learning::Follows { .. } => {
                made_way.is_some() || !manifest.change.only_adds() || !fitted.is_empty()
            }
            Learning::GoesOn => made_way.is_some(),
            Learning::None => false,
        };
        let (author, identity) = (order.author.clone(), order.identity.clone());
        let options = TrainOptions { author, identity, ..TrainOptions::default() };
        let options = match learning {
            Learning::Follows { strategy, force } => TrainOptions { strategy, force, ..options },
            Learning::GoesOn | Learning::None => options,
        };
        let refining = Order { options, refines_change: true };
        // Work is done again only for a change that stands: its order comes with the version.
        let follows = wanted && self.has_examples(&serving, &manifest)?;
        let mut also = assignment(&serving.model, &divisions);
        if let Some(made_way) = &made_way {
            made_way.put(&mut also);
        }
        let made = Made {
            origin: Origin::Instant,
            parent: serving.number,
            tensors,
            fitted,
            manifest: &manifest,
            new_job: follows.then(|| refining.encode()).transpose()?,
            receipt,
            also,
        };
        let version = self.publish(&serving, made)?;
        if let Some(made_way) = made_way {
            made_way.done();
        }
        info!(
            model = %order.model,
            revision = %manifest.revision,
            version = %version.number,
            micros = started.elapsed().as_micros(),
            "classes changed"
        );
        let job = match version.job {
            Some(job) => Some(self.shared.enqueue(self.shared.registry.job(job)?, refining)?),
            None => None,
        };
        Ok(Applied { manifest, version, job, divisions })
    }

    /// The manifest that [`Jobs::change`] would make.
    ///
    /// # Errors
    /// As [`Jobs::change`].
    pub fn try_change(&self, order: &ChangeOrder, cancel: &Cancellation) -> Result<Manifest> {
        let serving = self.serving(&order.model, order.expected_revision)?;
        Ok(self.edited(&serving, order, cancel)?.manifest)
    }

    /// What [`Jobs::change`] would do. The accuracies are exact: the network that would answer is asked.
    ///
    /// # Errors
    /// As [`Jobs::change`].
    pub fn preview(&self, order: &ChangeOrder, cancel: &Cancellation) -> Result<Preview> {
        let serving = self.serving(&order.model, order.expected_revision)?;
        let Edited { manifest, divisions, examples } = self.edited(&serving, order, cancel)?;
        let mut examples = examples.map_or_else(|| self.examples(&serving, cancel), Ok)?;
        hold_out(&mut examples, &manifest);
        let grown = self.grown(&serving, &manifest, Some(&examples), cancel)?;
        // What trained in the classes of today does not measure either.
        hold_out(&mut examples, &serving.manifest);
        let examples = validating(examples);
        let answered = match grown {
            Some(grown) => Answered::of(&grown.network, examples, cancel)?,
            None => Answered::by(&self.shared, &order.model, serving.number, examples, cancel)?,
        };
        let [before, after] = answered.compare(&serving.manifest, &manifest)?;
        let accuracy = before.accuracy().zip(after.accuracy());
        Ok(Preview { manifest, accuracy, validation_examples: after.counted, divisions })
    }

    /// Undoes the latest change of the classes: the classes, the tensors and so the answers are those from before it.
    ///
    /// # Errors
    /// [`Error::Precondition`] where there is nothing to undo, or what would be restored was deleted; [`Error::Conflict`] as for [`Jobs::change`].
    pub fn undo(&self, order: &UndoOrder, receipt: Option<Receipt>) -> Result<Applied> {
        let UndoOrder { model, reason, author, expected_revision } = order;
        let _changing = self.shared.lock_changes();
        let serving = self.serving(model, *expected_revision)?;
        let Some(point) = serving.manifest.undo else {
            return Err(Error::Precondition {
                reason: "NOTHING_TO_UNDO",
                subject: model.manifest_name(serving.manifest.revision),
                description: format!(
                    "{} has no change of the classes to undo (revision {}: {})",
                    model.name(),
                    serving.manifest.revision,
                    serving.manifest.describe()
                ),
            });
        };
        if let Err(Error::NotFound { name, .. }) = self.shared.registry.version(model, point.version) {
            return Err(Error::Precondition {
                reason: "UNDO_VERSION_DELETED",
                description: format!(
                    "{name}, which an undo of revision {} would restore, was deleted",
                    serving.manifest.revision
                ),
                subject: name,
            });
        }
        let made_way = self.shared.make_way(model)?;
        let target = self.shared.registry.manifest(model, point.revision)?;
        let manifest = serving.manifest.undo(&target, serving.provenance(reason, author));
        let mut also = Batch::new();
        if let Some(made_way) = &made_way {
            made_way.put(&mut also);
        }
        let made = Made {
            origin: Origin::Undo,
            parent: point.version,
            tensors: Tensors::Same(point.version),
            fitted: Vec::new(),
            manifest: &manifest,
            new_job: None,
            receipt,
            also,
        };
        let version = self.publish(&serving, made)?;
        if let Some(made_way) = made_way {
            made_way.done();
        }
        info!(model = %model, revision = %manifest.revision, version = %version.number, "change undone");
        Ok(Applied { manifest, version, job: None, divisions: Vec::new() })
    }

    /// The manifest that an order makes of the serving one.
    fn edited(&self, serving: &Serving, order: &ChangeOrder, cancel: &Cancellation) -> Result<Edited> {
        let edited = serving.edited(order, || self.examples(serving, cancel), cancel)?;
        self.shared.registry.check_classes(&order.model, Some(&serving.manifest), &edited.manifest)?;
        Ok(edited)
    }

    fn examples(&self, serving: &Serving, cancel: &Cancellation) -> Result<Vec<Example>> {
        self.shared.dataset.until(cancel.clone()).all(serving.model.uid)
    }

    fn has_examples(&self, serving: &Serving, manifest: &Manifest) -> Result<bool> {
        Ok(manifest.active().count() >= 2 && self.shared.dataset.count(serving.model.uid)? > 0)
    }

    /// The serving network with rows for the leaves that a manifest brings, fitted where there are examples of them; none
    /// where it brings none. The examples, read if not given, are on the sides that they have in that manifest.
    fn grown(
        &self,
        serving: &Serving,
        manifest: &Manifest,
        examples: Option<&[Example]>,
        cancel: &Cancellation,
    ) -> Result<Option<Imprinted>> {
        let newcomers = serving.newcomers(manifest);
        if newcomers.is_empty() {
            return Ok(None);
        }
        let checkpoint = self.shared.registry.checkpoint(&serving.model.id, serving.number)?;
        debug!("the network is read");
        let grown = with_newcomers(&checkpoint, &serving.manifest.leaves(), &newcomers)?;
        debug!("it has rows for the leaves that came");
        let kept = self.shared.kept(serving.model.uid);
        let grown = Grown { network: grown, before: &serving.manifest, newcomers: &newcomers };
        let fitted = match examples {
            Some(examples) => imprint(grown, manifest, examples, kept, cancel)?,
            None => {
                let mut examples = self.examples(serving, cancel)?;
                hold_out(&mut examples, manifest);
                imprint(grown, manifest, &examples, kept, cancel)?
            }
        };
        Ok(Some(fitted))
    }

    /// Stores and promotes what a change made.
    fn publish(&self, serving: &Serving, made: Made<'_>) -> Result<Version> {
        // Held until the version is in memory, so that it need not be read there from the store.
        let _arrays = match &made.tensors {
            Tensors::New(network) => network.tensors.clone(),
            Tensors::Same(_) => BTreeMap::new(),
        };
        let version = self.shared.registry.publish(Publication {
            model: serving.model.id.clone(),
            tensors: made.tensors,
            manifest: PublishedManifest::New(Box::new(made.manifest.clone())),
            parent: Some(made.parent),
            origin: made.origin,
            mode: None,
            reason: made.manifest.describe(),
            job: None,
            new_job: made.new_job,
            report: None,
            lineage: None,
            fitted: made.fitted,
            promote: true,
            expected_serving: Some(Some(serving.number)),
            job_record: None,
            receipt: made.receipt,
            also: made.also,
        })?;
        debug!(version = %version.number, "stored");
        (self.shared.promoted)(&version);
        Ok(version)
    }

    fn serving(&self, id: &ModelId, expected_revision: Option<u64>) -> Result<Serving> {
        let registry = &self.shared.registry;
        let number = registry.resolve(id, &crate::registry::Selector::Serving)?;
        let model = registry.model(id)?;
        let revision = registry.version(id, number)?.revision;
        if let Some(expected) = expected_revision.filter(|expected| *expected != revision.0) {
            return Err(Error::Conflict {
                reason: "REVISION_MISMATCH",
                subject: id.manifest_name(revision),
                description: format!(
                    "expected_revision is {expected}, but {} is at revision {revision}; read the manifest and repeat",
                    id.name()
                ),
            });
        }
        let manifest = registry.manifest_to_change(&model, revision)?;
        Ok(Serving { model, number, manifest })
    }
}

/// What to store of how the examples were divided.
fn assignment(model: &Model, divisions: &[Division]) -> Batch {
    let assigned = divisions.iter().flat_map(|division| &division.assigned);
    Dataset::assignment(model.uid, assigned.map(|(class, ids)| (*class, ids.as_slice())))
}
