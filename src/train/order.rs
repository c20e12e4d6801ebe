//! What a job is to do: as long as it is not done it is kept, so that it can be done again.

use serde::{Deserialize, Serialize};

use super::{
    Optimiser, Strategy,
    claim::{Claim, Class, Need},
};
use crate::{
    error::{Error, Result},
    registry::ModelId,
};

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
    /// The identity whose share of the training time the job uses.
    #[serde(default)]
    pub identity: String,
}

/// What a job is to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) options: TrainOptions,
    /// Whether the job only refines a change of the classes, so that a newer change makes it pointless.
    pub(super) refines_change: bool,
}

impl Order {
    /// What the job asks of the schedule. A change that starts anew or from random rows trains as long as any training.
    pub(super) fn claim(&self, model: &ModelId) -> Claim {
        let class = match (self.refines_change, self.options.strategy) {
            (true, Strategy::Auto | Strategy::HeadOnly | Strategy::FineTune) => Class::Change,
            (true, Strategy::Seed | Strategy::Scratch) | (false, _) => Class::Training,
        };
        Claim { identity: self.options.identity.clone(), model: model.clone(), class, need: Need::default() }
    }

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
            identity: "ci".to_owned(),
        };
        let order = Order { options, refines_change: true };
        assert_eq!(Order::decode(&order.encode().unwrap()).unwrap(), order);
        assert!(Order::decode("{\"options\":{}}").is_err());
    }

    #[test]
    fn an_order_from_before_identities_is_read() {
        let mut kept: serde_json::Value = serde_json::from_str(&Order::default().encode().unwrap()).unwrap();
        kept["options"].as_object_mut().unwrap().remove("identity").unwrap();
        assert_eq!(Order::decode(&kept.to_string()).unwrap(), Order::default());
    }

    #[test]
    fn a_change_that_trains_everything_anew_is_a_training() {
        let class = |strategy, refines_change| {
            let options = TrainOptions { strategy, ..TrainOptions::default() };
            Order { options, refines_change }.claim(&ModelId::new("bank").unwrap()).class
        };
        assert_eq!(class(Strategy::Auto, true), Class::Change);
        assert_eq!(class(Strategy::Scratch, true), Class::Training);
        assert_eq!(class(Strategy::HeadOnly, false), Class::Training);
    }
}
