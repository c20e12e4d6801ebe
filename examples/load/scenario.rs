//! The ways to ask, and a run of one of them.

use std::{
    collections::VecDeque,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use prost::Message as _;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{
    Options,
    client::Client,
    health, process,
    report::Report,
    tally::Tally,
    texts::{self, Lengths, Requests},
};

/// A closed loop pauses after a failure, so that a daemon that refuses is not asked ever faster.
const PAUSE: Duration = Duration::from_millis(10);
/// How often an open loop sends what is due.
const TICK: Duration = Duration::from_millis(1);

/// How texts are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One request at a time, one text of middling length
    C1,
    /// 16 requests at once, one text of middling length each
    C16,
    /// 64 requests at once, one text of middling length each
    C64,
    /// 64 requests at once, one text each, of all lengths
    Mix64,
    /// 4 requests at once, 32 texts of all lengths each
    B32,
    /// One stream, 32 texts of all lengths a message, 8 messages at once
    Stream,
    /// One text of all lengths a request, at a fixed rate, whatever is answered; up to 1,920 at once
    Overload,
}

impl Scenario {
    /// Lengths of the texts, texts of a request, requests at once, connections.
    fn shape(self) -> (Lengths, u32, u32, u16) {
        match self {
            Self::C1 => (Lengths::Middling, 1, 1, 1),
            Self::C16 => (Lengths::Middling, 1, 16, 1),
            Self::C64 => (Lengths::Middling, 1, 64, 1),
            Self::Mix64 => (Lengths::Mixed, 1, 64, 1),
            Self::B32 => (Lengths::Mixed, 32, 4, 1),
            Self::Stream => (Lengths::Mixed, 32, 8, 1),
            // More connections than calls need: a call over the limit of its connection would wait in the client.
            Self::Overload => (Lengths::Mixed, 1, 1920, 32),
        }
    }
}

/// Runs a scenario as long as the options say.
///
/// # Errors
/// The file cannot be read, the daemon cannot be reached, or does not answer the first request well.
pub(crate) async fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    let (lengths, texts, in_flight, connections) = options.scenario.shape();
    let in_flight = options.in_flight.unwrap_or(in_flight) as usize;
    let texts = options.texts.unwrap_or(texts) as usize;
    let requests = Arc::new(Requests::new(&options.model, &texts::read(&options.file, lengths)?, texts));
    let mut clients = VecDeque::new();
    for _ in 0..options.connections.unwrap_or(connections) {
        clients.push_back(Client::connect(&options.addr).await?);
    }
    try_first(&mut clients[0], &requests).await?;

    let now = Instant::now();
    let begin = now + Duration::from_secs_f64(options.warmup);
    let tally = Arc::new(Tally::new(begin, begin + Duration::from_secs_f64(options.seconds)));
    let health = options.health.then(|| tokio::spawn(health::watch(options.addr.clone(), tally.clone())));
    let cpu = tokio::spawn(cpu_share(tally.clone()));
    let mut running = JoinSet::new();
    match options.scenario {
        Scenario::Overload => {
            let rate = options.rate.ok_or("overload needs --rate")?;
            running.spawn(open_loop(clients, requests, tally.clone(), rate, in_flight));
        }
        Scenario::Stream => {
            for client in clients {
                running.spawn(stream(client, requests.clone(), tally.clone(), in_flight));
            }
        }
        _ => {
            for _ in 0..in_flight {
                clients.rotate_left(1);
                running.spawn(closed_loop(clients[0].clone(), requests.clone(), tally.clone()));
            }
        }
    }
    // Whoever runs tells the tally all that went wrong; waiting for answers that come late serves nobody.
    sleep_until(tally.end.into()).await;
    let server_rss_bytes = options.pid.and_then(process::resident_bytes);
    running.abort_all();
    let health = match health {
        Some(health) => Some(health.await??),
        None => None,
    };
    let counts = tally.counts();
    if counts.latencies.is_empty() {
        return Err(format!(
            "nothing was answered: {} errors, {} exhausted",
            counts.errors, counts.exhausted
        )
        .into());
    }
    Ok(Report::new(options, texts, counts, cpu.await?, server_rss_bytes, health))
}

