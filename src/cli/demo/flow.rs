//! What the demo does, call by call.

use std::time::Instant;

use tokio_stream::StreamExt as _;

use super::{
    MERGED, WITHDRAWALS, dataset, merged,
    report::{Comparison, Measured, Narrator},
};
use crate::{
    cli::{
        connection::Connection,
        create::create,
        evaluate::measure,
        examples::upload,
        failure::{Exit, Failure},
        follow::Follower,
        merge,
        output::{count, percent, seconds},
    },
    proto::v1::{
        ChangeApplied, GetVersionRequest, Job, LabelledText, MergeClassesRequest, PredictRequest, Preset,
        TrainRequest, merge_classes_response::Result as Step,
    },
};

/// The model of the demo.
pub(super) const MODEL: &str = "models/bank";
/// The model that is trained anew on the merged classes, to compare with.
const ANEW: &str = "models/bank-anew";
/// What is asked before and after the merge.
const QUESTIONS: [&str; 5] = [
    "我想取款15000元，要预约吗",
    "can I take out 20k in cash",
    "下周一到柜台取三万五",
    "someone stole my card, block it",
    "给我 check 一下 balance",
];

pub(super) async fn run(connection: &Connection, seed: u64, say: &Narrator) -> Result<Comparison, Failure> {
    let data = dataset(seed);
    let classes = data.train.iter().map(|(_, label)| label).collect::<std::collections::BTreeSet<_>>().len();
    say.line(format!(
        "A bank's questions in Chinese and English, {classes} intents: {} texts to learn from, {} held out.",
        count(data.train.len() as u64),
        count(data.test.len() as u64)
    ))?;

    say.line(format!("\n1. Train {MODEL} from scratch."))?;
    prepare(connection, MODEL, &data.train, say).await?;
    let scratch_seconds = train(connection, MODEL, seed).await?;
    let scratch =
        Measured { accuracy: accuracy(connection, MODEL, &data.test).await?, seconds: scratch_seconds };
    say.line(format!(
        "   {} of the held-out texts are right, after {}.",
        percent(scratch.accuracy),
        seconds(scratch_seconds)
    ))?;
    ask(connection, say).await?;

    let [below, above] = WITHDRAWALS;
    say.line(format!("\n2. Merge {below} and {above} into {MERGED}."))?;
    let started = Instant::now();
    let request = MergeClassesRequest {
        model: MODEL.to_owned(),
        classes: WITHDRAWALS.map(str::to_owned).to_vec(),
        into: MERGED.to_owned(),
        reason: "the counter asks for the sum anyway".to_owned(),
        ..MergeClassesRequest::default()
    };
    let mut steps = connection.taxonomy().merge_classes(request).await?.into_inner();
    let change = match steps.message().await?.and_then(|response| response.result) {
        Some(Step::Applied(change)) => change,
        _ => return Err(Failure::new(Exit::Failed, "the daemon did not say what the merge did")),
    };
    let instant_seconds = started.elapsed().as_secs_f64();
    let version = applied(&change)?;
    say.line(format!(
        "   The call's first answer came after {}: {version} serves the merged class.",
        seconds(instant_seconds)
    ))?;
    ask(connection, say).await?;
    // By the version's name: the job that learns may publish its own meanwhile.
    let test = merged(&data.test);
    let instant =
        Measured { accuracy: accuracy(connection, version, &test).await?, seconds: instant_seconds };
    say.line(format!(
        "   {} of the held-out texts are right, without any learning.",
        percent(instant.accuracy)
    ))?;

    say.line(format!(
        "\n3. {} goes on learning by transfer; it publishes where validation is not worse.",
        change.job
    ))?;
    let job = Follower::progress_only().follow(Box::pin(merge::events(steps))).await?;
    let transfer = job.as_ref().and_then(took).unwrap_or_else(|| started.elapsed().as_secs_f64());
    let transfer = Measured { accuracy: accuracy(connection, MODEL, &test).await?, seconds: transfer };
    say.line(format!(
        "   {} of the held-out texts are right, after {}.\n   {}.",
        percent(transfer.accuracy),
        seconds(transfer.seconds),
        verdict(connection, job.as_ref()).await?
    ))?;

    say.line(format!("\n4. To compare: train {ANEW} from scratch on the merged classes."))?;
    prepare(connection, ANEW, &merged(&data.train), say).await?;
    let anew_seconds = train(connection, ANEW, seed).await?;
    let merged_from_scratch =
        Measured { accuracy: accuracy(connection, ANEW, &test).await?, seconds: anew_seconds };
    say.line(format!(
        "   {} of the held-out texts are right, after {}.",
        percent(merged_from_scratch.accuracy),
        seconds(anew_seconds)
    ))?;

    Ok(Comparison { scratch, instant_merge: instant, after_transfer: transfer, merged_from_scratch })
}

