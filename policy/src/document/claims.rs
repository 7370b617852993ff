//! Claims that a rule asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pattern::ClaimValue;

/// Dotted path of a claim → accepted values, in the order of the paths.
///
/// A map in the space that its entries need: a rule mostly has one, and there may be a rule for every team of a company.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(Box<[Pair]>);

impl Claims {
    /// No claim.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The accepted values of a claim.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Vec<ClaimValue>> {
        self.iter()
            .find(|(given, _)| *given == path)
            .map(|(_, accepted)| accepted)
    }

    /// Every claim and its accepted values.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(path, accepted)| (path, accepted))
    }

    /// Whether a claim is there.
    #[must_use]
    pub fn contains_key(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// The accepted values of every claim.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Vec<ClaimValue>> {
        self.0.iter().map(|(_, accepted)| accepted)
    }

    /// Every claim.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> {
        self.0.iter().map(|(path, _)| path)
    }
}

type Pair = (String, Vec<ClaimValue>);
type Iter<'a> =
    std::iter::Map<std::slice::Iter<'a, Pair>, fn(&'a Pair) -> (&'a String, &'a Vec<ClaimValue>)>;

impl<'a> IntoIterator for &'a Claims {
    type Item = (&'a String, &'a Vec<ClaimValue>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl From<BTreeMap<String, Vec<ClaimValue>>> for Claims {
    fn from(claims: BTreeMap<String, Vec<ClaimValue>>) -> Self {
        Self(claims.into_iter().collect())
    }
}

/// Of claims with the same path, the last counts.
impl FromIterator<Pair> for Claims {
    fn from_iter<I: IntoIterator<Item = Pair>>(claims: I) -> Self {
        BTreeMap::from_iter(claims).into()
    }
}

impl<const N: usize> From<[Pair; N]> for Claims {
    fn from(claims: [Pair; N]) -> Self {
        claims.into_iter().collect()
    }
}

impl IntoIterator for Claims {
    type Item = Pair;
    type IntoIter = std::vec::IntoIter<Pair>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

/// A claim that is there already gets the other values.
impl Extend<Pair> for Claims {
    fn extend<I: IntoIterator<Item = Pair>>(&mut self, claims: I) {
        *self = std::mem::take(self).into_iter().chain(claims).collect();
    }
}

/// As a map.
impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_a_map() {
        let one = |value: i64| vec![ClaimValue::Integer(value)];
        let mut claims = Claims::from(
            [("b", 1), ("a", 2), ("b", 1)].map(|(path, value)| (path.to_owned(), one(value))),
        );
        claims.extend([("b".to_owned(), one(3))]);
        assert_eq!(claims.len(), 2);
        assert_eq!(claims.get("b"), Some(&one(3)));
        assert_eq!(claims.get("c"), None);
        assert_eq!(claims.keys().collect::<Vec<_>>(), ["a", "b"]);
        let json = serde_json::to_string(&claims).unwrap();
        assert_eq!(json, r#"{"a":[2],"b":[3]}"#);
        assert_eq!(serde_json::from_str::<Claims>(&json).unwrap(), claims);
        assert!(Claims::new().is_empty());
    }
}
