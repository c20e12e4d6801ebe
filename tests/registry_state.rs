//! The registry against a model of it in memory: any sequence of calls and restarts, every answer compared.

mod store_fixtures;

use std::{collections::BTreeMap, time::SystemTime};

use proptest::prelude::*;
use store_fixtures::{checkpoint, id, kind, manifest, publication, reopen};
use taxond::{
    error::{Error, Result},
    model::{Checkpoint, Preset},
    registry::{AliasName, JobId, JobRecord, JobState, Model, ModelId, Registry, Selector, Tensors, Version},
    taxonomy::{Manifest, Revision, VersionNumber},
};

const NAMES: [&str; 3] = ["bank", "bank-2", "weather"];

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    Delete {
        name: usize,
        stale: bool,
    },
    Publish {
        name: usize,
        tensors: Source,
        new_manifest: bool,
        promote: bool,
        expect: Expect,
        job: Option<usize>,
    },
    SetAlias {
        name: usize,
        canary: bool,
        number: u64,
        stale: bool,
    },
    DeleteVersion {
        name: usize,
        number: u64,
    },
    NewJob(usize),
    EndJob(usize),
    Reboot,
}

#[derive(Debug, Clone)]
enum Source {
    New(u32),
    Same(u64),
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Anything,
    Truth,
    Other,
}

#[derive(Debug, Default)]
struct Reference {
    models: BTreeMap<ModelId, Entry>,
    jobs: BTreeMap<JobId, JobRecord>,
    latest_uid: u64,
    latest_job: u64,
}

#[derive(Debug)]
struct Entry {
    model: Model,
    versions: BTreeMap<VersionNumber, (Version, Checkpoint)>,
    manifests: BTreeMap<Revision, Manifest>,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let source = prop_oneof![(0..3u32).prop_map(Source::New), (1..4u64).prop_map(Source::Same)];
    let expect = prop_oneof![Just(Expect::Anything), Just(Expect::Truth), Just(Expect::Other)];
    let publish = (name.clone(), source, any::<bool>(), any::<bool>(), expect, prop::option::of(0..4usize));
    prop_oneof![
        3 => name.clone().prop_map(Step::Create),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, stale)| Step::Delete { name, stale }),
        8 => publish.prop_map(|(name, tensors, new_manifest, promote, expect, job)| {
            Step::Publish { name, tensors, new_manifest, promote, expect, job }
        }),
        3 => (name.clone(), any::<bool>(), 1..5u64, prop::bool::weighted(0.2))
            .prop_map(|(name, canary, number, stale)| Step::SetAlias { name, canary, number, stale }),
        3 => (name.clone(), 1..5u64).prop_map(|(name, number)| Step::DeleteVersion { name, number }),
        3 => name.prop_map(Step::NewJob),
        2 => (0..4usize).prop_map(Step::EndJob),
        2 => Just(Step::Reboot),
    ]
}

impl Reference {
    fn entry(&mut self, id: &ModelId) -> Result<&mut Entry, String> {
        self.models.get_mut(id).ok_or_else(|| format!("not found: model {}", id.name()))
    }

    /// The job a step means: any there is, or one that never was.
    fn pick_job(&self, index: usize) -> JobId {
        self.jobs.keys().nth(index).copied().unwrap_or(JobId(1000))
    }
}

