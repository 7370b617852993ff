//! Dimensions whose values are texts of segments: SPIFFE IDs and paths.

use std::collections::BTreeSet;

use countersign_identity::{SpiffeId, TrustDomain};

use super::{Named, Vocabulary, fresh};
use crate::analysis::diagram::TooLarge;
use crate::analysis::sequence::{Example, Segment, Sequence, Signature, Texts, Wanted, classes};
use crate::analysis::sequences::{any_identity, of_domain};

/// How many kinds of paths or of SPIFFE IDs are told apart.
const MOST_TEXTS: usize = 200_000;

/// Who calls.
pub(in crate::analysis) type Peers = Named<Sequence, Option<SpiffeId>>;

/// The classes of SPIFFE IDs, and that of callers without one.
pub(in crate::analysis) fn peers(
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
pub(in crate::analysis) type Paths = Named<Sequence, Option<String>>;

/// The classes of paths. Without a word all are one.
pub(in crate::analysis) fn paths(words: Vocabulary<Sequence>) -> Result<Paths, TooLarge> {
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

/// Who asked for a transaction token; not known is a call without one.
pub(in crate::analysis) type Requesters = Named<Sequence, Option<SpiffeId>>;

pub(in crate::analysis) fn requesters(words: Vocabulary<Sequence>) -> Result<Requesters, TooLarge> {
    let sequences = words.keys.clone();
    let texts = Texts {
        empty_end: false,
        most: MOST_TEXTS,
    };
    let found: std::collections::BTreeMap<Signature, Vec<Example<'_>>> =
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
    use crate::analysis::sequences::path_sequence;
    use crate::pattern::PathPattern;

    #[test]
    fn an_example_of_a_path_is_sent_as_it_is_read() {
        let mut words = Vocabulary::default();
        for text in ["/a%20b/{id}", "/ä/**", "/", "/a%20b/other"] {
            let pattern: PathPattern = text.parse().unwrap();
            words.add(path_sequence(&pattern), || text.to_owned());
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
