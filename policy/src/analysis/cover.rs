//! A set of calls as few, large regions.

use std::collections::HashMap;

use fixedbitset::FixedBitSet;

use super::diagram::{ALL, Diagrams, NONE, Region, Set, TooLarge, Value, Variable};

/// A region, and a call of it that is to be explained.
#[derive(Clone, Debug)]
pub(super) struct Covered {
    pub(super) region: Region,
    pub(super) example: Vec<Value>,
}

/// Regions that a set consists of.
#[derive(Debug)]
pub(super) struct Cover {
    pub(super) regions: Vec<Covered>,
    /// What the regions leave out, because there would be too many; empty as a rule.
    pub(super) left: Set,
}

/// How a set is taken apart.
pub(super) struct Wish<'a> {
    /// The variables in the order in which regions grow along them: those that people would rather not hear about first.
    pub(super) order: &'a [Variable],
    /// How little one would like to see a value in an example.
    pub(super) rank: &'a dyn Fn(Variable, Value) -> usize,
    pub(super) most: usize,
}

/// Takes `set` apart into regions, none of which can grow along one variable without leaving `set` and what is
/// `impossible` (calls that there are not: they may be in a region, as nobody can make them).
pub(super) fn cover(
    diagrams: &mut Diagrams,
    set: Set,
    impossible: Set,
    wish: &Wish<'_>,
) -> Result<Cover, TooLarge> {
    let upper = diagrams.or(set, impossible)?;
    let needed = diagrams.minus(set, impossible)?;
    let mut left = needed;
    let mut regions: Vec<(Covered, Set)> = Vec::new();
    while regions.len() < wish.most {
        let Some(example) = diagrams.pick(left, wish.rank) else {
            break;
        };
        let region = grown(diagrams, upper, &example, wish.order);
        let calls = diagrams.region(&region)?;
        left = diagrams.minus(left, calls)?;
        regions.push((Covered { region, example }, calls));
    }
    if left == NONE {
        drop_needless(diagrams, &mut regions, impossible)?;
    }
    // What a region began with was left over by others; it may have nicer calls.
    for (covered, calls) in &mut regions {
        let calls = diagrams.and(*calls, needed)?;
        if let Some(nicest) = diagrams.pick(calls, wish.rank) {
            covered.example = nicest;
        }
    }
    Ok(Cover {
        regions: regions.into_iter().map(|(covered, _)| covered).collect(),
        left,
    })
}

/// Drops regions that the others have together.
fn drop_needless(
    diagrams: &mut Diagrams,
    regions: &mut Vec<(Covered, Set)>,
    impossible: Set,
) -> Result<(), TooLarge> {
    if regions.len() < 2 {
        return Ok(());
    }
    // What is in all regions after each.
    let mut after = vec![impossible];
    for (_, calls) in regions.iter().rev() {
        let all = after.last().copied().unwrap_or(NONE);
        after.push(diagrams.or(all, *calls)?);
    }
    after.pop();
    let mut before = NONE;
    let mut kept = Vec::with_capacity(regions.len());
    for (covered, calls) in regions.drain(..) {
        let others = diagrams.or(before, after.pop().unwrap_or(NONE))?;
        if diagrams.minus(calls, others)? != NONE {
            before = diagrams.or(before, calls)?;
            kept.push((covered, calls));
        }
    }
    *regions = kept;
    Ok(())
}

/// The largest region around a call that stays within `upper`, along one variable after the other.
fn grown(diagrams: &Diagrams, upper: Set, example: &[Value], order: &[Variable]) -> Region {
    let mut region: Region = example
        .iter()
        .enumerate()
        .map(|(variable, value)| {
            let mut only = FixedBitSet::with_capacity(diagrams.size(variable));
            only.insert(*value);
            Some(only)
        })
        .collect();
    for &variable in order {
        let allowed = Growth {
            diagrams,
            region: &region,
            variable,
            within: HashMap::new(),
            allowed: HashMap::new(),
        }
        .allowed(upper);
        if let Some(slot) = region.get_mut(variable) {
            *slot = allowed.filter(|values| !values.is_full());
        }
    }
    region
}

