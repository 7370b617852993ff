//! The dimensions of calls, each with the classes that the policies tell apart.

mod texts;

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

use super::diagram::Value;
use super::sequence::Signature;
use super::words::Dimension;
use crate::pattern::{Cidr, HostPattern};

pub(super) use texts::{Paths, Peers, Requesters, paths, peers, requesters};

/// Words of one dimension, each once.
#[derive(Debug)]
pub(super) struct Vocabulary<K> {
    numbers: HashMap<K, usize>,
    keys: Vec<K>,
    texts: Vec<String>,
}

impl<K> Default for Vocabulary<K> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            keys: Vec::new(),
            texts: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Vocabulary<K> {
    /// Adds what a policy says, if it is new; of two texts for the same, the first is kept.
    pub(super) fn add(&mut self, key: K, text: impl FnOnce() -> String) {
        if !self.numbers.contains_key(&key) {
            self.numbers.insert(key.clone(), self.keys.len());
            self.keys.push(key);
            self.texts.push(text());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.keys.iter()
    }

    fn matching(&self, matches: impl Fn(&K) -> bool) -> Signature {
        let numbered = self.keys.iter().enumerate();
        numbered
            .filter(|(_, key)| matches(key))
            .map(|(number, _)| number)
            .collect()
    }
}

/// A dimension by what policies say of it.
#[derive(Debug)]
pub(super) struct Named<K, T> {
    pub(super) dimension: Dimension<T>,
    numbers: HashMap<K, usize>,
    keys: Vec<K>,
    /// The value of what is not known, if it can be so.
    pub(super) unknown: Option<Value>,
}

impl<K: Eq + Hash, T> Named<K, T> {
    /// `unknown` is the example of what is not known, and how that is told.
    fn new(
        vocabulary: Vocabulary<K>,
        classes: impl IntoIterator<Item = (Signature, T)>,
        unknown: Option<(T, &str)>,
    ) -> Self {
        let Vocabulary {
            numbers,
            keys,
            mut texts,
        } = vocabulary;
        let number = texts.len();
        let unknown = unknown.map(|(example, text)| {
            texts.push(text.to_owned());
            (vec![number], example)
        });
        let is_known = unknown.is_none();
        let dimension = Dimension::new(texts, classes.into_iter().chain(unknown));
        let unknown = if is_known {
            None
        } else {
            dimension.value(&[number])
        };
        Self {
            dimension,
            numbers,
            keys,
            unknown,
        }
    }

    /// The number of a word; what the policies do not say has none.
    pub(super) fn word(&self, key: &K) -> Option<usize> {
        self.numbers.get(key).copied()
    }

    /// The value of something that is known, by asking every word.
    pub(super) fn place(&self, matches: impl Fn(&K) -> bool) -> Option<Value> {
        let numbered = self.keys.iter().enumerate();
        let signature: Signature = numbered
            .filter(|(_, key)| matches(key))
            .map(|(number, _)| number)
            .collect();
        self.dimension.value(&signature)
    }
}

/// A name that nobody uses.
pub(super) fn fresh(wish: &str, used: &BTreeSet<&str>) -> String {
    let mut name = wish.to_owned();
    let mut number = 2_u32;
    while used.contains(name.as_str()) {
        name = format!("{wish}-{number}");
        number = number.saturating_add(1);
    }
    name
}

/// Hosts of requests, or server names. Not known is what is none.
pub(super) type Hosts = Named<HostPattern, Option<String>>;

/// The classes of hosts: of two with the same longest suffix, only one that is named itself differs. Without a word all
/// are one.
pub(super) fn hosts(words: Vocabulary<HostPattern>, unknown: &str) -> Hosts {
    if words.is_empty() {
        let any = [(Vec::new(), Some("other.example".to_owned()))];
        return Named::new(words, any, None);
    }
    let texts: Vec<String> = words.keys.iter().map(ToString::to_string).collect();
    let named: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
    let label = fresh_label(&named);
    let exact = texts.iter().filter(|text| !text.starts_with("*.")).cloned();
    let below = texts
        .iter()
        .filter_map(|text| text.strip_prefix("*."))
        .map(|suffix| format!("{label}.{suffix}"));
    let other = [
        format!("{label}.example"),
        format!("{label}.invalid"),
        label.clone(),
    ];
    let reps: Vec<String> = exact.chain(below).chain(other).collect();
    let classes: Vec<(Signature, Option<String>)> = reps
        .into_iter()
        .map(|host| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let signature = words.matching(|pattern| pattern.matches(bare));
            (signature, Some(host))
        })
        .collect();
    Named::new(words, classes, Some((None, unknown)))
}

