//! What a change of policy changes: the calls that become allowed, and those that become denied.
//!
//! Workloads that the same documents are about, before and after, are compared once. What comes out is exact but for what
//! [`Difference::unseen`] says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::cover::{Cover, Covered, Wish, cover};
use super::destinations::{Destinations, destinations};
use super::diagram::{self, NONE, Set, TooLarge, Value, Variable};
use super::documents::{DocumentChange, PathsChange, document_changes, paths_changes};
use super::encode::text_of;
use super::example::ExampleCall;
use super::tell::Region;
use super::tokens;
use super::universe::{ADDRESS, FORWARDED_FOR, HOST, METHOD, PATH, PEER, PORT, SNI, Universe};
use crate::call::{Call, Workload};
use crate::decision::{Decision, Verdict};
use crate::document::{Action, Document, Mode};
use crate::policy::{CompiledDocument, concerns};
use crate::rule::CompiledRule;
use crate::workload_policy::WorkloadPolicy;
use crate::{Policy, RuleOrigin};

/// How many regions are told of the calls to one kind of workload.
const MOST_REGIONS: usize = 400;
/// How often the sets are taken apart anew, because there are no tokens for some example.
const MOST_ATTEMPTS: usize = 100;

/// What a change of policy changes.
#[derive(Debug)]
pub struct Difference {
    /// The calls that become allowed.
    pub allowed: Vec<Change>,
    /// The calls that become denied.
    pub denied: Vec<Change>,
    /// Changes of documents that decide other things than calls, or of whom a token is believed.
    pub documents: Vec<DocumentChange>,
    /// Where requests are judged whose path applications read in different ways, and were not, and the other way round.
    pub paths: Vec<PathsChange>,
    /// What there are too many regions of: `to` of the workloads. Empty, as a rule.
    pub cut_short: Vec<String>,
    destinations: Destinations,
    compared: Vec<Compared>,
}

/// Calls that are decided in another way.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The calls.
    #[serde(flatten)]
    pub region: Region,
    /// One of them.
    pub example: Example,
}

/// A call, and what the engine says of it.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The call.
    pub call: ExampleCall,
    /// Whether the engine decides it as the analysis says, by both policies. Only where a CEL condition plays a part can it
    /// be otherwise: the analysis does not look into them.
    pub confirmed: bool,
    /// Whether it only stands for the region if the region's CEL conditions turn out as it says.
    pub depends_on_conditions: bool,
    /// The old policy's decision, as it would have to be.
    pub before: Judgement,
    /// The new policy's.
    pub after: Judgement,
}

/// A decision about an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// `allow` or `deny`, by the engine.
    pub decision: &'static str,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleOrigin>,
    /// Why.
    pub reason: String,
}

impl Judgement {
    fn of(decision: &Decision) -> Self {
        Self {
            decision: match decision.verdict {
                Verdict::Allow => "allow",
                Verdict::Deny => "deny",
            },
            rule: decision.rule.as_ref().map(|rule| RuleOrigin::clone(rule)),
            reason: decision.reason.to_string(),
        }
    }
}

/// The calls to some workloads, and how their decisions changed.
#[derive(Debug)]
struct Compared {
    universe: Universe,
    workloads: BTreeSet<Value>,
    allowed: Vec<diagram::Region>,
    denied: Vec<diagram::Region>,
}

impl Difference {
    /// Whether a call may become allowed that was not.
    #[must_use]
    pub fn widens(&self) -> bool {
        !self.allowed.is_empty()
            || !self.cut_short.is_empty()
            || self.documents.iter().any(|document| document.may_widen)
            || self.paths.iter().any(|paths| paths.accepted)
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
            && self.denied.is_empty()
            && self.documents.is_empty()
            && self.paths.is_empty()
            && self.cut_short.is_empty()
    }