/// Does a step to both and compares the answers.
fn apply(registry: &Registry, reference: &mut Reference, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Create(name) => {
            let id = id(NAMES[name]);
            let answer = registry.create_model(&id, Preset::Seed, None).map_err(|error| kind(&error));
            if reference.models.contains_key(&id) {
                prop_assert_eq!(answer, Err(format!("exists: {}", id.name())));
                return Ok(());
            }
            reference.latest_uid += 1;
            let model = Model {
                id: id.clone(),
                uid: reference.latest_uid,
                preset: Preset::Seed,
                word_vectors: None,
                aliases: BTreeMap::new(),
                latest_version: 0,
                latest_revision: 0,
                sequence: 1,
                created: answer.as_ref().map_or(SystemTime::UNIX_EPOCH, |model| model.created),
            };
            prop_assert_eq!(answer, Ok(model.clone()));
            reference
                .models
                .insert(id, Entry { model, versions: BTreeMap::new(), manifests: BTreeMap::new() });
        }
        Step::Delete { name, stale } => {
            let id = id(NAMES[name]);
            let sequence = reference.models.get(&id).map(|entry| entry.model.sequence + u64::from(stale));
            let answer = registry.delete_model(&id, sequence, None).map_err(|error| kind(&error));
            let expected = match reference.entry(&id) {
                Ok(_) if stale => Err("ETAG_MISMATCH".to_owned()),
                Ok(entry) => Ok(entry.model.clone()),
                Err(error) => Err(error),
            };
            if expected.is_ok() {
                reference.models.remove(&id);
                reference.jobs.retain(|_, job| job.model != id);
            }
            prop_assert_eq!(answer, expected);
        }
        Step::Publish { name, tensors, new_manifest, promote, expect, job } => {
            let id = id(NAMES[name]);
            let serving = reference.models.get(&id).and_then(|entry| entry.model.serving());
            let latest = reference.models.get(&id).map_or(0, |entry| entry.model.latest_revision);
            let new_manifest = new_manifest.then(|| manifest(latest + 1, "changed"));
            let job = job.map(|index| reference.pick_job(index));
            let job_record = job.map(|job| {
                let known = reference.jobs.get(&job).cloned();
                let id = id.clone();
                known.map_or_else(
                    || unknown_job(job, id),
                    |known| JobRecord { state: JobState::Running, ..known },
                )
            });
            let source = match &tensors {
                Source::New(seed) => Tensors::New(checkpoint(seed / 2, *seed, 500)),
                Source::Same(number) => Tensors::Same(VersionNumber(*number)),
            };
            let mut publication = publication(&id, source, new_manifest.clone());
            publication.promote = promote;
            publication.job = job;
            publication.job_record = job_record.clone();
            publication.expected_serving = match expect {
                Expect::Anything => None,
                Expect::Truth => Some(serving),
                Expect::Other => Some(Some(VersionNumber(1000))),
            };
            let answer = registry.publish(publication).map_err(|error| kind(&error));

            let known_jobs: Vec<JobId> = reference.jobs.keys().copied().collect();
            let expected = reference.entry(&id).and_then(|entry| {
                if matches!(expect, Expect::Other) {
                    return Err("SERVING_MOVED".to_owned());
                }
                if let Some(job) = job.filter(|job| !known_jobs.contains(job)) {
                    return Err(format!("not found: job {}", job.name()));
                }
                if new_manifest.is_none() && !entry.manifests.contains_key(&Revision(1)) {
                    return Err(format!("not found: manifest {}", id.manifest_name(Revision(1))));
                }
                match &tensors {
                    Source::New(seed) => Ok(checkpoint(seed / 2, *seed, 500)),
                    Source::Same(number) => {
                        let same = entry.versions.get(&VersionNumber(*number));
                        let missing =
                            || format!("not found: version {}", id.version_name(VersionNumber(*number)));
                        same.map(|(_, tensors)| tensors.clone()).ok_or_else(missing)
                    }
                }
            });
            let tensors = match expected {
                Ok(tensors) => tensors,
                Err(expected) => {
                    prop_assert_eq!(answer, Err(expected));
                    return Ok(());
                }
            };
            let version = answer.map_err(TestCaseError::fail)?;
            let entry = reference.entry(&id).map_err(TestCaseError::fail)?;
            entry.model.latest_version += 1;
            entry.model.sequence += 1;
            let revision = new_manifest.as_ref().map_or(Revision(1), |manifest| manifest.revision);
            prop_assert_eq!((version.number.0, version.revision), (entry.model.latest_version, revision));
            prop_assert_eq!((version.parameter_count, version.size_bytes), (512, 2048));
            entry.versions.insert(version.number, (version.clone(), tensors));
            if let Some(manifest) = new_manifest {
                entry.model.latest_revision = manifest.revision.0;
                entry.manifests.insert(manifest.revision, manifest);
            }
            if promote {
                entry.model.aliases.insert(AliasName::serving(), version.number);
            }
            if let Some(mut job) = job_record {
                job.versions.push(version.number);
                reference.jobs.insert(job.id, job);
            }
        }
        Step::SetAlias { name, canary, number, stale } => {
            let id = id(NAMES[name]);
            let alias = if canary { AliasName::new("canary").expect("valid") } else { AliasName::serving() };
            let number = VersionNumber(number);
            let sequence = reference.models.get(&id).map(|entry| entry.model.sequence + u64::from(stale));
            let answer =
                registry.set_alias(&id, alias.clone(), number, sequence, None).map_err(|error| kind(&error));
            let expected = reference.entry(&id).and_then(|entry| {
                if stale {
                    return Err("ETAG_MISMATCH".to_owned());
                }
                if !entry.versions.contains_key(&number) {
                    return Err(format!("not found: version {}", id.version_name(number)));
                }
                entry.model.sequence += 1;
                entry.model.aliases.insert(alias, number);
                Ok(entry.model.clone())
            });
            prop_assert_eq!(answer, expected);
        }
        Step::DeleteVersion { name, number } => {
            let (id, number) = (id(NAMES[name]), VersionNumber(number));
            let answer = registry.delete_version(&id, number, false, None).map_err(|error| kind(&error));
            let expected = reference.entry(&id).and_then(|entry| {
                if entry.model.aliases.values().any(|points| *points == number) {
                    return Err("VERSION_HAS_ALIASES".to_owned());
                }
                let gone = entry.versions.remove(&number).map(|(version, _)| version);
                gone.ok_or_else(|| format!("not found: version {}", id.version_name(number)))
            });
            prop_assert_eq!(answer, expected);
        }
        Step::NewJob(name) => {
            let id = id(NAMES[name]);
            let answer = registry.new_job(&id, "", None).map_err(|error| kind(&error));
            match reference.entry(&id) {
                Ok(_) => {
                    let job = answer.map_err(TestCaseError::fail)?;
                    reference.latest_job += 1;
                    prop_assert_eq!(
                        (job.id.0, job.state, &job.model),
                        (reference.latest_job, JobState::Queued, &id)
                    );
                    reference.jobs.insert(job.id, job);
                }
                Err(expected) => prop_assert_eq!(answer, Err(expected)),
            }
        }
        Step::EndJob(index) => {
            let job = reference.pick_job(index);
            let known = reference.jobs.get(&job).cloned();
            let ended = JobRecord {
                state: JobState::Succeeded,
                ended: Some(SystemTime::now()),
                ..known.clone().unwrap_or_else(|| unknown_job(job, id("bank")))
            };
            let answer = registry.put_job(&ended).map_err(|error| kind(&error));
            if known.is_some() {
                reference.jobs.insert(job, ended);
                prop_assert_eq!(answer, Ok(()));
            } else {
                prop_assert_eq!(answer, Err(format!("not found: job {}", job.name())));
            }
        }
        Step::Reboot => unreachable!("the caller reboots"),
    }
    Ok(())
}

