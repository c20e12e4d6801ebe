//! A network that answers: text in, probabilities of the leaves out.

use std::sync::Arc;

use super::{
    AnswerWeights, Architecture, Checkpoint, LeafProbabilities, Network, TokenMemory,
    checkpoint::{BELOW_HEAD, HEAD_WEIGHT, LSTM_INPUT, LSTM_RECURRENT, PROJECTION_WEIGHT, WIDE_IDF},
    init,
    kernels::RecurrentWeights,
};
use crate::{
    error::Result,
    taxonomy::LeafId,
    text::{EncodedText, TextEncoder, Vocabulary},
};

/// Words that are read before the first request.
const WARM_WORDS: usize = 512;

/// Bytes of an entry of a hash table, its key's characters apart.
const TABLE_ENTRY: usize = 32;

/// A part of the memory of a classifier, which others may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPart {
    /// Tells it from the other parts that exist.
    pub address: usize,
    /// Its bytes, nearly.
    pub bytes: u64,
}

/// A checkpoint at work.
#[derive(Debug, Clone)]
pub struct Classifier {
    checkpoint: Checkpoint,
    texts: Arc<TextEncoder>,
    network: Network,
    kept: RecurrentWeights,
}

impl Classifier {
    /// A classifier that has learnt nothing.
    ///
    /// # Errors
    /// As [`Classifier::from_checkpoint`].
    pub fn new(
        architecture: Architecture,
        vocabulary: &Vocabulary,
        leaves: Vec<LeafId>,
        seed: u64,
    ) -> Result<Self> {
        let entries = vocabulary.entries().to_vec();
        Self::from_checkpoint(&init::initial(architecture, entries, leaves, seed))
    }

