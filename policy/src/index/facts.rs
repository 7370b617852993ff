//! The facts of a call as the symbols under which rules stand.

use std::hash::{BuildHasher, Hash, Hasher};

use countersign_identity::SpiffeId;
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::tree::Symbol;
use crate::pattern::{HostPattern, Method};
use crate::rule::Judged;

/// Callers, hosts and paths are looked at in so many levels; a rule that says more stands under what it says up to there.
pub(super) const MAX_LEVELS: usize = 16;

const SCHEME: &str = "spiffe://";

/// Under which callers a rule stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever calls.
    Any,
    /// One SPIFFE ID.
    Exact(String),
    /// A SPIFFE ID, and what is below of it.
    Below(String),
    /// IDs with this path, of any trust domain.
    ExactPath(String),
    /// IDs with this path or one below of it, of any trust domain.
    BelowPath(String),
}

/// What a symbol is of, so that equal texts do not lead to one state.
#[derive(Clone, Copy, Hash)]
enum Kind {
    Exact,
    Below,
    ExactPath,
    BelowPath,
    Host,
    Suffix,
    Segment,
    Method,
}

/// Makes symbols, and knows which kinds there are at all, so that a call is not asked in vain.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    hashes: RandomState,
    /// Bit n: some key of the kind has n levels.
    below: u32,
    below_path: u32,
    suffixes: u32,
    exact_paths: bool,
    hosts: bool,
    /// Whether a rule is about methods without a path that ends, so that it is found on the way.
    pub(super) methods_on_the_way: bool,
}

/// The symbols of one call, or of one reading of it.
pub(super) struct Facts {
    pub(super) callers: SmallVec<[Symbol; 12]>,
    pub(super) port: u16,
    /// What rules say of the host; empty hosts are unknown.
    pub(super) hosts: SmallVec<[Symbol; 6]>,
    /// `None` on an opaque connection.
    pub(super) method: Option<Symbol>,
}

/// The symbols of one reading of a path.
pub(super) struct Segments {
    pub(super) symbols: SmallVec<[Symbol; MAX_LEVELS]>,
    /// Whether these are all.
    pub(super) all: bool,
}

/// Whoever calls.
const ANY_CALLER: Symbol = 0;
/// Whatever the host is.
const ANY_HOST: Symbol = 0;

impl Symbols {
    pub(super) fn hashes(&self) -> RandomState {
        self.hashes.clone()
    }

    fn of(&self, kind: Kind, text: &str) -> Symbol {
        self.hashes.hash_one((kind, text))
    }

    /// Host names are compared in lower case.
    fn of_host(&self, kind: Kind, host: &str) -> Symbol {
        let mut hasher = self.hashes.build_hasher();
        kind.hash(&mut hasher);
        for byte in host.bytes() {
            hasher.write_u8(byte.to_ascii_lowercase());
        }
        hasher.finish()
    }

    /// The symbol of a rule's caller, to which calls are led from now on.
    pub(super) fn add_caller(&mut self, caller: &Caller) -> Symbol {
        match caller {
            Caller::Any => ANY_CALLER,
            Caller::Exact(id) => self.of(Kind::Exact, id),
            Caller::ExactPath(path) => {
                self.exact_paths = true;
                self.of(Kind::ExactPath, path)
            }
            Caller::Below(id) => {
                let id = up_to_levels(id);
                self.below |= level_bit(levels(id));
                self.of(Kind::Below, id)
            }
            Caller::BelowPath(path) => {
                let path = up_to_levels(path);
                self.below_path |= level_bit(levels(path));
                self.of(Kind::BelowPath, path)
            }
        }
    }

    /// The symbol of a rule's host; `None` is any.
    pub(super) fn add_host(&mut self, host: Option<&HostPattern>) -> Symbol {
        match host.map(HostPattern::text) {
            None => ANY_HOST,
            Some((name, false)) => {
                self.hosts = true;
                self.of_host(Kind::Host, name)
            }
            Some((suffix, true)) => {
                let count = suffix.matches('.').count();
                if count > MAX_LEVELS {
                    return ANY_HOST;
                }
                self.suffixes |= level_bit(count);
                self.of_host(Kind::Suffix, suffix)
            }
        }
    }

    pub(super) fn segment(&self, segment: &str) -> Symbol {
        self.of(Kind::Segment, segment)
    }

    pub(super) fn method(&self, method: &Method) -> Symbol {
        self.of(Kind::Method, method.as_str())
    }