fn unknown_job(job: JobId, model: ModelId) -> JobRecord {
    JobRecord {
        id: job,
        model,
        state: JobState::Running,
        mode: None,
        mode_reason: String::new(),
        versions: Vec::new(),
        message: String::new(),
        created: SystemTime::UNIX_EPOCH,
        ended: None,
        order: String::new(),
        crashes: 0,
        continues: None,
        continued_by: None,
    }
}

/// What a restart does to jobs that had not ended.
fn interrupt(registry: &Registry, reference: &mut Reference) -> Result<(), TestCaseError> {
    for job in reference.jobs.values_mut().filter(|job| !job.state.is_ended()) {
        let stored = registry.job(job.id).map_err(fail)?;
        prop_assert!(stored.ended.is_some() && stored.message.contains("the daemon stopped"));
        let (message, ended) = (stored.message, stored.ended);
        let crashes = job.crashes + u32::from(job.state == JobState::Running);
        *job = JobRecord { state: JobState::Interrupted, message, ended, crashes, ..job.clone() };
    }
    Ok(())
}

/// Reads everything there is and compares it.
fn compare(registry: &Registry, reference: &Reference) -> Result<(), TestCaseError> {
    let models: Vec<Model> = reference.models.values().map(|entry| entry.model.clone()).collect();
    prop_assert_eq!(registry.models(None, 100).map_err(fail)?, models);
    for (id, entry) in &reference.models {
        let versions: Vec<Version> =
            entry.versions.values().rev().map(|(version, _)| version.clone()).collect();
        prop_assert_eq!(registry.versions(id, None, 100).map_err(fail)?, versions.clone());
        prop_assert_eq!(
            registry.versions(id, Some(VersionNumber(3)), 1).map_err(fail)?,
            versions.into_iter().filter(|version| version.number.0 < 3).take(1).collect::<Vec<_>>()
        );
        let manifests: Vec<Manifest> = entry.manifests.values().rev().cloned().collect();
        prop_assert_eq!(registry.manifests(id, None, 100).map_err(fail)?, manifests);
        for (number, (_, tensors)) in &entry.versions {
            prop_assert_eq!(&registry.checkpoint(id, *number).map_err(fail)?, tensors);
        }
        let serving = registry.resolve(id, &Selector::Serving).map_err(|error| kind(&error));
        let number = registry.resolve(id, &Selector::Number(VersionNumber(1))).map_err(|error| kind(&error));
        let first = entry.versions.contains_key(&VersionNumber(1)).then_some(VersionNumber(1));
        prop_assert_eq!(number, first.ok_or_else(|| format!("not found: version {}/versions/1", id.name())));
        let canary = AliasName::new("canary").expect("valid");
        let alias = registry.resolve(id, &Selector::Alias(canary.clone())).map_err(|error| kind(&error));
        let points = entry.model.aliases.get(&canary).copied();
        prop_assert_eq!(alias, points.ok_or_else(|| format!("not found: alias {}@canary", id.name())));
        let missing = if entry.model.latest_version == 0 { "NO_VERSION" } else { "NO_SERVING_VERSION" };
        prop_assert_eq!(serving, entry.model.serving().ok_or_else(|| missing.to_owned()));
    }
    let jobs: Vec<JobRecord> = reference.jobs.values().rev().cloned().collect();
    prop_assert_eq!(registry.jobs(None, None, 100).map_err(fail)?, jobs.clone());
    let bank = id("bank");
    let of_bank: Vec<JobRecord> =
        jobs.into_iter().filter(|job| job.model == bank && job.id < JobId(4)).collect();
    prop_assert_eq!(registry.jobs(Some(&bank), Some(JobId(4)), 100).map_err(fail)?, of_bank);
    Ok(())
}

fn fail(error: Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_answers_as_its_reference(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut registry = reopen(dir.path());
        let mut reference = Reference::default();
        for step in steps {
            if matches!(step, Step::Reboot) {
                drop(registry);
                registry = reopen(dir.path());
                interrupt(&registry, &mut reference)?;
            } else {
                apply(&registry, &mut reference, step)?;
            }
            compare(&registry, &reference)?;
        }
    }
}
