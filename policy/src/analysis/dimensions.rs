//! The dimensions of calls, each with the classes that the policies tell apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

use countersign_identity::{SpiffeId, TrustDomain};

use super::diagram::{TooLarge, Value};
use super::sequence::{Example, Segment, Sequence, Signature, Texts, Wanted, classes};
use super::words::Dimension;
use crate::pattern::{Cidr, HostPattern};

/// How many kinds of paths or of SPIFFE IDs are told apart.
const MOST_TEXTS: usize = 200_000;

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

/// Who calls.
pub(super) type Peers = Named<Sequence, Option<SpiffeId>>;

/// The SPIFFE ID as segments.
fn id_segments(id: &SpiffeId) -> Vec<&str> {
    let path = id.path().split('/').skip(1);
    std::iter::once(id.trust_domain().as_str())
        .chain(path)
        .collect()
}

/// Every identity.
pub(super) fn any_identity() -> Sequence {
    Sequence {
        segments: vec![Wanted::One],
        rest: true,
    }
}

/// Every identity of a trust domain.
pub(super) fn of_domain(domain: &TrustDomain) -> Sequence {
    Sequence {
        segments: vec![Wanted::is(domain.as_str())],
        rest: true,
    }
}

/// Whether a SPIFFE ID is one of those.
pub(super) fn id_matches(sequence: &Sequence, id: &SpiffeId) -> bool {
    let given = id_segments(id);
    let wanted = sequence.segments.len();
    let accepts = |(wanted, given): (&Wanted, &&str)| match wanted {
        Wanted::Is(name) => **name == **given,
        Wanted::One => true,
    };
    (given.len() == wanted || sequence.rest && given.len() > wanted)
        && sequence.segments.iter().zip(&given).all(accepts)
}

/// The classes of SPIFFE IDs, and that of callers without one.
pub(super) fn peers(
    mut words: Vocabulary<Sequence>,
    local: &TrustDomain,
) -> Result<Peers, TooLarge> {
    words.add(any_identity(), || "anyone with an identity".to_owned());
    words.add(of_domain(local), || format!("anyone of {local}"));
    let sequences = words.keys.clone();
    let texts = Texts {
        empty_end: false,
        most: MOST_TEXTS,
    };
    let found = classes(&sequences, texts).map_err(|_| TooLarge)?;
    let fresh = fresh("other", &names(&sequences));
    let mut classes: Vec<(Signature, Option<SpiffeId>)> = found
        .into_iter()
        .filter_map(|(signature, examples)| Some((signature, Some(example_id(&examples, &fresh)?))))
        .collect();
    // The most usual caller is the one that the diagrams do not list.
    let local_only = words.matching(|key| *key == any_identity() || *key == of_domain(local));
    classes.sort_by_key(|(signature, _)| *signature != local_only);
    Ok(Named::new(
        words,
        classes,
        Some((None, "anonymous callers")),
    ))
}

/// One of the IDs that the examples stand for; rather one of a workload.
fn example_id(examples: &[Example<'_>], fresh: &str) -> Option<SpiffeId> {
    let ids = examples.iter().filter_map(|example| {
        let mut segments: Vec<&str> = example
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Named(name) => name,
                Segment::Other | Segment::Empty => fresh,
            })
            .collect();
        if example.more {
            let workload = [fresh, "ns", fresh, "sa", fresh];
            let left = workload
                .get(segments.len()..)
                .filter(|left| !left.is_empty());
            segments.extend(left.unwrap_or(&[fresh]));
        }
        let mut segments = segments.into_iter();
        let domain = segments.next()?;
        let path: String = segments.map(|segment| format!("/{segment}")).collect();
        format!("spiffe://{domain}{path}").parse::<SpiffeId>().ok()
    });
    ids.min_by_key(|id| (id.workload().is_none(), id.as_str().len()))
}

/// Paths. Not known is that of no HTTP request, and one that cannot be read.
pub(super) type Paths = Named<Sequence, Option<String>>;