/// A label that no host begins with.
fn fresh_label(hosts: &BTreeSet<&str>) -> String {
    let first: BTreeSet<&str> = hosts
        .iter()
        .filter_map(|host| host.split('.').next())
        .collect();
    fresh("other", &first)
}

/// Addresses. Not known is that of a call that says none.
pub(super) type Addresses = Named<Cidr, Option<IpAddr>>;

/// The classes of addresses. Without a word all are one.
pub(super) fn addresses(words: Vocabulary<Cidr>) -> Addresses {
    let usual = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    if words.is_empty() {
        return Named::new(words, [(Vec::new(), Some(usual))], None);
    }
    // What a range has besides the ranges within begins where it begins, or behind one of these.
    let ends = words.keys.iter().filter_map(|range| range.next_after());
    let starts = words.keys.iter().map(|range| range.first());
    let none = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    ];
    let candidates: BTreeSet<IpAddr> = starts.chain(ends).chain(none).collect();
    let classes: Vec<(Signature, Option<IpAddr>)> = std::iter::once(usual)
        .chain(candidates)
        .map(|address| {
            (
                words.matching(|range| range.contains(address)),
                Some(address),
            )
        })
        .collect();
    Named::new(words, classes, Some((None, "an unknown address")))
}

/// Ports.
pub(super) type Ports = Named<u16, u16>;

pub(super) fn ports(words: Vocabulary<u16>) -> Ports {
    let other = std::iter::once(8080)
        .chain(1..)
        .find(|port| !words.numbers.contains_key(port))
        .unwrap_or_default();
    let named: Vec<(Signature, u16)> = words
        .keys
        .iter()
        .enumerate()
        .map(|(number, port)| (vec![number], *port))
        .collect();
    Named::new(
        words,
        std::iter::once((Vec::new(), other)).chain(named),
        None,
    )
}

/// Methods; `None` is no HTTP at all.
pub(super) type Methods = Named<String, Option<String>>;

pub(super) fn methods(words: Vocabulary<String>) -> Methods {
    const USUAL: [&str; 9] = [
        "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "OTHER",
    ];
    let free = |method: &&str| !words.numbers.contains_key(*method);
    let other = match USUAL.into_iter().find(free) {
        Some(method) => method.to_owned(),
        None => fresh("OTHER", &words.keys.iter().map(String::as_str).collect()),
    };
    let named: Vec<(Signature, Option<String>)> = words
        .keys
        .iter()
        .enumerate()
        .map(|(number, method)| (vec![number], Some(method.clone())))
        .collect();
    let classes = std::iter::once((Vec::new(), Some(other))).chain(named);
    Named::new(
        words,
        classes,
        Some((None, "connections that are not HTTP")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_by_every_range_and_what_it_has_besides() {
        let mut words = Vocabulary::default();
        for text in [
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.128.0.0/9",
            "0.0.0.0/1",
            "2001:db8::/32",
        ] {
            let range: Cidr = text.parse().unwrap();
            words.add(range, || text.to_owned());
        }
        let addresses = addresses(words);
        let found: Vec<String> = addresses
            .dimension
            .examples
            .iter()
            .map(|address| address.map_or("?".to_owned(), |address| address.to_string()))
            .collect();
        // 10.0.0.0/8 has nothing besides its two halves.
        assert_eq!(
            found,
            [
                "192.0.2.1",
                "0.0.0.0",
                "10.0.0.0",
                "10.128.0.0",
                "2001:db8::",
                "?"
            ]
        );
    }

    #[test]
    fn hosts_are_told_apart_by_their_longest_suffix() {
        let mut words = Vocabulary::default();
        for text in ["orders.shop", "*.shop", "*.eu.shop", "[::1]"] {
            words.add(text.parse().unwrap(), || text.to_owned());
        }
        let hosts = hosts(words, "?");
        assert_eq!(hosts.dimension.size(), 6);
        let place = |host: &str| hosts.place(|pattern: &HostPattern| pattern.matches(host));
        assert_eq!(place("x.shop"), place("y.z.shop"));
        assert_ne!(place("x.shop"), place("orders.shop"));
        assert_ne!(place("x.shop"), place("x.eu.shop"));
        assert!(place("::1").is_some() && place("elsewhere").is_some());
    }
}