    /// Whether a region depends on a CEL condition.
    #[must_use]
    pub fn has_conditions(&self) -> bool {
        let changes = self.allowed.iter().chain(&self.denied);
        let mut conditions = changes.flat_map(|change| &change.region.conditions);
        conditions.any(|condition| condition.kind == "when")
    }

    /// Whether rules that ask for paths were compared. Then a call whose path has several readings, all of which must be
    /// allowed, may be decided in another way without being in a region: where each reading is allowed before and after, and
    /// one rule allows all of them only before or only after.
    #[must_use]
    pub fn has_paths(&self) -> bool {
        let mut universes = self.compared.iter().map(|compared| &compared.universe);
        universes.any(|universe| universe.paths.unknown.is_some())
    }

    /// Whether a call to a workload is in a region of calls that become allowed, and in one of those that become denied.
    /// `None` if a CEL condition of the workload's policies would have to be evaluated to say so, or the call's path is
    /// refused or has several readings.
    #[must_use]
    pub fn regions_have(&self, workload: &Workload, call: &Call<'_>) -> Option<(bool, bool)> {
        let value = self.destinations.place(workload)?;
        let has = |compared: &&Compared| compared.workloads.contains(&value);
        let Some(compared) = self.compared.iter().find(has) else {
            return Some((false, false));
        };
        let points = compared.universe.place(call, workload)?;
        let [point] = points.as_slice() else {
            return None;
        };
        let in_any =
            |regions: &[diagram::Region]| regions.iter().any(|region| is_in(region, point));
        Some((in_any(&compared.allowed), in_any(&compared.denied)))
    }
}

fn is_in(region: &diagram::Region, point: &[Value]) -> bool {
    let mut all = region.iter().zip(point);
    all.all(|(values, value)| values.as_ref().is_none_or(|values| values.contains(*value)))
}

/// Compares two policies. With a directory only calls to its workloads are compared, and else to all that there could
/// be.
///
/// # Errors
/// The policies are too large.
pub fn diff(
    old: &Policy,
    new: &Policy,
    directory: Option<&[Workload]>,
) -> Result<Difference, TooLarge> {
    let destinations = destinations(&[old, new], directory)?;
    let mut meanings = Meanings::default();
    let (old_meanings, new_meanings) = (meanings.of(old), meanings.of(new));
    let mut groups: BTreeMap<(Vec<usize>, Vec<usize>), BTreeSet<Value>> = BTreeMap::new();
    for (value, workload) in destinations.dimension.examples.iter().enumerate() {
        let before = about(old, &old_meanings, workload);
        let after = about(new, &new_meanings, workload);
        if before != after {
            groups.entry((before, after)).or_default().insert(value);
        }
    }
    let mut told = Told {
        destinations: &destinations,
        allowed: BTreeMap::new(),
        denied: BTreeMap::new(),
        cut_short: Vec::new(),
    };
    let mut all = Vec::new();
    for workloads in groups.into_values() {
        if let Some(compared) = compare(old, new, workloads, &mut told)? {
            all.push(compared);
        }
    }
    Ok(Difference {
        allowed: told.changes(true),
        denied: told.changes(false),
        documents: document_changes(old, new),
        paths: paths_changes(old, new, &destinations),
        cut_short: std::mem::take(&mut told.cut_short),
        destinations,
        compared: all,
    })
}

/// Numbers for what documents say of calls, wherever it is written and whatever it is called.
#[derive(Default)]
struct Meanings {
    numbers: HashMap<String, usize>,
}

impl Meanings {
    /// By document; those that decide no calls have none.
    fn of(&mut self, policy: &Policy) -> Vec<Option<usize>> {
        let documents = policy.documents().iter();
        documents
            .map(|compiled| {
                let meaning = meaning(compiled)?;
                let next = self.numbers.len();
                Some(*self.numbers.entry(meaning).or_insert(next))
            })
            .collect()
    }
}

