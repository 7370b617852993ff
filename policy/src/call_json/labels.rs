//! Labels as JSON: a mapping of names to values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::text::Text;

/// The labels of a workload, by name; a name is given once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Labels<'_> {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, owned.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let owned = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| {
            (name.clone().into_owned(), value.clone().into_owned())
        };
        self.0.iter().map(owned).collect()
    }

    /// Whether they are the same as these.
    #[must_use]
    pub fn are(&self, labels: &BTreeMap<String, String>) -> bool {
        // Names are unique in both.
        self.0.len() == labels.len()
            && self.0.iter().all(|(name, value)| {
                labels
                    .get(name.as_ref())
                    .is_some_and(|other| other == value)
            })
    }
}

impl<'a> From<BTreeMap<String, String>> for Labels<'a> {
    fn from(labels: BTreeMap<String, String>) -> Self {
        let owned = |(name, value)| (Cow::Owned(name), Cow::Owned(value));
        Self(labels.into_iter().map(owned).collect())
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of labels to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                pairs.sort();
                let twice = |pair: &[(Cow<'_, str>, Cow<'_, str>)]| match pair {
                    [(one, _), (other, _)] => one == other,
                    _ => false,
                };
                if let Some([(name, _), ..]) = pairs.windows(2).find(|pair| twice(pair)) {
                    return Err(A::Error::custom(format_args!(
                        "the label {name:?} is given twice"
                    )));
                }
                Ok(Labels(pairs))
            }
        }

        from.deserialize_map(Pairs)
    }
}
