//! Header fields as JSON: a mapping of names to values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::Headers;

/// The header lines of a request, in their order.
///
/// As JSON, a mapping of a name to its value, or to a list of the values of several lines.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderLines<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl HeaderLines<'_> {
    /// Whether there is no header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Cow<'a, str>)> for HeaderLines<'a> {
    fn from_iter<I: IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>>(lines: I) -> Self {
        Self(lines.into_iter().collect())
    }
}

/// Without the values: they carry secrets.
impl fmt::Debug for HeaderLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Headers for HeaderLines<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in &self.0 {
            visit(name, value.as_bytes());
        }
    }
}

impl Serialize for HeaderLines<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        let mut written: Vec<&str> = Vec::new();
        for (name, value) in &self.0 {
            if written.contains(&name.as_ref()) {
                continue;
            }
            written.push(name);
            let lines: Vec<&str> = self
                .0
                .iter()
                .filter(|(other, _)| other == name)
                .map(|(_, value)| value.as_ref())
                .collect();
            if lines.len() == 1 {
                map.serialize_entry(name, value)?;
            } else {
                map.serialize_entry(name, &lines)?;
            }
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for HeaderLines<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Lines;

        impl<'de> Visitor<'de> for Lines {
            type Value = HeaderLines<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of header names to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut lines = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    match map.next_value()? {
                        OneOrMany::One(value) => lines.push((name, value)),
                        OneOrMany::Many(values) => {
                            lines.extend(values.into_iter().map(|value| (name.clone(), value)));
                        }
                    }
                }
                Ok(HeaderLines(lines))
            }
        }

        from.deserialize_map(Lines)
    }
}

enum OneOrMany<'a> {
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for OneOrMany<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrList)
    }
}

struct TextOrList;

impl<'de> Visitor<'de> for TextOrList {
    type Value = OneOrMany<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Text(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(OneOrMany::Many(values))
    }
}