fn meaning(compiled: &CompiledDocument) -> Option<String> {
    match &compiled.document {
        Document::AccessPolicy(policy) if policy.mode == Mode::Enforce => {
            let mut rules: Vec<String> = compiled
                .rules
                .iter()
                .filter(|rule| rule.rule.action != Action::Audit)
                .map(|rule| rule_meaning(rule))
                .collect();
            rules.sort_unstable();
            rules.dedup();
            Some(text_of(&(policy.default, rules)))
        }
        Document::MeshMode(mode) => {
            let rank = crate::arrival::rank(mode);
            Some(text_of(&(
                rank,
                mode.mode,
                &mode.ports,
                mode.ambiguous_paths,
            )))
        }
        _ => None,
    }
}

/// What a rule says, without its name and place.
pub(super) fn rule_meaning(rule: &CompiledRule) -> String {
    let of = &rule.rule;
    text_of(&(
        of.action,
        &*of.from,
        tokens::meaning(rule),
        &of.intent,
        &of.to,
        of.when.as_ref().map(|when| &when.expression),
    ))
}

/// What the documents about a workload say.
fn about(policy: &Policy, meanings: &[Option<usize>], workload: &Workload) -> Vec<usize> {
    let documents = policy.documents().iter().zip(meanings);
    let mut numbers: Vec<usize> = documents
        .filter(|(compiled, _)| concerns(&compiled.document, workload))
        .filter_map(|(_, meaning)| *meaning)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The changes so far: what is alike for several kinds of workloads is told once.
struct Told<'a> {
    destinations: &'a Destinations,
    allowed: BTreeMap<Region, (Example, BTreeSet<Value>)>,
    denied: BTreeMap<Region, (Example, BTreeSet<Value>)>,
    cut_short: Vec<String>,
}

impl Told<'_> {
    fn add(&mut self, allows: bool, region: Region, example: Example, workloads: &BTreeSet<Value>) {
        let changes = match allows {
            true => &mut self.allowed,
            false => &mut self.denied,
        };
        let (_, to) = changes.entry(region).or_insert((example, BTreeSet::new()));
        to.extend(workloads);
    }

    fn changes(&mut self, allows: bool) -> Vec<Change> {
        let changes = match allows {
            true => std::mem::take(&mut self.allowed),
            false => std::mem::take(&mut self.denied),
        };
        let change = |(region, (example, to)): (Region, (Example, BTreeSet<Value>))| Change {
            region: Region {
                to: self.tell(&to),
                ..region
            },
            example,
        };
        let mut changes: Vec<Change> = changes.into_iter().map(change).collect();
        changes.sort_by(|a, b| (&a.region.to, &a.region).cmp(&(&b.region.to, &b.region)));
        changes
    }

    fn tell(&self, workloads: &BTreeSet<Value>) -> Vec<super::words::Phrase> {
        let mut set = self.destinations.dimension.none();
        workloads.iter().for_each(|value| set.insert(*value));
        self.destinations.dimension.tell(&set)
    }
}

/// Compares what two policies say of calls to workloads that are alike to both.
fn compare(
    old: &Policy,
    new: &Policy,
    workloads: BTreeSet<Value>,
    told: &mut Told<'_>,
) -> Result<Option<Compared>, TooLarge> {
    let first = workloads.first().copied().unwrap_or_default();
    let Some(workload) = told.destinations.dimension.examples.get(first) else {
        return Ok(None);
    };
    let trust_domain = new.trust_domain();
    let (old, new) = (old.for_workload(workload), new.for_workload(workload));
    let mut universe = Universe::new(trust_domain, &[&old, &new])?;
    let before = universe.allowed(&old)?;
    let after = universe.allowed(&new)?;
    let mut pair = Pair {
        universe,
        old: &old,
        new: &new,
        workload,
    };
    let mut regions = [Vec::new(), Vec::new()];
    for (is, was, allows) in [(after, before, true), (before, after, false)] {
        let set = pair.universe.diagrams.minus(is, was)?;
        let (cover, examples) = pair.cover(set)?;
        if cover.left != NONE {
            let to = super::tell::told(&told.tell(&workloads));
            if !told.cut_short.contains(&to) {
                told.cut_short.push(to);
            }
        }
        for (covered, call) in cover.regions.into_iter().zip(examples) {
            let example = pair.example(&covered, call, allows);
            let region = pair.universe.without_impossible(&covered.region)?;
            let region = pair.universe.tell(&region);
            told.add(allows, region, example, &workloads);
            if let Some(regions) = regions.get_mut(usize::from(!allows)) {
                regions.push(covered.region);
            }
        }
    }
    let [allowed, denied] = regions;
    Ok(Some(Compared {
        universe: pair.universe,
        workloads,
        allowed,
        denied,
    }))
}

