//! One dimension of calls, its values, and how sets of them are told in the policy's own words.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use fixedbitset::FixedBitSet;
use serde::Serialize;

use super::diagram::Value;

/// How many words are tried with exceptions, and how many exceptions a phrase has.
const TRIED: usize = 12;
const MOST_EXCEPTIONS: usize = 6;

/// Something that the policy says of one dimension, such as a path pattern: the values that it accepts.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) accepts: FixedBitSet,
}

/// One dimension of calls. Its values are classes: what no word tells apart is one value.
#[derive(Clone, Debug)]
pub(super) struct Dimension<T> {
    pub(super) words: Vec<Word>,
    /// By value: something that is in the class.
    pub(super) examples: Vec<T>,
    /// By signature.
    values: HashMap<Vec<usize>, Value>,
}

/// A part of a set of values: what all of `is` and none of `except` accept. Without `is`, anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Phrase {
    /// Words that all accept it.
    pub is: Vec<String>,
    /// Words none of which does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl<T> Dimension<T> {
    /// Of words and of classes: for each the words that accept it, by number, and an example. Of several classes with
    /// the same words, the first counts.
    pub(super) fn new(
        words: Vec<String>,
        classes: impl IntoIterator<Item = (Vec<usize>, T)>,
    ) -> Self {
        let mut values = HashMap::new();
        let mut examples = Vec::new();
        for (signature, example) in classes {
            if let Entry::Vacant(entry) = values.entry(signature) {
                entry.insert(examples.len());
                examples.push(example);
            }
        }
        let mut words: Vec<Word> = words
            .into_iter()
            .map(|text| Word {
                text,
                accepts: FixedBitSet::with_capacity(examples.len()),
            })
            .collect();
        for (signature, value) in &values {
            for number in signature {
                if let Some(word) = words.get_mut(*number) {
                    word.accepts.insert(*value);
                }
            }
        }
        Self {
            words,
            examples,
            values,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.examples.len()
    }

    /// The value of what exactly these words accept.
    pub(super) fn value(&self, signature: &[usize]) -> Option<Value> {
        self.values.get(signature).copied()
    }

    /// What a word accepts.
    pub(super) fn accepted(&self, word: usize) -> FixedBitSet {
        self.words
            .get(word)
            .map_or_else(|| self.none(), |word| word.accepts.clone())
    }

    pub(super) fn none(&self) -> FixedBitSet {
        FixedBitSet::with_capacity(self.size())
    }

    pub(super) fn all(&self) -> FixedBitSet {
        let mut all = self.none();
        all.insert_range(..);
        all
    }

    /// The set in the policy's words, as few as can be found; no phrase is every value.
    pub(super) fn tell(&self, set: &FixedBitSet) -> Vec<Phrase> {
        tell(&self.words, self.size(), set)
    }
}

/// See [`Dimension::tell`].
pub(super) fn tell(words: &[Word], size: usize, set: &FixedBitSet) -> Vec<Phrase> {
    if set.count_ones(..) == size {
        return Vec::new();
    }
    let teller = Teller {
        words,
        size,
        set,
        without: minus(&full(size), set),
    };
    let mut left = set.clone();
    let mut phrases = Vec::new();
    while let Some(first) = left.minimum() {
        let (phrase, told) = teller.best(&left).unwrap_or_else(|| teller.exactly(first));
        left.difference_with(&told);
        phrases.push(phrase);
    }
    let length: usize = phrases.iter().map(Phrase::length).sum();
    match teller.at_once() {
        Some(phrase) if phrase.length() <= length => vec![phrase],
        _ => phrases,
    }
}

impl Phrase {
    /// How hard it is to read: an exception is harder than another word.
    fn length(&self) -> usize {
        let exceptions = match self.except.len() {
            0 => 0,
            some => some.saturating_add(1),
        };
        self.is.len().max(1).saturating_add(exceptions)
    }
}

struct Teller<'a> {
    words: &'a [Word],
    size: usize,
    set: &'a FixedBitSet,
    /// What is not to be told.
    without: FixedBitSet,
}

