//! A client that changes a model of its own and compares what it finds with what was acknowledged.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use taxond::proto::v1::LabelledText;
use tonic::Code;

use super::{
    clients::Clients,
    oracle::{Call, LABELS, Seen, State},
};

/// A client's model, by what was acknowledged, and the call that was not answered any more.
pub(crate) struct Client {
    id: String,
    known: Seen,
    unanswered: Option<(Call, String)>,
    calls: u64,
    rng: ChaCha8Rng,
}

impl Client {
    pub(crate) fn new(number: usize, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed * 1000 + number as u64);
        Self { id: format!("bank-{number}"), known: None, unanswered: None, calls: 0, rng }
    }

    pub(crate) fn has_unanswered(&self) -> bool {
        self.unanswered.is_some()
    }

    /// A call that is right for the model as it is.
    fn next(&mut self) -> Call {
        let Some(state) = &self.known else { return Call::Create };
        match (state.latest_version, &state.classes) {
            (0, _) => return Call::Import,
            (_, None) => return Call::Promote,
            _ => {}
        }
        let merged = state.classes.as_ref().is_some_and(|(_, names)| names.len() < LABELS.len());
        let (rng, calls) = (&mut self.rng, self.calls);
        let part = format!("number {}", rng.random_range(0..=calls));
        let texts = |rng: &mut ChaCha8Rng| {
            let text = |at, rng: &mut ChaCha8Rng| LabelledText {
                text: format!("text {at} number {calls}"),
                label: LABELS[rng.random_range(0..LABELS.len())].into(),
            };
            (0..rng.random_range(2..20)).map(|at| text(at, rng)).collect()
        };
        match rng.random_range(0..100) {
            0..30 => Call::Add(texts(rng)),
            30..40 => Call::AddAfterReset(texts(rng), rng.random_range(0..5_000)),
            40..55 => Call::Relabel { part, label: LABELS[rng.random_range(0..LABELS.len())] },
            55..65 => Call::Remove { part },
            65..85 if merged => Call::Undo,
            65..85 => Call::Merge,
            85..98 => Call::Canary(rng.random_range(1..=state.latest_version)),
            _ => Call::Delete,
        }
    }

    /// Calls until the daemon answers no more, or refuses for want of room, and returns how many calls it acknowledged.
    pub(crate) async fn call(&mut self, mut clients: Clients, file: &[u8]) -> u64 {
        let mut acknowledged = 0;
        loop {
            let call = self.next();
            self.calls += 1;
            let request_id = format!("{}-{}", self.id, self.calls);
            match call.make(&mut clients, file, &self.id, &request_id).await {
                Ok(()) => self.known = call.done_to(&self.known),
                // Which of these a cut connection is depends on where it was cut.
                Err(status)
                    if matches!(
                        status.code(),
                        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
                    ) =>
                {
                    self.unanswered = Some((call, request_id));
                    return acknowledged;
                }
                Err(status) if status.code() == Code::ResourceExhausted => return acknowledged,
                Err(status) => panic!("{}: {call:?}: {status}", self.id),
            }
            acknowledged += 1;
        }
    }

    /// Compares with what there is after a restart, and repeats the call that was not answered.
    pub(crate) async fn compare(&mut self, clients: &mut Clients, file: &[u8], moment: &str) {
        let found = self.compare_read(clients, moment).await;
        let Some((call, request_id)) = self.unanswered.take() else { return };
        let done = call.done_to(&self.known);
        let repeated = call.make(clients, file, &self.id, &request_id).await;
        repeated.unwrap_or_else(|status| panic!("{moment}, {}: {call:?} repeated: {status}", self.id));
        let repeated = State::read(clients, &self.id).await;
        assert_eq!(repeated, done, "{moment}, {}: {call:?} repeated, found before {found:?}", self.id);
        self.known = done;
    }

    /// Compares with what there is after a restart; writes nothing.
    pub(crate) async fn compare_read(&self, clients: &mut Clients, moment: &str) -> Seen {
        let found = State::read(clients, &self.id).await;
        match &self.unanswered {
            None => assert_eq!(found, self.known, "{moment}, {}", self.id),
            Some((call, _)) => assert!(
                found == self.known || found == call.done_to(&self.known),
                "{moment}, {}: {call:?} is half done\nbefore {:?}\nfound {found:?}",
                self.id,
                self.known
            ),
        }
        found
    }
}