/// Two policies about the same workload, and all calls to it.
struct Pair<'a> {
    universe: Universe,
    old: &'a WorkloadPolicy,
    new: &'a WorkloadPolicy,
    workload: &'a Workload,
}

impl Pair<'_> {
    /// Takes a set apart, with a call for every region.
    fn cover(&mut self, set: Set) -> Result<(Cover, Vec<ExampleCall>), TooLarge> {
        let mut attempts = 0_usize;
        loop {
            attempts = attempts.saturating_add(1);
            let cover = self.smallest_cover(set)?;
            let mut examples = Vec::with_capacity(cover.regions.len());
            for covered in &cover.regions {
                examples.extend(self.universe.realize(&covered.example, self.workload)?);
            }
            if examples.len() == cover.regions.len() {
                return Ok((cover, examples));
            }
            // There are no tokens for some: that is known now. So many tokens that exclude each other nobody has.
            if attempts == MOST_ATTEMPTS {
                return Err(TooLarge);
            }
        }
    }

    /// Of covers that grow in different orders the one with the fewest regions.
    fn smallest_cover(&mut self, set: Set) -> Result<Cover, TooLarge> {
        let impossible = self.universe.impossible()?;
        let universe = &mut self.universe;
        let conditions: Vec<Variable> =
            (SNI.max(FORWARDED_FOR) + 1..universe.diagrams.variables()).collect();
        let orders = [
            [FORWARDED_FOR, ADDRESS, SNI, HOST, PATH, METHOD, PORT, PEER],
            [PEER, PORT, PATH, METHOD, HOST, SNI, ADDRESS, FORWARDED_FOR],
        ];
        let ranks = universe.ranks();
        let mut best: Option<Cover> = None;
        for order in orders {
            let order: Vec<Variable> = conditions.iter().copied().chain(order).collect();
            let rank = |variable: Variable, value: Value| {
                let ranks: Option<&Vec<usize>> = ranks.get(variable);
                ranks
                    .and_then(|ranks| ranks.get(value))
                    .copied()
                    .unwrap_or(value)
            };
            let wish = Wish {
                order: &order,
                rank: &rank,
                most: MOST_REGIONS,
            };
            let found = cover(&mut universe.diagrams, set, impossible, &wish)?;
            let is_better = best.as_ref().is_none_or(|best| {
                (found.left != NONE, found.regions.len()) < (best.left != NONE, best.regions.len())
            });
            if is_better {
                best = Some(found);
            }
            if best.as_ref().is_some_and(|best| best.regions.len() < 2) {
                break;
            }
        }
        Ok(best.unwrap_or(Cover {
            regions: Vec::new(),
            left: set,
        }))
    }

    fn example(&self, covered: &Covered, call: ExampleCall, allows: bool) -> Example {
        let (before, after) = (call.judged_by(self.old), call.judged_by(self.new));
        let confirmed = before.is_allowed() != allows && after.is_allowed() == allows;
        let mut narrowed = covered.region.iter().enumerate();
        Example {
            confirmed,
            depends_on_conditions: narrowed
                .any(|(variable, values)| values.is_some() && self.universe.is_condition(variable)),
            before: Judgement::of(&before),
            after: Judgement::of(&after),
            call,
        }
    }
}
