//! Changes of the classes as calls: the parts that their RPCs have in common.

use std::time::Instant;

use prost::Message;

use super::{
    Services,
    caller::Caller,
    check::{self, Violations},
    convert, name,
    repeat::Call,
};
use crate::{
    error::Result,
    proto::v1,
    registry::{JobId, Kept, ModelId, Version},
    taxonomy::Edit,
    train::{Applied, ChangeOrder, Division, Edits, Learning, Watch},
};

/// What the request of a change says beside the change itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) caller: &'a Caller,
    pub(super) model: &'a str,
    pub(super) reason: &'a str,
    pub(super) author: &'a str,
    pub(super) expected_revision: Option<u64>,
    pub(super) validate_only: bool,
    pub(super) request_id: &'a str,
}

/// What the request of a change that may be learnt says about that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lesson {
    pub(super) learn: i32,
    pub(super) force: bool,
}

/// What a change answers first.
pub(super) enum First {
    Preview(Box<v1::ChangePreview>),
    Applied(Box<v1::ChangeApplied>),
}

/// A change that stands.
struct Changed {
    /// The version that it made; the job that learns is the version's.
    version: Version,
    /// Seconds from the call to its commit; none of a call without a request id, of which nobody kept them.
    seconds: Option<f64>,
    /// How splits divided the examples.
    divisions: Vec<Division>,
}

/// A job to follow.
pub(super) type Followed = (JobId, ModelId, Watch);

/// The terms of a request, of who calls and of how that is kept; all requests of changes name their fields alike.
macro_rules! terms {
    ($request:expr, $caller:expr, $author:expr) => {
        Terms {
            caller: &$caller,
            model: &$request.model,
            reason: &$request.reason,
            author: &$author,
            expected_revision: $request.expected_revision,
            validate_only: $request.validate_only,
            request_id: &$request.request_id,
        }
    };
}
pub(super) use terms;

/// How the change of a request is learnt.
macro_rules! lesson {
    ($request:expr) => {
        Lesson { learn: $request.learn, force: $request.force }
    };
}
pub(super) use lesson;

/// The answer of a change that may be learnt: what it says first, then the events of its job. All responses of such changes
/// name their fields alike; `$kind` is the oneof of `$response`.
macro_rules! answer {
    ($response:ident, $kind:ident, $first:expr, $followed:expr, $detach:expr) => {{
        let first = match $first {
            First::Preview(preview) => $kind::Preview(*preview),
            First::Applied(applied) => $kind::Applied(*applied),
        };
        let first = v1::$response { result: Some(first) };
        let wrap = |event| v1::$response { result: Some($kind::Event(event)) };
        Ok(Response::new(stream::job_events(Some(first), $followed, $detach, wrap)))
    }};
}
pub(super) use answer;

impl Services {
    /// Previews or makes a change that may be learnt, with the job that then learns.
    pub(super) fn change_and_learn<M: Message>(
        &self,
        rpc: &str,
        request: &M,
        terms: Terms<'_>,
        edits: Edits,
        lesson: Lesson,
    ) -> Result<(First, Option<Followed>)> {
        let started = Instant::now();
        let mut violations = Violations::default();
        let learning = check::learn(&mut violations, lesson.learn, lesson.force);
        let order = order(violations, terms, edits)?;
        if terms.validate_only {
            return Ok((First::Preview(Box::new(self.preview(&order)?)), None));
        }
        let Changed { version, seconds, divisions } = self.change(rpc, request, terms, &order, learning)?;
        let job = version.job;
        let followed = match job {
            Some(job) => Some((job, version.model.clone(), self.jobs.watch(job)?)),
            None => None,
        };
        let (splits, omitted_splits) = self.divided(&version, &divisions)?;
        let applied = v1::ChangeApplied {
            job: job.map(|job| job.name()).unwrap_or_default(),
            seconds: seconds.unwrap_or_else(|| started.elapsed().as_secs_f64()),
            splits,
            omitted_splits,
            ..self.applied(version)?
        };
        Ok((First::Applied(Box::new(applied)), followed))
    }