/// Makes a model and gives it examples.
async fn prepare(
    connection: &Connection,
    model: &str,
    examples: &[(String, String)],
    say: &Narrator,
) -> Result<(), Failure> {
    create(connection, model, Preset::Default, None).await.map_err(|failure| {
        let hint = format!("the folder holds {model} already; name another with --data-dir");
        if failure.exit == Exit::Invalid { failure.with_hint(hint) } else { failure }
    })?;
    let stored = upload(connection, model, labelled(examples), true).await?;
    say.line(format!("   {} examples stored.", count(stored.added)))
}

/// Trains and says how long it took, from the call to the end of the job.
async fn train(connection: &Connection, model: &str, seed: u64) -> Result<f64, Failure> {
    let started = Instant::now();
    let request = TrainRequest { model: model.to_owned(), seed: Some(seed), ..TrainRequest::default() };
    let events = connection.training().train(request).await?.into_inner();
    let events = events.map(|response| response.map(|response| response.event.unwrap_or_default()));
    Follower::progress_only().follow(events).await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn accuracy(connection: &Connection, model: &str, test: &[(String, String)]) -> Result<f64, Failure> {
    Ok(measure(connection, model, labelled(test)).await?.accuracy)
}

async fn ask(connection: &Connection, say: &Narrator) -> Result<(), Failure> {
    let request = PredictRequest {
        model: MODEL.to_owned(),
        texts: QUESTIONS.map(str::to_owned).to_vec(),
        top_k: Some(2),
        min_confidence: None,
        min_precision: None,
        level: None,
        manifest_revision: None,
    };
    let answer = connection.predict().predict(connection.request(request)).await?.into_inner();
    say.predictions(&QUESTIONS, &answer)
}

fn applied(change: &ChangeApplied) -> Result<&str, Failure> {
    let version = change.version.as_ref().map(|version| version.name.as_str());
    version.ok_or_else(|| Failure::new(Exit::Failed, "the daemon did not say which version answers now"))
}

/// Seconds that a job took, by the daemon's clock: on this side an evaluation ran at the same time.
fn took(job: &Job) -> Option<f64> {
    let (from, to) = (job.create_time.as_ref()?, job.end_time.as_ref()?);
    Some((to.seconds - from.seconds) as f64 + f64::from(to.nanos - from.nanos) / 1e9)
}

/// What became of the transfer: what the gate said of the version that it learnt.
async fn verdict(connection: &Connection, job: Option<&Job>) -> Result<String, Failure> {
    let Some(name) = job.and_then(|job| job.versions.last()) else {
        return Ok("there was nothing to learn".to_owned());
    };
    let request = connection.request(GetVersionRequest { name: name.clone() });
    let version = connection.registry().get_version(request).await?.into_inner().version.unwrap_or_default();
    Ok(format!("version {} was {}", version.number, version.report.unwrap_or_default().gate))
}

fn labelled(examples: &[(String, String)]) -> Vec<LabelledText> {
    examples.iter().map(|(text, label)| LabelledText { text: text.clone(), label: label.clone() }).collect()
}
