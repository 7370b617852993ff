//! Who may call whom, as a graph, and how far somebody gets who has one workload.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use super::diagram::{NONE, Set, TooLarge, Value};
use super::nodes::{Candidate, Kind, candidates};
use super::universe::{PEER, PORT, Universe};
use super::words::Phrase;
use crate::call::Workload;
use crate::document::Action;
use crate::policy::concerns;
use crate::rule::CompiledRule;
use crate::workload_policy::{Otherwise, WorkloadPolicy};
use crate::{Policy, RuleOrigin};

/// Somebody who calls, is called, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What it is called, once in a graph.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
    /// Whether it can be called.
    pub callable: bool,
    /// Whether a policy names it or the directory has it; else it is here because it was asked about.
    pub known: bool,
}

/// A node may call another: some call at least is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The number of the node that calls.
    #[serde(skip)]
    pub from: usize,
    /// The number of the node that is called.
    #[serde(skip)]
    pub to: usize,
    /// On which ports; empty is any.
    pub ports: Vec<Phrase>,
    /// The rules that allow it; empty where policies allow what no rule decides.
    pub rules: Vec<RuleOrigin>,
    /// What the caller needs besides its identity for any such call.
    pub needs: Vec<Need>,
}

/// What a caller needs besides its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// A user's token.
    Token,
    /// A transaction token.
    Intent,
    /// A CEL condition has to turn out right; they are not looked into.
    Condition,
}

impl Need {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "a token",
            Self::Intent => "a transaction token",
            Self::Condition => "a condition",
        }
    }
}

/// Who may call whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Everybody.
    pub nodes: Vec<Node>,
    /// Sorted by caller and called.
    pub edges: Vec<Edge>,
}

/// A node that somebody gets to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its number.
    pub node: usize,
    /// Over how many calls.
    pub hops: usize,
    /// The number of the last edge on a shortest way.
    pub edge: usize,
}

/// The graph of some policy: of the workloads of a directory, or else of those that policies name. `named` are further
/// workloads, by namespace and service account. Several policies are given where their graphs are to have the same
/// nodes.
///
/// # Errors
/// The policies are too large.
pub fn reach(
    policies: &[&Policy],
    directory: Option<&[Workload]>,
    named: &[Workload],
) -> Result<Vec<Graph>, TooLarge> {
    let candidates = candidates(policies, directory, named);
    policies
        .iter()
        .map(|policy| graph(policy, &candidates))
        .collect()
}

fn graph(policy: &Policy, candidates: &[Candidate]) -> Result<Graph, TooLarge> {
    let mut called: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (number, candidate) in candidates.iter().enumerate() {
        let Some(workload) = &candidate.workload else {
            continue;
        };
        let documents = policy.documents().iter().enumerate();
        let about = documents.filter(|(_, compiled)| concerns(&compiled.document, workload));
        let about = about.map(|(number, _)| number).collect();
        called.entry(about).or_default().push(number);
    }
    let mut edges = Vec::new();
    for alike in called.into_values() {
        let first = alike.first().and_then(|number| candidates.get(*number));
        let Some(workload) = first.and_then(|candidate| candidate.workload.as_ref()) else {
            continue;
        };
        let mut callee = Callee::new(policy, workload)?;
        for (from, candidate) in candidates.iter().enumerate() {
            let Some(edge) = callee.edge(candidate)? else {
                continue;
            };
            for to in alike.iter().filter(|to| **to != from) {
                edges.push(Edge {
                    from,
                    to: *to,
                    ..edge.clone()
                });
            }
        }
    }
    edges.sort_by_key(|edge| (edge.from, edge.to));
    let node = |candidate: &Candidate| Node {
        name: candidate.name.clone(),
        kind: candidate.kind,
        callable: candidate.workload.is_some(),
        known: candidate.known,
    };
    Ok(Graph {
        nodes: candidates.iter().map(node).collect(),
        edges,
    })
}

/// Workloads that are called, about which the same documents are.
struct Callee {
    universe: Universe,
    /// The calls that may be allowed, and those that are whatever conditions say.
    allowed: Set,
    certain: Set,
    /// Allow rules.
    rules: Vec<(RuleOrigin, Set)>,
    without_token: Set,
    without_intent: Set,
    /// By the class of the peer.
    edges: HashMap<Value, Option<Edge>>,
}

