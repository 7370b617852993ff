//! Sets of calls as multi-valued decision diagrams: ordered, reduced, every node made once.
//!
//! A variable is a dimension of calls (who calls, the port, …) whose values are numbered from 0. A node asks for one
//! variable; its branch for value 0 is also the branch of every value that it does not list. So a node over
//! thousands of values is as large as what the policy says about them. As nodes are reduced and made
//! once, two sets are equal exactly if their nodes are.

use std::collections::HashMap;
use std::sync::Arc;

use fixedbitset::FixedBitSet;

/// How many branches all nodes together may have: some 500 MB.
const MAX_BRANCHES: usize = 20_000_000;

/// How many results are remembered: some 150 MB.
const MAX_RESULTS: usize = 4_000_000;

/// A variable, by its place in the order.
pub(super) type Variable = usize;

/// A value of a variable.
pub(super) type Value = usize;

/// A set of calls. Only means something to the [`Diagrams`] that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Set(u32);

/// No call.
pub(super) const NONE: Set = Set(0);
/// Every call.
pub(super) const ALL: Set = Set(1);

/// The sets would need more memory than is reasonable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policies are too large to be compared exactly: their sets of calls need more than {MAX_BRANCHES} branches; compare a part of them, such as one namespace"
)]
pub struct TooLarge;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    variable: Variable,
    /// The branch of value 0, and of every value that is not in `branches`.
    rest: Set,
    /// By value, none of which leads where `rest` does.
    branches: Arc<[(Value, Set)]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    And,
    Or,
    Minus,
}

/// Makes sets, and keeps them.
#[derive(Debug)]
pub(super) struct Diagrams {
    /// How many values each variable has.
    sizes: Vec<usize>,
    nodes: Vec<Node>,
    known: HashMap<Node, Set, foldhash::fast::RandomState>,
    results: HashMap<(Operation, Set, Set), Set, foldhash::fast::RandomState>,
    branches: usize,
}

/// Some calls: for every variable the values that are in it; `None` is all values.
pub(super) type Region = Vec<Option<FixedBitSet>>;

impl Diagrams {
    /// Over variables with so many values each.
    pub(super) fn new(sizes: Vec<usize>) -> Self {
        Self {
            sizes,
            nodes: Vec::new(),
            known: HashMap::default(),
            results: HashMap::default(),
            branches: 0,
        }
    }

    pub(super) fn size(&self, variable: Variable) -> usize {
        self.sizes.get(variable).copied().unwrap_or(1)
    }

    pub(super) fn variables(&self) -> usize {
        self.sizes.len()
    }

    fn node(&self, set: Set) -> Option<&Node> {
        let at = set.0.checked_sub(2)?;
        self.nodes.get(usize::try_from(at).ok()?)
    }

    /// Which variable a set asks for first; `None` if it is all or nothing.
    pub(super) fn first_variable(&self, set: Set) -> Option<Variable> {
        self.node(set).map(|node| node.variable)
    }

    /// The branches of a set's first variable: what value 0 and all others lead to, and exceptions by value.
    pub(super) fn branches(&self, set: Set) -> Option<(Set, &[(Value, Set)])> {
        self.node(set).map(|node| (node.rest, &*node.branches))
    }

    /// The set in which `variable` decides where to go on; all variables in the branches come after it.
    pub(super) fn choice(
        &mut self,
        variable: Variable,
        rest: Set,
        branches: impl IntoIterator<Item = (Value, Set)>,
    ) -> Result<Set, TooLarge> {
        let branches: Arc<[(Value, Set)]> = branches
            .into_iter()
            .filter(|(_, set)| *set != rest)
            .collect();
        if branches.is_empty() {
            return Ok(rest);
        }
        let node = Node {
            variable,
            rest,
            branches,
        };
        if let Some(set) = self.known.get(&node) {
            return Ok(*set);
        }
        self.branches = self.branches.saturating_add(node.branches.len() + 4);
        let number = u32::try_from(self.nodes.len() + 2).map_err(|_| TooLarge)?;
        if self.branches > MAX_BRANCHES {
            return Err(TooLarge);
        }
        let set = Set(number);
        self.nodes.push(node.clone());
        self.known.insert(node, set);
        Ok(set)
    }

    /// The calls in which a variable has one of these values.
    pub(super) fn values(
        &mut self,
        variable: Variable,
        values: &FixedBitSet,
    ) -> Result<Set, TooLarge> {
        let side = |is_in: bool| if is_in { ALL } else { NONE };
        let rest = side(values.contains(0));
        let size = self.size(variable);
        let branches: Vec<(Value, Set)> = (1..size)
            .map(|value| (value, side(values.contains(value))))
            .filter(|(_, set)| *set != rest)
            .collect();
        self.choice(variable, rest, branches)
    }

