//! Where one token ends and the next begins: as `tokenise` cuts, or with Chinese words put together.
//!
//! Chinese is written without spaces. As words, runs of ideographs are cut by jieba, a dictionary of some 350,000 words
//! with a hidden Markov model for those that it does not hold: 取款 is then one token, and word vectors of it are of use.

use std::sync::LazyLock;

use jieba_rs::Jieba;

use super::{tokenise::stands_alone, tokens};

/// The dictionary is unpacked and loaded by the first text that needs it.
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// What a token of ideographs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Segmentation {
    /// One character.
    #[default]
    Characters,
    /// One word.
    Words,
}

impl Segmentation {
    /// The tokens of a text in normal form, in order.
    ///
    /// ```
    /// use taxond::text::Segmentation;
    ///
    /// let tokens = |cut: Segmentation| cut.tokens("我要取款20万").collect::<Vec<_>>();
    /// assert_eq!(tokens(Segmentation::Characters), ["我", "要", "取", "款", "20", "万"]);
    /// assert_eq!(tokens(Segmentation::Words), ["我要", "取款", "20", "万"]);
    /// ```
    pub fn tokens(self, text: &str) -> impl Iterator<Item = &str> {
        let (characters, words) = match self {
            Self::Characters => (Some(tokens(text)), None),
            Self::Words => (None, Some(words(text))),
        };
        characters.into_iter().flatten().chain(words.into_iter().flatten())
    }
}

/// Runs of characters that stand alone are cut into words, the other tokens stay.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let run = rest.find(|c| !stands_alone(c)).unwrap_or(rest.len());
        if run > 0 {
            words.extend(JIEBA.cut(&rest[..run], true).into_iter().map(|token| token.word));
            rest = &rest[run..];
        } else if let Some(token) = tokens(rest).next() {
            words.push(token);
            rest = &rest[token.len()..];
        } else {
            return words;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        Segmentation::Words.tokens(text).collect()
    }

    #[test]
    fn ideographs_are_put_together_and_the_rest_is_cut_as_ever() {
        assert_eq!(cut("信用卡丢了怎么办"), ["信用卡", "丢", "了", "怎么办"]);
        assert_eq!(
            cut("my visa卡 has 3% 手续费, 对吗?"),
            ["my", "visa", "卡", "has", "3", "%", "手续费", ",", "对", "吗", "?"]
        );
        assert_eq!(cut("取 款"), ["取", "款"], "a space stays a space");
        assert_eq!(cut(""), Vec::<&str>::new());
        assert_eq!(cut("कार्ड खो"), ["कार्ड", "खो"], "marks stay with their letter");
    }

    #[test]
    fn words_that_no_dictionary_holds_are_still_cut() {
        assert_eq!(cut("カードを失くした").concat(), "カードを失くした");
        assert!(cut(&"取".repeat(2000)).len() >= 500);
    }

    proptest! {
        #[test]
        fn nothing_but_space_is_lost(text in "[取款银行卡ab1 ,カ\u{301}]{0,20}") {
            let kept: String = cut(&text).concat();
            prop_assert_eq!(kept, text.replace(' ', ""));
            prop_assert!(cut(&text).iter().all(|token| !token.is_empty()));
        }
    }
}