impl Callee {
    fn new(policy: &Policy, workload: &Workload) -> Result<Self, TooLarge> {
        let policy_of = policy.for_workload(workload);
        let mut universe = Universe::new(policy.trust_domain(), &[&policy_of])?;
        let impossible = universe.impossible()?;
        let allowed = universe.allowed(&policy_of)?;
        let allowed = universe.diagrams.minus(allowed, impossible)?;
        let certain = certain(&mut universe, &policy_of)?;
        let certain = universe.diagrams.and(certain, allowed)?;
        let mut rules = Vec::new();
        for rule in enforced(&policy_of, Action::Allow) {
            let set = universe.rule(rule)?;
            rules.push((RuleOrigin::clone(&rule.origin), set));
        }
        Ok(Self {
            without_token: universe.without_tokens()?,
            without_intent: universe.without_intent()?,
            universe,
            allowed,
            certain,
            rules,
            edges: HashMap::new(),
        })
    }

    /// How a node may call; `None` if it may not. The edge's ends are left open.
    fn edge(&mut self, caller: &Candidate) -> Result<Option<Edge>, TooLarge> {
        let Some(value) = self.universe.peer(caller.peer.as_ref()) else {
            return Ok(None);
        };
        if let Some(known) = self.edges.get(&value) {
            return Ok(known.clone());
        }
        let edge = self.edge_of(value)?;
        self.edges.insert(value, edge.clone());
        Ok(edge)
    }

    fn edge_of(&mut self, peer: Value) -> Result<Option<Edge>, TooLarge> {
        let diagrams = &mut self.universe.diagrams;
        let peer = diagrams.value(PEER, peer)?;
        let calls = diagrams.and(self.allowed, peer)?;
        if calls == NONE {
            return Ok(None);
        }
        let mut rules = Vec::new();
        for (origin, set) in &self.rules {
            if diagrams.and(calls, *set)? != NONE {
                rules.push(origin.clone());
            }
        }
        let mut ports = self.universe.ports.dimension.none();
        for value in 0..ports.len() {
            let port = diagrams.value(PORT, value)?;
            if diagrams.and(calls, port)? != NONE {
                ports.insert(value);
            }
        }
        let certain = diagrams.and(self.certain, peer)?;
        let mut needs = Vec::new();
        let base = match certain {
            NONE => {
                needs.push(Need::Condition);
                calls
            }
            some => some,
        };
        for (without, need) in [
            (self.without_token, Need::Token),
            (self.without_intent, Need::Intent),
        ] {
            if diagrams.and(base, without)? == NONE {
                needs.push(need);
            }
        }
        needs.sort_unstable();
        Ok(Some(Edge {
            from: 0,
            to: 0,
            ports: self.universe.ports.dimension.tell(&ports),
            rules,
            needs,
        }))
    }
}

fn enforced(
    policy: &WorkloadPolicy,
    action: Action,
) -> impl Iterator<Item = &std::sync::Arc<CompiledRule>> {
    let rules = policy.rules().iter();
    rules.filter(move |rule| !rule.observe && rule.rule.action == action)
}

/// The calls that are allowed whatever conditions say.
fn certain(universe: &mut Universe, policy: &WorkloadPolicy) -> Result<Set, TooLarge> {
    let mut allow = Vec::new();
    for rule in enforced(policy, Action::Allow).filter(|rule| rule.condition.is_none()) {
        allow.push(universe.rule(rule)?);
    }
    let mut deny = vec![universe.refused(policy)?];
    for rule in enforced(policy, Action::Deny) {
        deny.push(universe.unconditioned(rule)?);
    }
    let allowed = match policy.otherwise() {
        Otherwise::Allow(_) => super::diagram::ALL,
        _ => universe.diagrams.any(allow)?,
    };
    let denied = universe.diagrams.any(deny)?;
    universe.diagrams.minus(allowed, denied)
}

impl Graph {
    /// The number of the node of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The edges by caller, or by called.
    fn neighbours(&self, backwards: bool) -> Vec<Vec<usize>> {
        let mut neighbours = vec![Vec::new(); self.nodes.len()];
        for (number, edge) in self.edges.iter().enumerate() {
            let at = if backwards { edge.to } else { edge.from };
            if let Some(list) = neighbours.get_mut(at) {
                list.push(number);
            }
        }
        neighbours
    }