impl Teller<'_> {
    /// One word, but for exceptions, that tells the whole set.
    fn at_once(&self) -> Option<Phrase> {
        let wider = |word: &&Word| self.set.is_subset(&word.accepts);
        let mut words: Vec<&Word> = self.words.iter().filter(wider).collect();
        words.sort_by_key(|word| word.accepts.count_ones(..));
        let named = words.into_iter().take(TRIED);
        let phrases = named
            .map(|word| (vec![word.text.clone()], minus(&word.accepts, self.set)))
            .chain([(Vec::new(), self.without.clone())]);
        phrases
            .filter_map(|(is, excepted)| {
                let except = self.cover(excepted)?;
                Some(Phrase { is, except })
            })
            .min_by_key(Phrase::length)
    }

    /// The phrase that tells most for its length.
    fn best(&self, left: &FixedBitSet) -> Option<(Phrase, FixedBitSet)> {
        let anything = Word {
            text: String::new(),
            accepts: full(self.size),
        };
        let mut whole: Option<(usize, &Word)> = None;
        let mut partly: Vec<(usize, &Word)> = Vec::new();
        for word in self.words.iter().chain([&anything]) {
            let gain = common(&word.accepts, left);
            if gain == 0 {
                continue;
            }
            if common(&word.accepts, &self.without) > 0 {
                partly.push((gain, word));
            } else if whole.is_none_or(|(most, _)| gain > most) {
                whole = Some((gain, word));
            }
        }
        partly.sort_by_key(|(gain, _)| std::cmp::Reverse(*gain));
        // Compared by gain per word.
        let mut best = whole.map(|(gain, word)| (gain, 1, word, Vec::new()));
        for (gain, word) in partly.into_iter().take(TRIED) {
            if let Some((most, length, ..)) = &best
                && gain * length <= *most
            {
                break;
            }
            let mut excepted = word.accepts.clone();
            excepted.intersect_with(&self.without);
            let Some(except) = self.cover(excepted) else {
                continue;
            };
            // An exception is harder to read than another word.
            let new = 2 + except.len();
            if best
                .as_ref()
                .is_none_or(|(most, length, ..)| gain * length > most * new)
            {
                best = Some((gain, new, word, except));
            }
        }
        let (_, _, word, except) = best?;
        let mut told = word.accepts.clone();
        told.intersect_with(self.set);
        let is = if word.text.is_empty() {
            Vec::new()
        } else {
            vec![word.text.clone()]
        };
        Some((Phrase { is, except }, told))
    }

    /// Words that accept all of these values and none that is to be told.
    fn cover(&self, mut values: FixedBitSet) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        while !values.is_clear() {
            if texts.len() == MOST_EXCEPTIONS {
                return None;
            }
            let usable = self
                .words
                .iter()
                .filter(|word| common(&word.accepts, self.set) == 0);
            let (gain, word) = usable
                .map(|word| (common(&word.accepts, &values), word))
                .max_by_key(|(gain, _)| *gain)?;
            if gain == 0 {
                return None;
            }
            values.difference_with(&word.accepts);
            texts.push(word.text.clone());
        }
        texts.sort();
        Some(texts)
    }

    /// One class: by the smallest of the words that accept it, but for those that do not.
    fn exactly(&self, value: Value) -> (Phrase, FixedBitSet) {
        let (accepting, other): (Vec<&Word>, Vec<&Word>) = self
            .words
            .iter()
            .partition(|word| word.accepts.contains(value));
        let mut told = full(self.size);
        let mut is = Vec::new();
        let mut accepting = accepting;
        accepting.sort_by_key(|word| word.accepts.count_ones(..));
        for word in accepting {
            if !told.is_subset(&word.accepts) {
                told.intersect_with(&word.accepts);
                is.push(word.text.clone());
            }
        }
        let mut except = Vec::new();
        let mut other = other;
        other.sort_by_key(|word| std::cmp::Reverse(common(&word.accepts, &told)));
        for word in other {
            if common(&word.accepts, &told) > 0 {
                told.difference_with(&word.accepts);
                except.push(word.text.clone());
            }
        }
        except.sort();
        (Phrase { is, except }, told)
    }
}