    /// The calls in which a variable has this value.
    pub(super) fn value(&mut self, variable: Variable, value: Value) -> Result<Set, TooLarge> {
        if value == 0 {
            let others = (1..self.size(variable)).map(|value| (value, NONE));
            return self.choice(variable, ALL, others.collect::<Vec<_>>());
        }
        self.choice(variable, NONE, [(value, ALL)])
    }

    pub(super) fn and(&mut self, a: Set, b: Set) -> Result<Set, TooLarge> {
        self.apply(Operation::And, a, b)
    }

    pub(super) fn or(&mut self, a: Set, b: Set) -> Result<Set, TooLarge> {
        self.apply(Operation::Or, a, b)
    }

    /// What is in `a` and not in `b`.
    pub(super) fn minus(&mut self, a: Set, b: Set) -> Result<Set, TooLarge> {
        self.apply(Operation::Minus, a, b)
    }

    pub(super) fn not(&mut self, a: Set) -> Result<Set, TooLarge> {
        self.minus(ALL, a)
    }

    /// The union of many, in pairs of pairs: quicker than one after the other.
    pub(super) fn any(&mut self, mut sets: Vec<Set>) -> Result<Set, TooLarge> {
        while sets.len() > 1 {
            let mut halved = Vec::with_capacity(sets.len().div_ceil(2));
            for pair in sets.chunks(2) {
                halved.push(match *pair {
                    [a, b] => self.or(a, b)?,
                    [a] => a,
                    _ => NONE,
                });
            }
            sets = halved;
        }
        Ok(sets.first().copied().unwrap_or(NONE))
    }

    /// What is in all of them.
    pub(super) fn all(&mut self, sets: impl IntoIterator<Item = Set>) -> Result<Set, TooLarge> {
        sets.into_iter()
            .try_fold(ALL, |all, set| self.and(all, set))
    }

    fn apply(&mut self, operation: Operation, a: Set, b: Set) -> Result<Set, TooLarge> {
        match (operation, a, b) {
            (Operation::And, NONE, _) | (Operation::And, _, NONE) => return Ok(NONE),
            (Operation::And, ALL, other) | (Operation::And, other, ALL) => return Ok(other),
            (Operation::Or, ALL, _) | (Operation::Or, _, ALL) => return Ok(ALL),
            (Operation::Or, NONE, other) | (Operation::Or, other, NONE) => return Ok(other),
            (Operation::Minus, NONE, _) | (Operation::Minus, _, ALL) => return Ok(NONE),
            (Operation::Minus, other, NONE) => return Ok(other),
            (Operation::And | Operation::Or, ..) if a == b => return Ok(a),
            (Operation::Minus, ..) if a == b => return Ok(NONE),
            _ => {}
        }
        let key = match operation {
            Operation::And | Operation::Or if b < a => (operation, b, a),
            _ => (operation, a, b),
        };
        if let Some(result) = self.results.get(&key) {
            return Ok(*result);
        }
        let result = self.combine(operation, a, b)?;
        // It is quicker to find some again than to keep them all.
        if self.results.len() > MAX_RESULTS {
            self.results.clear();
        }
        self.results.insert(key, result);
        Ok(result)
    }

    fn combine(&mut self, operation: Operation, a: Set, b: Set) -> Result<Set, TooLarge> {
        let variable = match (self.first_variable(a), self.first_variable(b)) {
            (Some(a), Some(b)) => a.min(b),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(a),
        };
        let (rest_a, branches_a) = self.split(a, variable);
        let (rest_b, branches_b) = self.split(b, variable);
        let rest = self.apply(operation, rest_a, rest_b)?;
        let mut branches = Vec::with_capacity(branches_a.len() + branches_b.len());
        let (mut left, mut right) = (branches_a.iter().peekable(), branches_b.iter().peekable());
        loop {
            let (value, a, b) = match (left.peek(), right.peek()) {
                (Some(&&(at, a)), Some(&&(bt, b))) if at == bt => {
                    left.next();
                    right.next();
                    (at, a, b)
                }
                (Some(&&(at, a)), Some(&&(bt, _))) if at < bt => {
                    left.next();
                    (at, a, rest_b)
                }
                (Some(&&(at, a)), None) => {
                    left.next();
                    (at, a, rest_b)
                }
                (_, Some(&&(bt, b))) => {
                    right.next();
                    (bt, rest_a, b)
                }
                (None, None) => break,
            };
            branches.push((value, self.apply(operation, a, b)?));
        }
        self.choice(variable, rest, branches)
    }

    /// The branches of a set for a variable that none of its nodes comes before.
    fn split(&self, set: Set, variable: Variable) -> (Set, Arc<[(Value, Set)]>) {
        match self.node(set) {
            Some(node) if node.variable == variable => (node.rest, Arc::clone(&node.branches)),
            _ => (set, Arc::from([])),
        }
    }

    /// The calls of a region.
    pub(super) fn region(&mut self, region: &Region) -> Result<Set, TooLarge> {
        let mut set = ALL;
        for (variable, values) in region.iter().enumerate().rev() {
            if let Some(values) = values {
                let here = self.values(variable, values)?;
                set = self.and(here, set)?;
            }
        }
        Ok(set)
    }