    /// Whom somebody gets to who has this node, nearest first.
    #[must_use]
    pub fn from(&self, node: usize) -> Vec<Reached> {
        self.walk(node, &self.neighbours(false), false)
    }

    /// Who gets to this node, nearest first.
    #[must_use]
    pub fn to(&self, node: usize) -> Vec<Reached> {
        self.walk(node, &self.neighbours(true), true)
    }

    /// [`from`](Self::from) of every node.
    #[must_use]
    pub fn radii(&self) -> Vec<Vec<Reached>> {
        let neighbours = self.neighbours(false);
        let nodes = 0..self.nodes.len();
        nodes
            .map(|node| self.walk(node, &neighbours, false))
            .collect()
    }

    fn walk(&self, start: usize, neighbours: &[Vec<usize>], backwards: bool) -> Vec<Reached> {
        let mut seen = vec![false; self.nodes.len()];
        if let Some(seen) = seen.get_mut(start) {
            *seen = true;
        }
        let mut queue = VecDeque::from([(start, 0_usize)]);
        let mut reached = Vec::new();
        while let Some((at, hops)) = queue.pop_front() {
            for number in neighbours.get(at).into_iter().flatten() {
                let Some(edge) = self.edges.get(*number) else {
                    continue;
                };
                let next = if backwards { edge.from } else { edge.to };
                match seen.get_mut(next) {
                    Some(seen) if !*seen => *seen = true,
                    _ => continue,
                }
                let hops = hops.saturating_add(1);
                reached.push(Reached {
                    node: next,
                    hops,
                    edge: *number,
                });
                queue.push_back((next, hops));
            }
        }
        reached
    }

    /// The edges of a shortest way from one node to another that it gets to; `None` if it does not.
    #[must_use]
    pub fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let reached: HashMap<usize, Reached> = self
            .from(from)
            .into_iter()
            .map(|reached| (reached.node, reached))
            .collect();
        let mut way = Vec::new();
        let mut at = to;
        while at != from {
            let step = reached.get(&at)?;
            way.push(step.edge);
            at = self.edges.get(step.edge)?.from;
        }
        way.reverse();
        Some(way)
    }
}

#[cfg(test)]
mod tests {
    use countersign_identity::TrustDomain;

    use super::*;
    use crate::document;

    fn policy(text: &str) -> Policy {
        let documents = document::parse([("p.yaml".to_owned(), text.to_owned())]).unwrap();
        let domain = TrustDomain::parse("shop.example").unwrap();
        Policy::compile("r", &domain, documents).unwrap()
    }

    fn access(account: &str, rules: &str) -> String {
        format!(
            "---\napiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: {account}, namespace: shop}}\nspec:\n  target: {{workloads: [{account}]}}\n  rules:\n{rules}"
        )
    }

    fn edges(graph: &Graph) -> Vec<String> {
        let told = graph.edges.iter().map(|edge| {
            let name = |node: usize| graph.nodes[node].name.clone();
            let needs: String = edge.needs.iter().map(|need| format!(" {need:?}")).collect();
            format!(
                "{} {}:{}{needs}",
                name(edge.from),
                name(edge.to),
                super::super::tell::told(&edge.ports)
            )
        });
        told.collect()
    }

    const ISSUER: &str = "---\napiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {name: corp, namespace: shop}\nspec: {issuer: https://login.example, audiences: [shop]}\n";

