//! A tree of decisions in one hash table: from a state, a symbol leads to the next state, and rules are found on the way.
//!
//! Symbols are hashes, and so are the keys of the table. Two that collide lead to one state, where the rules of
//! both are found: that is harmless, because what is found is asked in full afterwards. So no text is kept here, and a
//! rule costs a few dozen bytes. The table is in parts that grow one after the other: a table that grows needs its old and
//! its new space at once.

use std::collections::{HashMap, hash_map};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use foldhash::fast::RandomState;

use super::RuleNumber;

/// A state, by its number.
pub(super) type State = u32;

/// What leads from one state to another: see [`Symbols`](super::facts::Symbols).
pub(super) type Symbol = u64;

/// Where every way starts.
pub(super) const ROOT: State = 0;

/// A tree that is complete.
#[derive(Debug, Default)]
pub(super) struct Tree {
    edges: Edges,
    hashes: RandomState,
    /// Where in `rules` the rules of each state start; one more than there are states.
    starts: Box<[u32]>,
    /// Rules in ascending order, state by state.
    rules: Box<[RuleNumber]>,
}

/// Hash → state.
#[derive(Debug, Default)]
struct Edges([Part; PARTS]);

const PARTS: usize = 16;

type Part = HashMap<Key, State, BuildHasherDefault<AsItIs>>;

/// A hash in two halves: aligned as a state is, there is no gap beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key([u32; 2]);

impl Key {
    fn new(hash: u64) -> Self {
        let [low, high] = [hash, hash >> 32].map(|half| half & u64::from(u32::MAX));
        Self([low, high].map(|half| u32::try_from(half).unwrap_or_default()))
    }

    fn hash(self) -> u64 {
        let Self([low, high]) = self;
        u64::from(high) << 32 | u64::from(low)
    }

    /// By bits of which a part makes no use: it takes the lowest and the highest ones.
    fn part(self) -> usize {
        let Self([_, high]) = self;
        usize::try_from(high >> 8).unwrap_or_default() % PARTS
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Key::hash(*self));
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "a key's part is below PARTS, and there are PARTS of them"
)]
impl Edges {
    fn get(&self, hash: u64) -> Option<State> {
        let key = Key::new(hash);
        self.0[key.part()].get(&key).copied()
    }

    fn entry(&mut self, hash: u64) -> hash_map::Entry<'_, Key, State> {
        let key = Key::new(hash);
        self.0[key.part()].entry(key)
    }
}

impl Tree {
    /// Where a symbol leads.
    pub(super) fn step(&self, from: State, symbol: Symbol) -> Option<State> {
        self.edges.get(self.hashes.hash_one((from, symbol)))
    }

    /// The rules of a state, in ascending order.
    pub(super) fn rules(&self, of: State) -> &[RuleNumber] {
        let bounds = || {
            let at = usize::try_from(of).ok()?;
            let start = usize::try_from(*self.starts.get(at)?).ok()?;
            let end = usize::try_from(*self.starts.get(at.checked_add(1)?)?).ok()?;
            self.rules.get(start..end)
        };
        bounds().unwrap_or_default()
    }
}

/// A tree that grows.
pub(super) struct Builder {
    edges: Edges,
    hashes: RandomState,
    /// How many there are.
    states: u32,
    /// What is found where, in the order of the rules.
    found: Vec<(State, RuleNumber)>,
    /// How many rules of a sample there are already, by state.
    sampled: Vec<u8>,
}

impl Builder {
    pub(super) fn new(hashes: RandomState) -> Self {
        Self {
            edges: Edges::default(),
            hashes,
            states: 1,
            found: Vec::new(),
            sampled: Vec::new(),
        }
    }

    /// Where a symbol leads, from now on.
    pub(super) fn step(&mut self, from: State, symbol: Symbol) -> State {
        match self.edges.entry(self.hashes.hash_one((from, symbol))) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(new) => {
                let state = self.states;
                self.states = self.states.saturating_add(1);
                *new.insert(state)
            }
        }
    }

    /// Adds a rule to a state. Rules are added in ascending order.
    pub(super) fn put(&mut self, at: State, rule: RuleNumber) {
        self.found.push((at, rule));
    }

    /// [`put`](Self::put), unless the state has `most` rules already.
    pub(super) fn put_some(&mut self, at: State, rule: RuleNumber, most: u8) {
        let place = usize::try_from(at).unwrap_or(usize::MAX);
        if self.sampled.len() <= place {
            self.sampled.resize(place.saturating_add(1), 0);
        }
        if let Some(count) = self.sampled.get_mut(place)
            && *count < most
        {
            *count = count.saturating_add(1);
            self.put(at, rule);
        }
    }

    /// Sorts what was found by state.
    pub(super) fn finish(mut self) -> Tree {
        drop(self.sampled);
        self.found.sort_unstable();
        self.found.dedup();
        let mut starts = Vec::with_capacity(usize::try_from(self.states).unwrap_or(0));
        let mut found = self.found.iter().zip(0_u32..).peekable();
        for state in 0..=self.states {
            while found.next_if(|((at, _), _)| *at < state).is_some() {}
            let all = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
            starts.push(found.peek().map_or(all, |(_, place)| *place));
        }
        self.edges.0.iter_mut().for_each(Part::shrink_to_fit);
        Tree {
            edges: self.edges,
            hashes: self.hashes,
            starts: starts.into(),
            rules: self.found.iter().map(|(_, rule)| *rule).collect(),
        }
    }
}

/// The keys are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    /// Not used: all keys are `u64`.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_where_they_were_put() {
        let mut builder = Builder::new(RandomState::default());
        let a = builder.step(ROOT, 1);
        let b = builder.step(a, 1);
        assert_eq!(builder.step(ROOT, 1), a);
        for (at, rule) in [(b, 0), (ROOT, 1), (b, 2), (b, 2), (a, 2), (b, 3)] {
            builder.put(at, rule);
        }
        let c = builder.step(b, 7);
        for rule in 0..5 {
            builder.put_some(c, rule, 2);
        }
        let tree = builder.finish();
        assert_eq!(tree.step(ROOT, 1), Some(a));
        assert_eq!(tree.step(ROOT, 2), None);
        assert_eq!(tree.rules(ROOT), [1]);
        assert_eq!(tree.rules(a), [2]);
        assert_eq!(tree.rules(b), [0, 2, 3]);
        assert_eq!(tree.rules(c), [0, 1]);
        assert_eq!(tree.rules(99), [] as [RuleNumber; 0]);
        assert_eq!(Tree::default().rules(ROOT), [] as [RuleNumber; 0]);
    }
}