    #[cfg(test)]
    /// Whether the call with these values, one for each variable, is in the set.
    pub(super) fn contains(&self, set: Set, point: &[Value]) -> bool {
        let mut at = set;
        while let Some(node) = self.node(at) {
            let value = point.get(node.variable).copied().unwrap_or(0);
            at = match node
                .branches
                .binary_search_by_key(&value, |(value, _)| *value)
            {
                Ok(found) => node.branches.get(found).map_or(NONE, |(_, set)| *set),
                Err(_) => node.rest,
            };
        }
        at == ALL
    }

    /// One call of a set that is not empty. `rank` says of each value of a variable how little one would like to see it
    /// in an example; variables that the set does not ask for have their best.
    pub(super) fn pick(
        &self,
        set: Set,
        rank: impl Fn(Variable, Value) -> usize,
    ) -> Option<Vec<Value>> {
        if set == NONE {
            return None;
        }
        let best = |variable| (0..self.size(variable)).min_by_key(|value| rank(variable, *value));
        let mut point: Vec<Value> = (0..self.variables())
            .map(|variable| best(variable).unwrap_or(0))
            .collect();
        let mut at = set;
        while let Some(node) = self.node(at) {
            let branch = |value: Value| match node
                .branches
                .binary_search_by_key(&value, |(value, _)| *value)
            {
                Ok(found) => node.branches.get(found).map_or(NONE, |(_, set)| *set),
                Err(_) => node.rest,
            };
            // In a reduced diagram everything but NONE leads to a call.
            let value = (0..self.size(node.variable))
                .filter(|value| branch(*value) != NONE)
                .min_by_key(|value| rank(node.variable, *value))?;
            at = branch(value);
            if let Some(slot) = point.get_mut(node.variable) {
                *slot = value;
            }
        }
        Some(point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: [usize; 4] = [3, 2, 4, 2];

    fn points() -> Vec<Vec<Value>> {
        let mut points = vec![Vec::new()];
        for size in SIZES {
            points = points
                .into_iter()
                .flat_map(|point: Vec<Value>| {
                    (0..size).map(move |value| {
                        let mut longer = point.clone();
                        longer.push(value);
                        longer
                    })
                })
                .collect();
        }
        points
    }

    fn made_of(diagrams: &mut Diagrams, members: &[bool]) -> Set {
        let mut sets = Vec::new();
        for (point, is_in) in points().iter().zip(members) {
            if *is_in {
                let mut set = ALL;
                for (variable, value) in point.iter().enumerate().rev() {
                    let one = diagrams.value(variable, *value).unwrap();
                    set = diagrams.and(one, set).unwrap();
                }
                sets.push(set);
            }
        }
        diagrams.any(sets).unwrap()
    }

    fn members() -> impl Strategy<Value = Vec<bool>> {
        prop::collection::vec(any::<bool>(), SIZES.iter().product::<usize>())
    }

    proptest! {
        #[test]
        fn sets_are_what_their_members_are(a in members(), b in members()) {
            let mut diagrams = Diagrams::new(SIZES.to_vec());
            let (set_a, set_b) = (made_of(&mut diagrams, &a), made_of(&mut diagrams, &b));
            let and = diagrams.and(set_a, set_b).unwrap();
            let or = diagrams.or(set_a, set_b).unwrap();
            let minus = diagrams.minus(set_a, set_b).unwrap();
            for (point, (a, b)) in points().iter().zip(a.iter().zip(&b)) {
                prop_assert_eq!(diagrams.contains(set_a, point), *a);
                prop_assert_eq!(diagrams.contains(and, point), *a && *b);
                prop_assert_eq!(diagrams.contains(or, point), *a || *b);
                prop_assert_eq!(diagrams.contains(minus, point), *a && !*b);
            }
            // Made in another way, an equal set is the same node.
            let both = diagrams.minus(or, minus).unwrap();
            let again = diagrams.minus(both, set_b).unwrap();
            prop_assert_eq!(again, NONE);
            match diagrams.pick(minus, |_, value| value) {
                Some(point) => prop_assert!(diagrams.contains(minus, &point)),
                None => prop_assert_eq!(minus, NONE),
            }
        }
    }

    #[test]
    fn a_set_of_values_is_reduced() {
        let mut diagrams = Diagrams::new(vec![4]);
        let mut values = FixedBitSet::with_capacity(4);
        values.insert_range(..);
        assert_eq!(diagrams.values(0, &values), Ok(ALL));
        values.clear();
        assert_eq!(diagrams.values(0, &values), Ok(NONE));
        values.insert(0);
        let zero = diagrams.value(0, 0).unwrap();
        assert_eq!(diagrams.values(0, &values), Ok(zero));
        assert!(diagrams.contains(zero, &[0]) && !diagrams.contains(zero, &[3]));
    }
}
