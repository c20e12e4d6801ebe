//! Phrases with alternatives and lists, expanded at random: `{want_en} [check|see] my balance`.
//!
//! `[a|b|]` stands for one of its alternatives, `{name}` for a line of the list of that name or, where no list has it,
//! for a sum of money (see [`super::amounts`]).

use std::collections::BTreeMap;

use rand::{Rng, seq::IndexedRandom as _};
use serde::Deserialize;

use super::amounts;

/// The grammar as the file holds it: a phrase a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    lists: BTreeMap<String, String>,
    intents: Vec<FileIntent>,
    shared: Vec<FileShared>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIntent {
    name: String,
    #[serde(default = "one")]
    weight: f64,
    phrases: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileShared {
    intents: Vec<String>,
    phrases: String,
}

/// What customers ask for and how they put it.
#[derive(Debug)]
pub(super) struct Grammar {
    lists: BTreeMap<String, Vec<Phrase>>,
    /// The intents, in the order of the file.
    pub(super) intents: Vec<Intent>,
}

/// One thing that customers ask for.
#[derive(Debug)]
pub(super) struct Intent {
    /// Its name: the label of its texts.
    pub(super) name: String,
    /// How often it is asked for, against 1 for the others.
    pub(super) weight: f64,
    /// Phrases that mean this.
    pub(super) own: Vec<Phrase>,
    /// Phrases that mean this or something else.
    pub(super) shared: Vec<Phrase>,
}

/// A phrase with its alternatives.
#[derive(Debug, Clone)]
pub(super) struct Phrase(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    List(String),
    Choice(Vec<Phrase>),
}

fn one() -> f64 {
    1.0
}

impl Grammar {
    /// Reads a grammar and checks that every name in it leads somewhere.
    pub(super) fn parse(toml: &str) -> Result<Self, String> {
        let file: File = toml::from_str(toml).map_err(|e| e.to_string())?;
        let lists = file
            .lists
            .iter()
            .map(|(name, lines)| Ok((name.clone(), phrases(lines)?)))
            .collect::<Result<BTreeMap<_, _>, String>>()?;
        let mut intents = Vec::with_capacity(file.intents.len());
        for intent in file.intents {
            let own = phrases(&intent.phrases)?;
            intents.push(Intent { name: intent.name, weight: intent.weight, own, shared: Vec::new() });
        }
        for shared in file.shared {
            let phrases = phrases(&shared.phrases)?;
            for name in shared.intents {
                let intent = intents.iter_mut().find(|i| i.name == name);
                let intent = intent.ok_or_else(|| format!("no intent is called '{name}'"))?;
                intent.shared.extend(phrases.iter().cloned());
            }
        }
        let grammar = Self { lists, intents };
        grammar.check()?;
        Ok(grammar)
    }

    /// Any line of a list; the list exists, as [`Grammar::parse`] has checked for the names that phrases use.
    pub(super) fn line(&self, list: &str, rng: &mut impl Rng) -> String {
        let mut out = String::new();
        self.expand_list(list, rng, &mut out);
        tidy(&out)
    }

    /// One of the things that the phrase stands for.
    pub(super) fn expand(&self, phrase: &Phrase, rng: &mut impl Rng) -> String {
        let mut out = String::new();
        self.expand_into(phrase, rng, &mut out);
        tidy(&out)
    }

    fn expand_into(&self, phrase: &Phrase, rng: &mut impl Rng, out: &mut String) {
        for part in &phrase.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::List(name) => self.expand_list(name, rng, out),
                Part::Choice(options) => {
                    if let Some(option) = options.choose(rng) {
                        self.expand_into(option, rng, out);
                    }
                }
            }
        }
    }

    fn expand_list(&self, name: &str, rng: &mut impl Rng, out: &mut String) {
        match self.lists.get(name) {
            Some(lines) => {
                if let Some(line) = lines.choose(rng) {
                    self.expand_into(line, rng, out);
                }
            }
            None => out.push_str(&amounts::draw(name, rng).unwrap_or_default()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let own = self.intents.iter().flat_map(|i| i.own.iter().chain(&i.shared));
        for phrase in own.chain(self.lists.values().flatten()) {
            self.check_phrase(phrase)?;
        }
        Ok(())
    }

    fn check_phrase(&self, phrase: &Phrase) -> Result<(), String> {
        for part in &phrase.0 {
            match part {
                Part::List(name)
                    if !self.lists.contains_key(name) && !amounts::NAMES.contains(&name.as_str()) =>
                {
                    return Err(format!("no list is called '{name}'"));
                }
                Part::Choice(options) => options.iter().try_for_each(|option| self.check_phrase(option))?,
                Part::List(_) | Part::Text(_) => {}
            }
        }
        Ok(())
    }
}

fn phrases(lines: &str) -> Result<Vec<Phrase>, String> {
    lines.lines().filter(|line| !line.is_empty()).map(Phrase::parse).collect()
}

impl Phrase {
    fn parse(line: &str) -> Result<Self, String> {
        let mut rest = line;
        let phrase = parse_parts(&mut rest, false).map_err(|e| format!("{e} in '{line}'"))?;
        Ok(phrase)
    }
}

/// Parses up to the end or, within brackets, up to the `|` or `]` that ends the alternative, which is left in place.
fn parse_parts(rest: &mut &str, nested: bool) -> Result<Phrase, String> {
    let mut parts = Vec::new();
    while let Some(c) = rest.chars().next() {
        match c {
            '[' => {
                let mut options = Vec::new();
                while let Some(after) = rest.strip_prefix(['[', '|']) {
                    *rest = after;
                    options.push(parse_parts(rest, true)?);
                }
                *rest = rest.strip_prefix(']').ok_or("a '[' is not closed")?;
                parts.push(Part::Choice(options));
            }
            '{' => {
                let (name, after) = rest[1..].split_once('}').ok_or("a '{' is not closed")?;
                parts.push(Part::List(name.to_owned()));
                *rest = after;
            }
            '|' | ']' if nested => break,
            '|' | ']' | '}' => return Err(format!("a '{c}' stands alone")),
            _ => {
                let end = rest.find(['[', '{', '|', ']', '}']).unwrap_or(rest.len());
                parts.push(Part::Text(rest[..end].to_owned()));
                *rest = &rest[end..];
            }
        }
    }
    Ok(Phrase(parts))
}

/// Removes the white space that empty alternatives leave behind.
fn tidy(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    [" ,", " ?", " !", " ."].iter().fold(words, |text, mark| text.replace(mark, &mark[1..]))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn grammar(phrase: &str) -> Result<Grammar, String> {
        Grammar::parse(&format!(
            "shared = []\n[lists]\nfruit = \"apple\\npear\"\n[[intents]]\nname = \"a\"\nphrases = \"{phrase}\"\n"
        ))
    }

    #[test]
    fn alternatives_and_lists_all_occur() {
        let grammar = grammar("[eat|peel [and cut|]] a {fruit} [now|]").unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let phrase = &grammar.intents[0].own[0];
        let seen: std::collections::BTreeSet<_> =
            (0..400).map(|_| grammar.expand(phrase, &mut rng)).collect();
        assert_eq!(seen.len(), 3 * 2 * 2, "{seen:?}");
        assert!(seen.contains("eat a apple now") && seen.contains("peel and cut a pear"), "{seen:?}");
    }

    #[test]
    fn mistakes_in_the_grammar_are_named() {
        for (phrase, part) in [
            ("eat a {stone}", "'stone'"),
            ("[a|b", "not closed"),
            ("a|b", "stands alone"),
            ("{fruit", "not closed"),
        ] {
            let error = grammar(phrase).unwrap_err();
            assert!(error.contains(part), "{phrase}: {error}");
        }
    }
}