    /// What a call says.
    pub(super) fn facts(&self, judged: &Judged<'_>) -> Facts {
        let mut callers = SmallVec::new();
        if let Some(peer) = judged.call.peer {
            self.callers(peer, &mut callers);
        }
        callers.push(ANY_CALLER);
        let mut hosts = SmallVec::new();
        if let Some(host) = judged.host {
            self.hosts(host, &mut hosts);
        }
        hosts.push(ANY_HOST);
        Facts {
            callers,
            port: judged.call.port,
            hosts,
            method: judged
                .call
                .request
                .map(|request| self.of(Kind::Method, request.method)),
        }
    }

    /// The most specific first.
    fn callers(&self, peer: &SpiffeId, callers: &mut SmallVec<[Symbol; 12]>) {
        let id = peer.as_str();
        callers.push(self.of(Kind::Exact, id));
        for prefix in prefixes(id, self.below) {
            callers.push(self.of(Kind::Below, prefix));
        }
        if self.exact_paths || self.below_path != 0 {
            let path = id
                .strip_prefix(SCHEME)
                .and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)))
                .unwrap_or_default();
            if self.exact_paths {
                callers.push(self.of(Kind::ExactPath, path));
            }
            for prefix in prefixes(path, self.below_path) {
                callers.push(self.of(Kind::BelowPath, prefix));
            }
        }
    }

    fn hosts(&self, host: &str, hosts: &mut SmallVec<[Symbol; 6]>) {
        if self.hosts {
            hosts.push(self.of_host(Kind::Host, host));
        }
        if self.suffixes != 0 {
            for ((at, _), count) in host.rmatch_indices('.').zip(1..=MAX_LEVELS) {
                if self.suffixes & level_bit(count) != 0
                    && let Some(suffix) = host.get(at..)
                {
                    hosts.push(self.of_host(Kind::Suffix, suffix));
                }
            }
        }
    }

    /// What one reading of a path says; `None` for what is no absolute path.
    pub(super) fn segments(&self, path: &str) -> Option<Segments> {
        let mut given = path.strip_prefix('/')?.split('/');
        let symbols = given
            .by_ref()
            .take(MAX_LEVELS)
            .map(|segment| self.segment(segment))
            .collect();
        Some(Segments {
            symbols,
            all: given.next().is_none(),
        })
    }
}

fn level_bit(level: usize) -> u32 {
    u32::try_from(level)
        .ok()
        .and_then(|level| 1_u32.checked_shl(level))
        .unwrap_or(0)
}

/// How many levels an ID or a path has: as many as slashes.
fn levels(text: &str) -> usize {
    text.matches('/').count()
}

/// What is above of an ID or path in the last level that is looked at, or the text itself.
fn up_to_levels(text: &str) -> &str {
    match text.match_indices('/').nth(MAX_LEVELS) {
        Some((at, _)) => text.get(..at).unwrap_or(text),
        None => text,
    }
}

/// What a text is or is below of, in these levels.
fn prefixes(text: &str, levels: u32) -> impl Iterator<Item = &str> {
    let none = levels == 0;
    // Names are short: to look at each byte is quicker than to set out for the next slash.
    let slashes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    let ends = slashes
        .map(|(at, _)| at)
        .chain([text.len()])
        .zip(0..=MAX_LEVELS);
    ends.take_while(move |_| !none)
        .filter(move |(_, level)| levels & level_bit(*level) != 0)
        .filter_map(|(end, _)| text.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_below_of_its_prefixes() {
        let all = u32::MAX;
        let id = "spiffe://a/ns/x";
        let found: Vec<_> = prefixes(id, all).collect();
        assert_eq!(
            found,
            ["spiffe:", "spiffe:/", "spiffe://a", "spiffe://a/ns", id]
        );
        assert_eq!(prefixes(id, 1 << 2).collect::<Vec<_>>(), ["spiffe://a"]);
        assert_eq!(prefixes(id, 1 << levels(id)).collect::<Vec<_>>(), [id]);
        assert_eq!(prefixes(id, 0).count(), 0);
        let long = format!("spiffe://a{}", "/b".repeat(40));
        let short = up_to_levels(&long);
        assert_eq!(levels(short), MAX_LEVELS);
        assert_eq!(
            prefixes(&long, 1 << MAX_LEVELS).collect::<Vec<_>>(),
            [short]
        );
    }
}