/// Whether a path, as it is read, is one of those.
pub(super) fn path_matches(sequence: &Sequence, path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let mut given = path.split('/');
    for wanted in &sequence.segments {
        let Some(segment) = given.next() else {
            return false;
        };
        let accepted = match wanted {
            Wanted::Is(name) => **name == *segment,
            Wanted::One => !segment.is_empty(),
        };
        if !accepted {
            return false;
        }
    }
    sequence.rest || given.next().is_none()
}

/// The classes of paths. Without a word all are one.
pub(super) fn paths(words: Vocabulary<Sequence>) -> Result<Paths, TooLarge> {
    if words.is_empty() {
        return Ok(Named::new(
            words,
            [(Vec::new(), Some("/".to_owned()))],
            None,
        ));
    }
    let sequences = words.keys.clone();
    let texts = Texts {
        empty_end: true,
        most: MOST_TEXTS,
    };
    let found = classes(&sequences, texts).map_err(|_| TooLarge)?;
    let fresh = fresh("other", &names(&sequences));
    let classes = found.into_iter().filter_map(|(signature, examples)| {
        Some((signature, Some(example_path(&examples, &fresh)?)))
    });
    let classes: Vec<_> = classes.collect();
    Ok(Named::new(
        words,
        classes,
        Some((None, "a path that cannot be read")),
    ))
}

/// The shortest of the paths that the examples stand for, as it is sent.
fn example_path(examples: &[Example<'_>], fresh: &str) -> Option<String> {
    let paths = examples.iter().map(|example| {
        let mut path = String::new();
        for segment in &example.segments {
            path.push('/');
            match segment {
                Segment::Named(name) => encode(&mut path, name),
                Segment::Other => path.push_str(fresh),
                Segment::Empty => {}
            }
        }
        if example.more {
            path.push('/');
            path.push_str(fresh);
        }
        path
    });
    paths.min_by_key(|path| (path.matches('/').count(), path.len()))
}

/// Percent-encodes what a path does not have as it is (RFC 3986 §3.3). A `%` in a literal is already one of an
/// escape.
fn encode(path: &mut String, segment: &str) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@%".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn names(sequences: &[Sequence]) -> BTreeSet<&str> {
    let wanted = sequences.iter().flat_map(|sequence| &sequence.segments);
    wanted
        .filter_map(|wanted| match wanted {
            Wanted::Is(name) => Some(&**name),
            Wanted::One => None,
        })
        .collect()
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

/// Who asked for a transaction token; not known is a call without one.
pub(super) type Requesters = Named<Sequence, Option<SpiffeId>>;

pub(super) fn requesters(words: Vocabulary<Sequence>) -> Result<Requesters, TooLarge> {
    let sequences = words.keys.clone();
    let texts = Texts {
        empty_end: false,
        most: MOST_TEXTS,
    };
    let found: BTreeMap<Signature, Vec<Example<'_>>> =
        classes(&sequences, texts).map_err(|_| TooLarge)?;
    let fresh = fresh("other", &names(&sequences));
    let classes: Vec<(Signature, Option<SpiffeId>)> = found
        .into_iter()
        .filter_map(|(signature, examples)| Some((signature, Some(example_id(&examples, &fresh)?))))
        .collect();
    Ok(Named::new(words, classes, Some((None, "nobody"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::PathPattern;

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

    #[test]
    fn an_example_of_a_path_is_sent_as_it_is_read() {
        let mut words = Vocabulary::default();
        for text in ["/a%20b/{id}", "/ä/**", "/", "/a%20b/other"] {
            let pattern: PathPattern = text.parse().unwrap();
            words.add(super::super::encode::path_sequence(&pattern), || {
                text.to_owned()
            });
        }
        let paths = paths(words).unwrap();
        let found: Vec<&str> = paths
            .dimension
            .examples
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        for path in ["/a%20b/other-2", "/%C3%A4", "/", "/a%20b/other"] {
            assert!(found.contains(&path), "{path} {found:?}");
        }
    }
}