    /// Puts a checkpoint to work.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a checkpoint whose vocabulary or tensors are not what its dimensions say.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        Self::for_answers(checkpoint, AnswerWeights::F32)
    }

    /// As [`Classifier::from_checkpoint`], with weights rounded as they are for answers.
    ///
    /// # Errors
    /// As [`Classifier::from_checkpoint`].
    pub fn for_answers(checkpoint: &Checkpoint, weights: AnswerWeights) -> Result<Self> {
        Self::keeping(checkpoint, weights.of(&checkpoint.architecture))
    }

    fn keeping(checkpoint: &Checkpoint, kept: RecurrentWeights) -> Result<Self> {
        checkpoint.validate()?;
        Ok(Self {
            texts: Arc::new(checkpoint.text_encoder()?),
            network: Network::with_weights(&checkpoint.architecture, &checkpoint.tensors, kept)?,
            kept,
            checkpoint: checkpoint.clone(),
        })
    }

    /// As [`Classifier::for_answers`] with the weights of another; what is below the head of that is shared, with all that was
    /// read before, where the arrays are.
    ///
    /// # Errors
    /// As [`Classifier::from_checkpoint`].
    pub fn beside(checkpoint: &Checkpoint, other: &Self) -> Result<Self> {
        let shares = |name: &str| match (checkpoint.tensors.get(name), other.checkpoint.tensors.get(name)) {
            (Some(own), Some(others)) => own.data.is_shared_with(&others.data),
            (own, others) => own.is_none() && others.is_none(),
        };
        let same = checkpoint.architecture == other.checkpoint.architecture
            && BELOW_HEAD.into_iter().all(shares)
            && checkpoint.vocabulary == other.checkpoint.vocabulary;
        if !same {
            let own = Self::keeping(checkpoint, other.kept)?.counted_by(other.network.tokens().memory());
            own.warm()?;
            return Ok(own);
        }
        checkpoint.validate()?;
        let texts = match shares(WIDE_IDF) && checkpoint.terms == other.checkpoint.terms {
            true => Arc::clone(&other.texts),
            false => Arc::new(checkpoint.text_encoder()?),
        };
        let network = other.network.with_head_of(&checkpoint.tensors)?;
        Ok(Self { texts, network, kept: other.kept, checkpoint: checkpoint.clone() })
    }

    /// The checkpoint it was made of, its arrays shared.
    pub fn to_checkpoint(&self) -> Checkpoint {
        self.checkpoint.clone()
    }

    /// Its dimensions.
    pub fn architecture(&self) -> &Architecture {
        &self.checkpoint.architecture
    }

    /// The leaf of each row of the probabilities.
    pub fn leaves(&self) -> &[LeafId] {
        &self.checkpoint.leaves
    }

    /// Reads the most frequent words of the vocabulary, so that the first requests do not wait for what all texts share.
    ///
    /// # Errors
    /// As [`Classifier::leaf_probabilities`].
    pub fn warm(&self) -> Result<()> {
        // Features of other kinds hold a character that no word does.
        let is_word = |entry: &&String| !entry.is_empty() && !entry.contains(['#', ' ']);
        let words = self.checkpoint.vocabulary.iter().filter(is_word).take(WARM_WORDS);
        let texts: Vec<EncodedText> = words.map(|word| self.encode(word)).collect();
        for texts in texts.chunks(Network::BATCH) {
            self.leaf_probabilities(texts)?;
        }
        Ok(())
    }

    /// The same, with the tokens that it reads counted there.
    #[must_use]
    pub fn counted_by(self, memory: &Arc<TokenMemory>) -> Self {
        Self { network: self.network.counted_by(memory), ..self }
    }

    /// Memory that it takes, in bytes, nearly, beside the tokens that it read: its arrays, the weights once more as the kernels
    /// want them, its tables of words and terms. Each part is told by an address, as other classifiers may share it.
    pub fn memory_parts(&self) -> impl Iterator<Item = MemoryPart> + '_ {
        let numbers = |name: &&str| self.checkpoint.tensors.get(*name).map_or(0, |array| array.data.len());
        let recurrent = match self.kept {
            RecurrentWeights::Exact => numbers(&LSTM_RECURRENT),
            RecurrentWeights::Rounded => numbers(&LSTM_RECURRENT) / size_of::<f32>(),
        };
        let below_head = numbers(&LSTM_INPUT) + recurrent + numbers(&PROJECTION_WEIGHT);
        let words: usize =
            self.checkpoint.vocabulary.iter().map(|word| word.len() + size_of::<String>()).sum();
        let tables = words + (self.checkpoint.vocabulary.len() + self.checkpoint.terms.len()) * TABLE_ENTRY;
        let terms = self.checkpoint.terms.len() * size_of::<u64>();
        let own = words + terms + numbers(&HEAD_WEIGHT) * size_of::<f32>();
        let arrays = self.checkpoint.tensors.values();
        let arrays = arrays.map(|array| (array.data.address(), array.data.len() * size_of::<f32>()));
        let parts = [
            (self.tokens_address(), below_head * size_of::<f32>()),
            (Arc::as_ptr(&self.texts).addr(), tables),
            (std::ptr::from_ref(self).addr(), own),
        ];
        arrays.chain(parts).map(|(address, bytes)| MemoryPart { address, bytes: bytes as u64 })
    }

    /// Memory that it takes now, in bytes, nearly, with the tokens that it read.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_parts().map(|part| part.bytes).sum::<u64>() + self.token_bytes()
    }

    /// Tells the tokens that it read from those of other classifiers which do not share them.
    pub fn tokens_address(&self) -> usize {
        Arc::as_ptr(self.network.tokens()).addr()
    }

    /// Bytes of the tokens that it read.
    pub fn token_bytes(&self) -> u64 {
        self.network.tokens().bytes() as u64
    }

    /// Lets go of tokens that it read: of those that were not used for longest or, with `all`, of every one. They are read
    /// again when a text holds them.
    pub fn shrink_tokens(&self, all: bool) {
        self.network.tokens().shrink(all);
    }

    /// A text as this network reads it.
    pub fn encode(&self, text: &str) -> EncodedText {
        self.texts.encode(text)
    }

    /// Probabilities of the leaves, in the order of the texts. A text's are the same to the bit alone and among others.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] if a text was encoded by another network.
    pub fn leaf_probabilities(&self, texts: &[EncodedText]) -> Result<LeafProbabilities> {
        self.network.leaf_probabilities(&texts.iter().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Array, Pooling, Preset,
        checkpoint::{EMBEDDING, HEAD_BIAS},
    };

    const TEXTS: [&str; 8] = [
        "my card has not arrived",
        "取款两万以下",
        "where is my card",
        "?",
        "取款 two 万 and my card has not arrived, where is it? my card has not arrived",
        "card",
        "zzzz qqqq",
        "",
    ];

    fn classifier(preset: Preset) -> Classifier {
        let architecture = Architecture { embedding: 20, hidden: 21, ..Architecture::preset(preset) };
        let vocabulary = Vocabulary::build(
            TEXTS.into_iter().chain(["my card arrived", "取款两万"]),
            architecture.subwords,
        );
        let leaves = (1..=19).map(LeafId).collect();
        Classifier::new(architecture, &vocabulary, leaves, 5).unwrap()
    }

    #[test]
    fn an_answer_is_the_same_alone_and_in_company() {
        let exact = [Preset::Default, Preset::Seed].map(classifier);
        let rounded = exact.each_ref().map(|classifier| {
            Classifier::for_answers(&classifier.to_checkpoint(), AnswerWeights::Int8).unwrap()
        });
        for classifier in exact.into_iter().chain(rounded) {
            // More than one batch, in an order that mixes lengths.
            let texts: Vec<EncodedText> =
                (0..150).map(|i| classifier.encode(TEXTS[i * 3 % TEXTS.len()])).collect();
            let together = classifier.leaf_probabilities(&texts).unwrap();
            assert_eq!(together.len(), texts.len());
            for (text, row) in texts.iter().zip(together.iter()) {
                let alone = classifier.leaf_probabilities(std::slice::from_ref(text)).unwrap();
                assert_eq!(alone.row(0), row);
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn rounded_weights_change_answers_by_little() {
        for preset in [Preset::Default, Preset::Seed] {
            let exact = classifier(preset);
            let rounded = Classifier::for_answers(&exact.to_checkpoint(), AnswerWeights::Int8).unwrap();
            let texts: Vec<EncodedText> = TEXTS.iter().map(|text| exact.encode(text)).collect();
            let [a, b] = [&exact, &rounded].map(|of| of.leaf_probabilities(&texts).unwrap());
            assert_ne!(a, b);
            let far =
                a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-3, "{preset:?}: {far}");
            assert!(rounded.memory_bytes() < exact.memory_bytes());
        }
    }

    #[test]
    fn texts_get_different_answers() {
        let classifier = classifier(Preset::Default);
        assert_eq!(classifier.architecture().pooling, Pooling::MeanProjectedInput);
        let texts: Vec<EncodedText> = TEXTS[..4].iter().map(|text| classifier.encode(text)).collect();
        let answers = classifier.leaf_probabilities(&texts).unwrap();
        assert_ne!(answers.row(0), answers.row(2));
        assert_ne!(answers.row(0), answers.row(1));
    }

    #[test]
    fn a_checkpoint_answers_as_before() {
        let before = classifier(Preset::Default);
        let after = Classifier::from_checkpoint(&before.to_checkpoint()).unwrap();
        let text = [before.encode(TEXTS[0])];
        assert_eq!(after.encode(TEXTS[0]), text[0]);
        assert_eq!(before.leaf_probabilities(&text).unwrap(), after.leaf_probabilities(&text).unwrap());
    }

    #[test]
    fn beside_another_it_answers_as_alone() {
        let other = classifier(Preset::Default);
        let mut checkpoint = other.to_checkpoint();
        let bias = checkpoint.tensors.get_mut(HEAD_BIAS).unwrap();
        bias.data =
            bias.data.iter().enumerate().map(|(at, bias)| bias + at as f32).collect::<Vec<_>>().into();
        let same = |checkpoint: &Checkpoint, shares_texts: bool| {
            let beside = Classifier::beside(checkpoint, &other).unwrap();
            assert_eq!(Arc::ptr_eq(&beside.texts, &other.texts), shares_texts);
            let alone = Classifier::from_checkpoint(checkpoint).unwrap();
            let texts: Vec<EncodedText> = TEXTS.iter().map(|text| alone.encode(text)).collect();
            assert_eq!(TEXTS.map(|text| beside.encode(text)).as_slice(), texts);
            let answers = beside.leaf_probabilities(&texts).unwrap();
            assert_eq!(answers, alone.leaf_probabilities(&texts).unwrap());
            assert_ne!(answers, other.leaf_probabilities(&texts).unwrap());
        };
        same(&checkpoint, true);
        let embedding = checkpoint.tensors.get_mut(EMBEDDING).unwrap();
        embedding.data = embedding.data.iter().map(|x| -x).collect::<Vec<_>>().into();
        same(&checkpoint, false);
    }

    #[test]
    fn warming_changes_no_answer() {
        let classifier = classifier(Preset::Default);
        let texts = [classifier.encode(TEXTS[0]), classifier.encode(TEXTS[1])];
        let cold = classifier.leaf_probabilities(&texts).unwrap();
        classifier.warm().unwrap();
        assert_eq!(classifier.leaf_probabilities(&texts).unwrap(), cold);
        let warm = classifier.memory_bytes();
        assert!(classifier.token_bytes() > 0 && warm < Network::TOKEN_BYTES as u64, "{warm}");
        classifier.shrink_tokens(true);
        assert_eq!(classifier.token_bytes(), 0);
        assert!(classifier.memory_bytes() < warm);
        assert_eq!(classifier.leaf_probabilities(&texts).unwrap(), cold);
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_and_named() {
        let good = classifier(Preset::Default).to_checkpoint();
        let refuse = |damage: &dyn Fn(&mut Checkpoint)| {
            let mut bad = good.clone();
            damage(&mut bad);
            Classifier::from_checkpoint(&bad).unwrap_err().to_string()
        };
        let error = refuse(&|bad| drop(bad.tensors.remove(HEAD_BIAS)));
        assert!(error.contains("head.bias is missing"), "{error}");
        let error = refuse(&|bad| {
            bad.tensors.insert("head.extra".into(), Array::new([1], vec![0.0]));
        });
        assert!(error.contains("head.extra is unknown"), "{error}");
        let error = refuse(&|bad| {
            bad.leaves.pop();
        });
        assert!(error.contains("shape [19], not [18]"), "{error}");
        let error = refuse(&|bad| bad.leaves[1] = bad.leaves[0]);
        assert!(error.contains("two rows"), "{error}");
        let error = refuse(&|bad| {
            let bias = bad.tensors.get_mut(HEAD_BIAS).unwrap();
            let mut numbers = bias.data.to_vec();
            numbers[7] = f32::NAN;
            bias.data = numbers.into();
        });
        assert!(error.contains("not finite at 7"), "{error}");
    }
}
