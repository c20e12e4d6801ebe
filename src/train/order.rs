//! What a job is to do: as long as it is not done it is kept, so that it can be done again.

use serde::{Deserialize, Serialize};

use super::{Optimiser, Strategy};
use crate::error::{Error, Result};

/// What a caller may choose about a training; the recipe decides the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    /// Passes over the examples.
    pub epochs: Option<u32>,
    /// Peak learning rate.
    pub learning_rate: Option<f64>,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// How gradients become updates.
    pub optimiser: Option<Optimiser>,
    /// Probability that the words of a text are read in random order.
    pub word_shuffle: Option<f32>,
    /// Which parts of the network learn.
    pub strategy: Strategy,
    /// Whether what is learnt is promoted also where the gate would refuse it.
    pub force: bool,
    /// Who asked for it, as the caller claimed: the author of the classes that it adds.
    pub author: String,
}

/// What a job is to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) options: TrainOptions,
    /// Whether the job only refines a change of the classes, so that a newer change makes it pointless.
    pub(super) refines_change: bool,
}

impl Order {
    /// The order as it is kept.
    pub(super) fn encode(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::Internal(format!("keeping the order of a job: {error}")))
    }

    /// The order that was kept, perhaps by a taxond that knew other options.
    pub(super) fn decode(kept: &str) -> Result<Self> {
        serde_json::from_str(kept)
            .map_err(|error| Error::Internal(format!("reading the order of a job: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_kept_to_the_last_bit() {
        let options = TrainOptions {
            epochs: Some(3),
            learning_rate: Some(0.1 + 0.2),
            seed: u64::MAX,
            optimiser: Some(Optimiser::Sgd),
            word_shuffle: Some(0.3),
            strategy: Strategy::FineTune,
            force: true,
            author: "zoë".to_owned(),
        };
        let order = Order { options, refines_change: true };
        assert_eq!(Order::decode(&order.encode().unwrap()).unwrap(), order);
        assert!(Order::decode("{\"options\":{}}").is_err());
    }
}