/// Asks the first request alone, and looks at all of its answer.
async fn try_first(client: &mut Client, requests: &Requests) -> Result<(), Box<dyn Error>> {
    let refused =
        |status: Status| format!("the first request failed: {:?}: {}", status.code(), status.message());
    let answer = client.predict(requests.first.encode_to_vec().into()).await.map_err(refused)?;
    let answer = answer.checked(requests.texts).map_err(refused)?;
    for (text, prediction) in requests.first.texts.iter().zip(answer.predictions) {
        let prediction = taxond::proto::v1::Prediction::decode(prediction)?;
        let right = |class: &taxond::proto::v1::ScoredClass| {
            !class.name.is_empty() && class.probability > 0.0 && class.probability <= 1.0
        };
        if !prediction.classes.first().is_some_and(right) {
            return Err(format!("the first answer to '{text}' is none: {prediction:?}").into());
        }
    }
    Ok(())
}

/// Share of one core that this process takes while it measures.
async fn cpu_share(tally: Arc<Tally>) -> Option<f64> {
    sleep_until(tally.begin.into()).await;
    let (began, before) = (Instant::now(), process::own_cpu_seconds()?);
    sleep_until(tally.end.into()).await;
    Some((process::own_cpu_seconds()? - before) / began.elapsed().as_secs_f64())
}

/// Asks, waits for the answer, and asks again.
async fn closed_loop(mut client: Client, requests: Arc<Requests>, tally: Arc<Tally>) {
    while !tally.is_over() {
        let asked = Instant::now();
        let outcome = client.predict(requests.next()).await.and_then(|answer| answer.checked(requests.texts));
        tally.note(asked, &outcome);
        if let Err(status) = outcome {
            // As the daemon asks for, and spread, so that those who were refused together do not come again together.
            let asked_for = status.get_details_retry_info().and_then(|info| info.retry_delay);
            let spread = 1.0 + f64::from(asked.elapsed().subsec_nanos() % 1000) / 1000.0;
            sleep(asked_for.unwrap_or(PAUSE).mul_f64(spread)).await;
        }
    }
}

/// Keeps so many messages of a stream unanswered. A stream that fails counts as one error, and is opened again.
async fn stream(mut client: Client, requests: Arc<Requests>, tally: Arc<Tally>, in_flight: usize) {
    while !tally.is_over() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut sent = VecDeque::new();
        let send = |sent: &mut VecDeque<Instant>| {
            sent.push_back(Instant::now());
            // A stream that is gone says so where its answers are read.
            let _gone = sender.send(requests.next());
        };
        for _ in 0..in_flight {
            send(&mut sent);
        }
        let failed = async {
            let mut answers = client.predict_stream(UnboundedReceiverStream::new(receiver)).await?;
            while let Some(answer) = answers.message().await? {
                let asked =
                    sent.pop_front().ok_or_else(|| Status::data_loss("more answers than messages"))?;
                tally.note(asked, &answer.checked(requests.texts));
                send(&mut sent);
            }
            Err::<(), _>(Status::data_loss("the stream ended before the client"))
        };
        if let Err(status) = failed.await {
            tally.note(Instant::now(), &Err(status));
            sleep(PAUSE).await;
        }
    }
}

/// Sends so many requests a second, but never more than `limit` that wait for an answer. A latency counts from when its
/// request was due.
async fn open_loop(
    mut clients: VecDeque<Client>,
    requests: Arc<Requests>,
    tally: Arc<Tally>,
    rate: f64,
    limit: usize,
) {
    let permits = Arc::new(Semaphore::new(limit));
    let mut waiting = JoinSet::new();
    let began = Instant::now();
    let mut number = 0u64;
    while !tally.is_over() {
        loop {
            let due = began + Duration::from_secs_f64(number as f64 / rate);
            if due > Instant::now() {
                break;
            }
            number += 1;
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                tally.note_not_sent();
                continue;
            };
            clients.rotate_left(1);
            let (mut client, requests, tally) = (clients[0].clone(), requests.clone(), tally.clone());
            waiting.spawn(async move {
                let outcome = client.predict(requests.next()).await;
                tally.note(due, &outcome.and_then(|answer| answer.checked(requests.texts)));
                drop(permit);
            });
        }
        while waiting.try_join_next().is_some() {}
        sleep(TICK).await;
    }
}