    /// Tries or makes a change that leaves nothing to learn. Without a version where it was only tried.
    pub(super) fn change_names<M: Message>(
        &self,
        rpc: &str,
        request: &M,
        terms: Terms<'_>,
        edit: Edit,
    ) -> Result<v1::ChangeApplied> {
        let order = order(Violations::default(), terms, Edits::One(edit))?;
        if terms.validate_only {
            let manifest = self.jobs.try_change(&order, &self.cancel)?;
            let manifest = Some(convert::manifest(&order.model, &manifest));
            return Ok(v1::ChangeApplied { manifest, ..Default::default() });
        }
        let Changed { version, .. } = self.change(rpc, request, terms, &order, Learning::GoesOn)?;
        let job = version.job.map(|job| job.name()).unwrap_or_default();
        Ok(v1::ChangeApplied { job, ..self.applied(version)? })
    }

    /// Makes a change, or finds what the first call with the request id made.
    fn change<M: Message>(
        &self,
        rpc: &str,
        request: &M,
        terms: Terms<'_>,
        order: &ChangeOrder,
        learning: Learning,
    ) -> Result<Changed> {
        Ok(match self.first_or_repeat(terms.caller, rpc, terms.request_id, request)? {
            Call::First(receipt, _under_way) => {
                let Applied { version, divisions, .. } =
                    self.jobs.change(order, learning, receipt, &self.cancel)?;
                let kept = self.kept(terms.caller, terms.request_id)?;
                Changed { version, seconds: kept.and_then(|kept| kept.seconds), divisions }
            }
            Call::Repeat(kept) => {
                let version = self.version_of(terms.caller, &kept)?;
                Changed {
                    version,
                    seconds: Some(kept.seconds.unwrap_or(0.0)),
                    divisions: Division::decode(&kept.details)?,
                }
            }
        })
    }

    fn preview(&self, order: &ChangeOrder) -> Result<v1::ChangePreview> {
        let preview = self.jobs.preview(order, &self.cancel)?;
        let manifest = convert::manifest(&order.model, &preview.manifest);
        let (splits, omitted_splits) = convert::divided(&preview.divisions, &preview.manifest);
        Ok(v1::ChangePreview {
            splits,
            omitted_splits,
            manifest: Some(manifest),
            validation_accuracy_before: preview.accuracy.map(|(before, _)| before),
            validation_accuracy_after: preview.accuracy.map(|(_, after)| after),
            validation_examples: preview.validation_examples,
        })
    }

    /// The version that the first call with a request id made.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::error::Error::NotFound) where its model was deleted since.
    pub(super) fn version_of(&self, caller: &Caller, kept: &Kept) -> Result<Version> {
        let (id, number) = name::version(caller, "request_id", &kept.outcome)?;
        self.expect_uid(&id, kept.model_uid)?;
        self.registry.version_ever(&id, number)
    }

    /// A version and the manifest it answers in.
    pub(super) fn applied(&self, version: Version) -> Result<v1::ChangeApplied> {
        let manifest = self.registry.shared_manifest(&version.model, version.revision)?;
        Ok(v1::ChangeApplied {
            manifest: Some(convert::manifest(&version.model, &manifest)),
            version: Some(convert::version(version)),
            job: String::new(),
            seconds: 0.0,
            splits: Vec::new(),
            omitted_splits: 0,
        })
    }

    fn divided(&self, version: &Version, divisions: &[Division]) -> Result<(Vec<v1::DividedClass>, u32)> {
        if divisions.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let manifest = self.registry.shared_manifest(&version.model, version.revision)?;
        Ok(convert::divided(divisions, &manifest))
    }
}

fn order(mut violations: Violations, terms: Terms<'_>, edits: Edits) -> Result<ChangeOrder> {
    let model = name::model(terms.caller, "model", terms.model)?;
    check::reason(&mut violations, terms.reason);
    violations.finish()?;
    Ok(ChangeOrder {
        model,
        edits,
        reason: terms.reason.to_owned(),
        author: terms.author.to_owned(),
        identity: terms.caller.share(terms.author),
        expected_revision: terms.expected_revision,
    })
}
