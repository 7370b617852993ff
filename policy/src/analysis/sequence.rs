//! All texts that consist of segments, such as paths and SPIFFE IDs, by which of some patterns they match.
//!
//! The patterns are followed side by side, segment by segment. A segment that no pattern names stands for all
//! such segments, so that there are finitely many ways to go.

use std::collections::BTreeMap;

/// A pattern of segments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sequence {
    pub(super) segments: Vec<Wanted>,
    /// Whether any segments may follow.
    pub(super) rest: bool,
}

/// What a pattern wants of one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Wanted {
    /// This.
    Is(Box<str>),
    /// Anything but nothing.
    One,
}

impl Wanted {
    pub(super) fn is(text: &str) -> Self {
        Self::Is(text.into())
    }
}

/// A segment of an [`Example`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Segment<'a> {
    /// One that a pattern names.
    Named(&'a str),
    /// Any that none names.
    Other,
    /// Nothing, as behind the `/` at the end of a path.
    Empty,
}

/// Texts that all match the same patterns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Example<'a> {
    pub(super) segments: Vec<Segment<'a>>,
    /// Whether at least one more segment follows, whatever it is.
    pub(super) more: bool,
}

/// The patterns that a text matches, by number.
pub(super) type Signature = Vec<usize>;

/// Which texts there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts {
    /// Whether the last segment may be empty.
    pub(super) empty_end: bool,
    pub(super) most: usize,
}

/// More than [`Texts::most`] ways to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Every signature that a text can have, with all kinds of texts that have it.
pub(super) fn classes(
    patterns: &[Sequence],
    texts: Texts,
) -> Result<BTreeMap<Signature, Vec<Example<'_>>>, TooMany> {
    let mut walk = Walk {
        patterns,
        texts,
        found: BTreeMap::new(),
        count: 0,
    };
    let everything: Vec<usize> = (0..patterns.len()).collect();
    walk.from(&everything, &[], &mut Vec::new())?;
    Ok(walk.found)
}

struct Walk<'a> {
    patterns: &'a [Sequence],
    texts: Texts,
    found: BTreeMap<Signature, Vec<Example<'a>>>,
    count: usize,
}