    #[test]
    fn edges_are_calls_that_are_allowed_and_say_what_they_need() {
        let text = access(
            "orders",
            "  - {name: web, action: allow, from: [{workload: shop/web}], to: [{ports: [8080], methods: [GET]}]}\n  - {name: none, action: deny, to: [{methods: [GET], ports: [9090]}]}\n",
        ) + &access(
            "payments",
            "  - {name: orders, action: allow, from: [{workload: shop/orders}], subject: {issuer: corp}}\n",
        ) + &access(
            "ledger",
            "  - {name: payments, action: allow, from: [{workload: shop/payments}], when: 'time > timestamp(\"2026-01-01T00:00:00Z\")'}\n  - {name: in vain, action: allow, from: [{workload: shop/web}], to: [{ports: [1]}]}\n  - {name: no web, action: deny, from: [{workload: shop/web}]}\n",
        ) + ISSUER;
        let graph = reach(&[&policy(&text)], None, &[]).unwrap().remove(0);
        assert_eq!(
            edges(&graph),
            [
                "shop/orders shop/payments:any Token",
                "shop/payments shop/ledger:any Condition",
                "shop/web shop/orders:8080",
            ]
        );
        let web = graph.find("shop/web").unwrap();
        let reached = graph.from(web);
        let named: Vec<(&str, usize)> = reached
            .iter()
            .map(|r| (graph.nodes[r.node].name.as_str(), r.hops))
            .collect();
        assert_eq!(
            named,
            [("shop/orders", 1), ("shop/payments", 2), ("shop/ledger", 3)]
        );
        let ledger = graph.find("shop/ledger").unwrap();
        assert_eq!(graph.to(ledger).len(), 3);
        let way = graph.way(web, ledger).unwrap();
        let rules: Vec<&str> = way
            .iter()
            .map(|edge| graph.edges[*edge].rules[0].rule.as_str())
            .collect();
        assert_eq!(rules, ["web", "orders", "payments"]);
        assert_eq!(graph.way(ledger, web), None);
        assert_eq!(graph.radii()[web], reached);
    }

    #[test]
    fn who_is_from_elsewhere_or_has_no_name_is_a_node_too() {
        let text = access(
            "orders",
            "  - {name: partner, action: allow, from: [{spiffe: 'spiffe://partner.example/ns/a/**'}]}\n  - {name: shop, action: allow, from: [{namespace: shop}], to: [{ports: [8080]}]}\n  - {name: strangers, action: allow, from: [{anonymous: true}], to: [{ports: [80]}]}\n",
        ) + "---\napiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {name: m, namespace: shop}\nspec: {mode: permissive}\n";
        let graph = reach(&[&policy(&text)], None, &[]).unwrap().remove(0);
        assert_eq!(
            edges(&graph),
            [
                "anonymous callers shop/orders:80",
                "others of shop shop/orders:8080",
                "spiffe://partner.example/ns/a/** shop/orders:any",
            ]
        );
        let partner = graph.find("spiffe://partner.example/ns/a/**").unwrap();
        assert!(!graph.nodes[partner].callable);
    }

    #[test]
    fn labels_stand_for_the_account_that_is_called_like_them() {
        let labels = |name: &str, labels: &str, rules: &str| {
            format!(
                "---\napiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{target: {{labels: {{{labels}}}}}, rules: [{rules}]}}\n"
            )
        };
        let allow =
            |from: &str| format!("{{name: x, action: allow, from: [{{workload: shop/{from}}}]}}");
        let text = labels("orders", "app: orders", &allow("web"))
            + &labels("payments", "app: payments", &allow("orders"))
            + &labels("a", "app: batch, tier: a", &allow("payments"))
            + &labels("b", "app: batch, tier: b", &allow("batch"));
        let graph = reach(&[&policy(&text)], None, &[]).unwrap().remove(0);
        assert_eq!(
            edges(&graph),
            [
                "shop/* {app: batch, tier: a} shop/* {app: batch, tier: b}:any",
                "shop/batch shop/* {app: batch, tier: b}:any",
                "shop/orders shop/payments:any",
                "shop/payments shop/* {app: batch, tier: a}:any",
                "shop/web shop/orders:any",
            ]
        );
    }

    #[test]
    fn with_a_directory_the_nodes_are_its_workloads() {
        let text = "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  target: {labels: {app: orders}}\n  rules: [{name: all, action: allow, from: [{workload: shop/web}]}]\n";
        let workload = |account: &str, app: &str| Workload {
            namespace: "shop".to_owned(),
            service_account: account.to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
        };
        let directory = [
            workload("orders", "orders"),
            workload("orders", "canary"),
            workload("web", "web"),
        ];
        let graph = reach(&[&policy(text)], Some(&directory), &[])
            .unwrap()
            .remove(0);
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "shop/orders {app: canary}",
                "shop/orders {app: orders}",
                "shop/web"
            ]
        );
        assert_eq!(edges(&graph), ["shop/web shop/orders {app: orders}:any"]);
    }
}