/// Which values a variable may have, the others being in a region.
struct Growth<'a> {
    diagrams: &'a Diagrams,
    region: &'a Region,
    variable: Variable,
    within: HashMap<Set, bool>,
    allowed: HashMap<Set, Option<FixedBitSet>>,
}

impl Growth<'_> {
    /// `None` is every value.
    fn allowed(&mut self, set: Set) -> Option<FixedBitSet> {
        let size = self.diagrams.size(self.variable);
        let first = match self.diagrams.first_variable(set) {
            Some(first) if first <= self.variable => first,
            _ if self.within(set) => return None,
            _ => return Some(FixedBitSet::with_capacity(size)),
        };
        if let Some(known) = self.allowed.get(&set) {
            return known.clone();
        }
        let result = if first == self.variable {
            let (rest, branches) = self.diagrams.branches(set).unwrap_or((set, &[]));
            let mut allowed = FixedBitSet::with_capacity(size);
            if self.within(rest) {
                allowed.insert_range(..);
            }
            for (value, branch) in branches {
                let within = self.within(*branch);
                allowed.set(*value, within);
            }
            Some(allowed)
        } else {
            let mut all: Option<FixedBitSet> = None;
            for branch in self.reachable(set) {
                if let Some(values) = self.allowed(branch) {
                    match &mut all {
                        None => all = Some(values),
                        Some(all) => all.intersect_with(&values),
                    }
                }
            }
            all
        };
        self.allowed.insert(set, result.clone());
        result
    }

    /// Whether all of the region, whatever `variable` is, is in the set.
    fn within(&mut self, set: Set) -> bool {
        if set == ALL || set == NONE {
            return set == ALL;
        }
        if let Some(known) = self.within.get(&set) {
            return *known;
        }
        let result = self
            .reachable(set)
            .into_iter()
            .all(|branch| self.within(branch));
        self.within.insert(set, result);
        result
    }

    /// The branches that calls of the region take.
    fn reachable(&self, set: Set) -> Vec<Set> {
        let Some((rest, branches)) = self.diagrams.branches(set) else {
            return Vec::new();
        };
        let variable = self.diagrams.first_variable(set).unwrap_or_default();
        let values = self
            .region
            .get(variable)
            .and_then(Option::as_ref)
            .filter(|_| variable != self.variable);
        let taken = |value: &Value| values.is_none_or(|values| values.contains(*value));
        let listed = branches.iter().filter(|(value, _)| taken(value));
        let mut sets: Vec<Set> = listed.map(|(_, set)| *set).collect();
        let all = values.map_or(self.diagrams.size(variable), |values| values.count_ones(..));
        if sets.len() < all {
            sets.push(rest);
        }
        sets.sort_unstable();
        sets.dedup();
        sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: [usize; 3] = [3, 4, 2];

    fn region(values: [Vec<Value>; 3]) -> Region {
        values
            .iter()
            .zip(SIZES)
            .map(|(values, size)| {
                let mut set = FixedBitSet::with_capacity(size);
                values.iter().for_each(|value| set.insert(value % size));
                (!values.is_empty()).then_some(set)
            })
            .collect()
    }

    fn regions() -> impl Strategy<Value = Vec<Region>> {
        let values = || prop::collection::vec(0..4_usize, 0..3);
        let one = (values(), values(), values()).prop_map(|(a, b, c)| region([a, b, c]));
        prop::collection::vec(one, 0..4)
    }

    proptest! {
        #[test]
        fn a_cover_has_the_set_and_nothing_but_the_impossible_besides_and_no_region_too_many(
            wanted in regions(),
            impossible in regions(),
            order in Just([0, 1, 2]).prop_shuffle(),
        ) {
            let mut diagrams = Diagrams::new(SIZES.to_vec());
            let mut union = |regions: &[Region]| {
                let sets = regions.iter().map(|region| diagrams.region(region).unwrap());
                let sets = sets.collect();
                diagrams.any(sets).unwrap()
            };
            let (set, impossible) = (union(&wanted), union(&impossible));
            let wish = Wish { order: &order, rank: &|_, value| value, most: 100 };
            let cover = cover(&mut diagrams, set, impossible, &wish).unwrap();
            prop_assert_eq!(cover.left, NONE);
            let parts: Vec<Set> =
                cover.regions.iter().map(|covered| diagrams.region(&covered.region).unwrap()).collect();
            let covered = diagrams.any(parts.clone()).unwrap();
            let needed = diagrams.minus(set, impossible).unwrap();
            prop_assert_eq!(diagrams.minus(needed, covered).unwrap(), NONE);
            let allowed = diagrams.or(set, impossible).unwrap();
            prop_assert_eq!(diagrams.minus(covered, allowed).unwrap(), NONE);
            for (number, part) in parts.iter().enumerate() {
                // None can be left out.
                let mut others = parts.clone();
                others.remove(number);
                let others = diagrams.any(others).unwrap();
                let lost = diagrams.minus(needed, others).unwrap();
                prop_assert_ne!(diagrams.and(lost, *part).unwrap(), NONE);
            }
            // No two can be told as one, nor any with more.
            let regions: Vec<&Region> = cover.regions.iter().map(|covered| &covered.region).collect();
            for (number, one) in regions.iter().enumerate() {
                for other in regions.iter().skip(number + 1) {
                    let mut both = Region::new();
                    for (one, other) in one.iter().zip(other.iter()) {
                        both.push(one.as_ref().zip(other.as_ref()).map(|(one, other)| {
                            let mut values = one.clone();
                            values.union_with(other);
                            values
                        }));
                    }
                    let both = diagrams.region(&both).unwrap();
                    prop_assert_ne!(diagrams.minus(both, allowed).unwrap(), NONE);
                }
                for (variable, size) in SIZES.into_iter().enumerate() {
                    let Some(values) = &one[variable] else { continue };
                    for value in (0..size).filter(|value| !values.contains(*value)) {
                        let mut wider = Region::clone(one);
                        wider[variable].as_mut().unwrap().insert(value);
                        let wider = diagrams.region(&wider).unwrap();
                        prop_assert_ne!(diagrams.minus(wider, allowed).unwrap(), NONE);
                    }
                }
            }
            for (part, Covered { example, .. }) in parts.iter().zip(&cover.regions) {
                prop_assert!(diagrams.contains(*part, example));
                prop_assert!(diagrams.contains(needed, example));
            }
        }
    }

    #[test]
    fn a_region_grows_as_far_as_it_can() {
        let mut diagrams = Diagrams::new(SIZES.to_vec());
        let row = diagrams.value(0, 1).unwrap();
        let column = diagrams.value(1, 2).unwrap();
        let cross = diagrams.or(row, column).unwrap();
        let wish = Wish {
            order: &[2, 1, 0],
            rank: &|_, value| value,
            most: 100,
        };
        let cover = cover(&mut diagrams, cross, NONE, &wish).unwrap();
        let regions: Vec<Region> = cover.regions.into_iter().map(|c| c.region).collect();
        assert_eq!(
            regions,
            [
                region([vec![], vec![2], vec![]]),
                region([vec![1], vec![], vec![]])
            ]
        );
    }

    #[test]
    fn what_is_left_out_is_told() {
        let mut diagrams = Diagrams::new(SIZES.to_vec());
        let row = diagrams.value(0, 1).unwrap();
        let column = diagrams.value(1, 2).unwrap();
        let cross = diagrams.or(row, column).unwrap();
        let wish = Wish {
            order: &[0, 1, 2],
            rank: &|_, value| value,
            most: 1,
        };
        let cover = cover(&mut diagrams, cross, NONE, &wish).unwrap();
        assert_eq!(cover.regions.len(), 1);
        assert_ne!(cover.left, NONE);
    }
}