impl<'a> Walk<'a> {
    /// Goes on from the segments so far. `open` patterns match them and may want more, `matched` ones accept
    /// whatever follows.
    fn from(
        &mut self,
        open: &[usize],
        matched: &[usize],
        so_far: &mut Vec<Segment<'a>>,
    ) -> Result<(), TooMany> {
        let depth = so_far.len();
        let mut matched = matched.to_vec();
        let mut ended = Vec::new();
        let mut going: Vec<(usize, &'a Wanted)> = Vec::new();
        for number in open {
            let Some(pattern) = self.patterns.get(*number) else {
                continue;
            };
            match pattern.segments.get(depth) {
                Some(wanted) => going.push((*number, wanted)),
                None if pattern.rest => matched.push(*number),
                None => ended.push(*number),
            }
        }
        if depth > 0 {
            self.add(ended.iter().chain(&matched), so_far, false)?;
        }
        if so_far.last() == Some(&Segment::Empty) {
            return Ok(());
        }
        if going.is_empty() {
            return self.add(matched.iter(), so_far, true);
        }
        let mut names: Vec<&'a str> = going
            .iter()
            .filter_map(|(_, wanted)| match wanted {
                Wanted::Is(name) if !name.is_empty() => Some(&**name),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let empty = self.texts.empty_end.then_some(Segment::Empty);
        let named = names.into_iter().map(Segment::Named);
        for segment in named.chain([Segment::Other]).chain(empty) {
            let accepts = |wanted: &Wanted| match (wanted, segment) {
                (Wanted::Is(name), Segment::Named(given)) => **name == *given,
                (Wanted::Is(name), Segment::Empty) => name.is_empty(),
                (Wanted::Is(_), Segment::Other) | (Wanted::One, Segment::Empty) => false,
                (Wanted::One, _) => true,
            };
            let open: Vec<usize> = going
                .iter()
                .filter(|(_, wanted)| accepts(wanted))
                .map(|(number, _)| *number)
                .collect();
            so_far.push(segment);
            self.from(&open, &matched, so_far)?;
            so_far.pop();
        }
        Ok(())
    }

    fn add<'n>(
        &mut self,
        signature: impl Iterator<Item = &'n usize>,
        so_far: &[Segment<'a>],
        more: bool,
    ) -> Result<(), TooMany> {
        self.count = self.count.saturating_add(1);
        if self.count > self.texts.most {
            return Err(TooMany);
        }
        let mut signature: Signature = signature.copied().collect();
        signature.sort_unstable();
        self.found.entry(signature).or_default().push(Example {
            segments: so_far.to_vec(),
            more,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequence(text: &str) -> Sequence {
        let mut segments: Vec<&str> = text.split('/').collect();
        let rest = segments.last() == Some(&"**");
        if rest {
            segments.pop();
        }
        let wanted = |segment: &&str| match *segment {
            "*" => Wanted::One,
            name => Wanted::is(name),
        };
        Sequence {
            segments: segments.iter().map(wanted).collect(),
            rest,
        }
    }

    fn matches(pattern: &Sequence, text: &[&str]) -> bool {
        let accepts = |(wanted, given): (&Wanted, &&str)| match wanted {
            Wanted::Is(name) => **name == **given,
            Wanted::One => !given.is_empty(),
        };
        let wanted = pattern.segments.len();
        (text.len() == wanted || pattern.rest && text.len() >= wanted)
            && pattern.segments.iter().zip(text).all(accepts)
    }

    fn texts() -> impl Strategy<Value = Vec<&'static str>> {
        let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "x"]), 1..5);
        (segments, any::<bool>()).prop_map(|(mut segments, slash)| {
            if slash {
                segments.push("");
            }
            segments
        })
    }

    proptest! {
        #[test]
        fn every_text_is_in_a_class_and_every_example_matches_what_its_class_does(
            patterns in prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 0..4),
                0..5,
            ),
            rests in prop::collection::vec(any::<bool>(), 5),
            text in texts(),
        ) {
            let patterns: Vec<Sequence> = patterns
                .iter()
                .zip(rests)
                .map(|(segments, rest)| {
                    let mut pattern = sequence(&segments.join("/"));
                    if segments.is_empty() {
                        pattern.segments = vec![Wanted::is("")];
                    }
                    Sequence { rest, ..pattern }
                })
                .collect();
            let found = classes(&patterns, Texts { empty_end: true, most: 10_000 }).unwrap();
            let signature_of = |text: &[&str]| -> Signature {
                let numbered = patterns.iter().enumerate();
                numbered.filter(|(_, p)| matches(p, text)).map(|(number, _)| number).collect()
            };
            prop_assert!(found.contains_key(&signature_of(&text)), "{:?} {:?}", text, found);
            for (signature, examples) in &found {
                for example in examples {
                    let mut text: Vec<&str> = example
                        .segments
                        .iter()
                        .map(|segment| match segment {
                            Segment::Named(name) => *name,
                            Segment::Other => "other",
                            Segment::Empty => "",
                        })
                        .collect();
                    if example.more {
                        text.push("b");
                        prop_assert_eq!(&signature_of(&text), signature);
                        text.push("");
                    }
                    prop_assert_eq!(&signature_of(&text), signature);
                }
            }
        }
    }

    #[test]
    fn too_many_ways_are_told() {
        let patterns: Vec<Sequence> = (0..20).map(|n| sequence(&format!("a{n}/*/b{n}"))).collect();
        let texts = Texts {
            empty_end: true,
            most: 50,
        };
        assert_eq!(classes(&patterns, texts), Err(TooMany));
    }
}
