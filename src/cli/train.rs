//! `taxond train`

use clap::{Args, ValueEnum};
use tokio_stream::StreamExt as _;

use crate::{
    cli::{Global, change::How, connection::Connection, failure::Failure, follow::Follower, names},
    proto::v1::{Learn, Optimiser, TrainRequest, TrainResponse},
};

#[derive(Debug, Args)]
pub(super) struct Train {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Passes over the examples, 1 to 1000 [default: what the recipe says]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Seed of everything drawn at random [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Peak learning rate, above 0, at most 1 [default: what the recipe says]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// How gradients become updates [default: what the recipe says]
    #[arg(long, value_enum)]
    optimiser: Option<Method>,
    /// Read the words of a text in random order with this probability, 0 to 1 [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    word_shuffle: Option<f64>,
    /// How to learn
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    learn: How,
    /// Promote what is learnt also where the gate would refuse it
    #[arg(long)]
    force: bool,
    /// Do not wait for the end
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    /// Adam with decoupled weight decay
    Adamw,
    /// Plain gradient descent
    Sgd,
}

impl Train {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let optimiser = match self.optimiser {
            None => Optimiser::Unspecified,
            Some(Method::Adamw) => Optimiser::Adamw,
            Some(Method::Sgd) => Optimiser::Sgd,
        };
        let request = TrainRequest {
            model: self.model,
            epochs: self.epochs,
            seed: self.seed,
            learning_rate: self.learning_rate,
            detach: self.detach,
            request_id: String::new(),
            optimiser: optimiser.into(),
            word_shuffle: self.word_shuffle,
            learn: Learn::from(self.learn).into(),
            force: self.force,
        };
        let events = connection.training().train(request).await?.into_inner();
        let events = events.map(|response| response.map(event));
        Follower::new(global.json).follow(events).await.map(drop)
    }
}

fn event(response: TrainResponse) -> crate::proto::v1::JobEvent {
    // A message without its event would be a fault of the daemon; an empty event is shown as such.
    response.event.unwrap_or_default()
}