fn full(size: usize) -> FixedBitSet {
    let mut all = FixedBitSet::with_capacity(size);
    all.insert_range(..);
    all
}

fn minus(a: &FixedBitSet, b: &FixedBitSet) -> FixedBitSet {
    let mut left = a.clone();
    left.difference_with(b);
    left
}

fn common(a: &FixedBitSet, b: &FixedBitSet) -> usize {
    a.intersection_count(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dimension(words: &[(&str, &[Value])], size: usize) -> Vec<Word> {
        let word = |(text, values): &(&str, &[Value])| {
            let mut accepts = FixedBitSet::with_capacity(size);
            values.iter().for_each(|value| accepts.insert(*value));
            Word {
                text: (*text).to_owned(),
                accepts,
            }
        };
        words.iter().map(word).collect()
    }

    fn told(words: &[Word], size: usize, values: &[Value]) -> Vec<String> {
        let mut set = FixedBitSet::with_capacity(size);
        values.iter().for_each(|value| set.insert(*value));
        tell(words, size, &set)
            .iter()
            .map(|phrase| format!("{}-{}", phrase.is.join("&"), phrase.except.join(",")))
            .collect()
    }

    #[test]
    fn sets_are_told_in_the_words_of_the_policy() {
        // 0 other, 1 shop/other, 2 shop/web, 3 shop/orders, 4 test/web
        let words = dimension(
            &[
                ("shop/*", &[1, 2, 3]),
                ("shop/web", &[2]),
                ("shop/orders", &[3]),
                ("*/web", &[2, 4]),
            ],
            5,
        );
        let told = |values: &[Value]| told(&words, 5, values);
        assert!(told(&[0, 1, 2, 3, 4]).is_empty());
        assert_eq!(told(&[1, 2, 3]), ["shop/*-"]);
        assert_eq!(told(&[2, 3]), ["shop/web-", "shop/orders-"]);
        assert_eq!(told(&[1, 2]), ["shop/*-shop/orders"]);
        assert_eq!(told(&[0, 4]), ["-shop/*"]);
        assert_eq!(told(&[4]), ["*/web-shop/web"]);
    }

    #[test]
    fn a_class_without_a_word_of_its_own_is_where_others_meet() {
        let words = dimension(&[("/a/*", &[1, 2]), ("/*/b", &[2, 3])], 4);
        assert_eq!(
            told(&words, 4, &[2]),
            ["/*/b&/a/*-"].map(|_| told(&words, 4, &[2]).remove(0))
        );
        let phrase = tell(&words, 4, &[2].into_iter().collect()).remove(0);
        assert_eq!(phrase.is.len(), 2);
    }

    proptest! {
        #[test]
        fn phrases_tell_the_set_and_nothing_else(
            words in prop::collection::vec(prop::collection::btree_set(0..6_usize, 1..5), 0..6),
            set in prop::collection::btree_set(0..6_usize, 0..6),
        ) {
            let signature = |value: usize| -> Vec<usize> {
                let numbered = words.iter().enumerate();
                numbered.filter(|(_, w)| w.contains(&value)).map(|(number, _)| number).collect()
            };
            let names = (0..words.len()).map(|n| n.to_string()).collect();
            let dimension = Dimension::new(names, (0..6).map(|value| (signature(value), value)));
            let mut wanted = dimension.none();
            for value in set {
                wanted.insert(dimension.value(&signature(value)).unwrap());
            }
            let phrases = dimension.tell(&wanted);
            let mut told = dimension.none();
            for phrase in &phrases {
                let mut values = dimension.all();
                for word in &phrase.is {
                    values.intersect_with(&dimension.accepted(word.parse().unwrap()));
                }
                for word in &phrase.except {
                    values.difference_with(&dimension.accepted(word.parse().unwrap()));
                }
                told.union_with(&values);
            }
            if phrases.is_empty() && wanted.count_ones(..) > 0 {
                told = dimension.all();
            }
            prop_assert_eq!(told, wanted);
        }
    }
}
