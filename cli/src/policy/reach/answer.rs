//! What is told of a graph, and what of it changed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use countersign_policy::RuleOrigin;
use countersign_policy::analysis::{Edge, Graph, Need, Node, Phrase, Reached};
use serde::Serialize;

/// A graph, and what is asked of it.
pub(super) struct Answer {
    pub(super) graph: Graph,
    /// The graph of an older policy, with the same nodes.
    pub(super) before: Option<Graph>,
    pub(super) from: Option<usize>,
    pub(super) to: Option<usize>,
    /// Whether nobody said which workloads there are.
    pub(super) assumed: bool,
    /// What the older policy was said to be in, and is not.
    pub(super) empty_before: Option<String>,
}

/// How far one node gets.
pub(super) struct Radius {
    pub(super) node: usize,
    /// How many workloads (or groups of them) it gets to.
    pub(super) reached: usize,
    pub(super) directly: usize,
    /// Over how many calls at most.
    pub(super) hops: usize,
    /// How many it got to before.
    pub(super) before: Option<usize>,
}

impl Answer {
    pub(super) fn name(&self, node: usize) -> &str {
        let node = self.graph.nodes.get(node);
        node.map_or("", |node| node.name.as_str())
    }

    /// What every answer rests on.
    pub(super) fn notes(&self) -> Vec<Cow<'static, str>> {
        let mut notes = Vec::new();
        if let Some(old) = &self.empty_before {
            notes.push(Cow::from(format!(
                "there was no policy in {old}: nobody could call anybody"
            )));
        }
        for end in [self.from, self.to].into_iter().flatten() {
            let node = self.graph.nodes.get(end);
            if let Some(node) = node.filter(|node| !node.known) {
                let name = &node.name;
                notes.push(Cow::from(format!(
                    "no policy names {name}: what is told holds for it if there is such a workload, which --directory would tell",
                )));
            }
        }
        if self.assumed {
            notes.push(
                "without --directory the workloads are those that the policy names; ones that it names by labels are taken to have the service account that is called like a label (orders, for app: orders), if it names one"
                    .into(),
            );
        }
        let edges = self.before.iter().chain([&self.graph]);
        let mut edges = edges.flat_map(|graph| &graph.edges);
        if edges.any(|edge| edge.needs.contains(&Need::Condition)) {
            notes.push(
                "CEL conditions are not looked into: a call that one might let through counts"
                    .into(),
            );
        }
        notes
    }

    /// How far everybody gets, who gets farthest first.
    pub(super) fn radii(&self) -> Vec<Radius> {
        let before = self.before.as_ref().map(Graph::radii);
        let radii = self.graph.radii().into_iter().enumerate();
        let mut radii: Vec<Radius> = radii
            .map(|(node, reached)| Radius {
                node,
                reached: reached.len(),
                directly: reached.iter().filter(|reached| reached.hops == 1).count(),
                hops: reached.last().map_or(0, |last| last.hops),
                before: before
                    .as_ref()
                    .map(|before| before.get(node).map_or(0, Vec::len)),
            })
            .collect();
        radii.sort_by_key(|radius| std::cmp::Reverse(radius.reached));
        radii
    }

    /// Edges that are new, and edges that are gone.
    pub(super) fn changed(&self) -> (Vec<&Edge>, Vec<&Edge>) {
        let Some(before) = &self.before else {
            return (Vec::new(), Vec::new());
        };
        let ends = |graph: &Graph| -> BTreeSet<(usize, usize)> {
            graph
                .edges
                .iter()
                .map(|edge| (edge.from, edge.to))
                .collect()
        };
        let (old, new) = (ends(before), ends(&self.graph));
        let not_in =
            |edges: &BTreeSet<(usize, usize)>, edge: &&Edge| !edges.contains(&(edge.from, edge.to));
        (
            self.graph
                .edges
                .iter()
                .filter(|edge| not_in(&old, edge))
                .collect(),
            before
                .edges
                .iter()
                .filter(|edge| not_in(&new, edge))
                .collect(),
        )
    }

    /// What the chosen node gets to or is got to by, now and before: nodes of both, of now only, of before only.
    pub(super) fn changed_reach(&self) -> Option<(Vec<usize>, Vec<usize>)> {
        let before = self.before.as_ref()?;
        let reached = |graph: &Graph| -> Option<BTreeSet<usize>> {
            let reached = match (self.from, self.to) {
                (Some(from), _) => graph.from(from),
                (None, Some(to)) => graph.to(to),
                (None, None) => return None,
            };
            Some(reached.into_iter().map(|reached| reached.node).collect())
        };
        let (old, new) = (reached(before)?, reached(&self.graph)?);
        Some((
            new.difference(&old).copied().collect(),
            old.difference(&new).copied().collect(),
        ))
    }

    /// The part of the graph that is asked for.
    pub(super) fn part(&self) -> Graph {
        let all = |reached: Vec<Reached>, node| -> BTreeSet<usize> {
            let reached = reached.into_iter().map(|reached| reached.node);
            reached.chain([node]).collect()
        };
        let from = self.from.map(|node| all(self.graph.from(node), node));
        let to = self.to.map(|node| all(self.graph.to(node), node));
        let kept: Vec<usize> = (0..self.graph.nodes.len())
            .filter(|node| {
                [&from, &to]
                    .into_iter()
                    .flatten()
                    .all(|part| part.contains(node))
            })
            .collect();
        let number = |node: usize| kept.binary_search(&node).ok();
        let edges = self.graph.edges.iter().filter_map(|edge| {
            Some(Edge {
                from: number(edge.from)?,
                to: number(edge.to)?,
                ..edge.clone()
            })
        });
        let nodes = kept.iter().filter_map(|node| self.graph.nodes.get(*node));
        Graph {
            edges: edges.collect(),
            nodes: nodes.cloned().collect(),
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Json<'_> {
        let reached = |graph: &Graph, reached: Vec<Reached>| -> Vec<JsonReached> {
            let told = reached.into_iter().map(|reached| JsonReached {
                name: self.name(reached.node).to_owned(),
                hops: reached.hops,
                over: graph
                    .edges
                    .get(reached.edge)
                    .map_or_else(Vec::new, |edge| edge.rules.clone()),
            });
            told.collect()
        };
        let names = |nodes: Vec<usize>| -> Vec<&str> {
            nodes.into_iter().map(|node| self.name(node)).collect()
        };
        let radii = self.radii();
        let (added, removed) = self.changed();
        let edge = |edge| JsonEdge::of(self, edge);
        let since = self.before.as_ref().map(|_| JsonSince {
            added: added.into_iter().map(edge).collect(),
            removed: removed.into_iter().map(edge).collect(),
            reach: self.changed_reach().map(|(gained, lost)| JsonChange {
                gained: names(gained),
                lost: names(lost),
            }),
        });
        Json {
            nodes: &self.graph.nodes,
            edges: self.graph.edges.iter().map(edge).collect(),
            radius: radii
                .into_iter()
                .map(|radius| JsonRadius {
                    name: self.name(radius.node),
                    reached: radius.reached,
                    directly: radius.directly,
                    hops: radius.hops,
                    before: radius.before,
                })
                .collect(),
            from: self.from.map(|node| JsonPart {
                name: self.name(node),
                reached: reached(&self.graph, self.graph.from(node)),
            }),
            to: self.to.map(|node| JsonPart {
                name: self.name(node),
                reached: reached(&self.graph, self.graph.to(node)),
            }),
            way: match (self.from, self.to) {
                (Some(from), Some(to)) => Some(self.graph.way(from, to).map(|way| {
                    let edges = way
                        .into_iter()
                        .filter_map(|edge| self.graph.edges.get(edge));
                    edges.map(edge).collect()
                })),
                _ => None,
            },
            since,
            notes: self.notes(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Json<'a> {
    nodes: &'a [Node],
    edges: Vec<JsonEdge<'a>>,
    radius: Vec<JsonRadius<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<JsonPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<JsonPart<'a>>,
    /// `null` is that there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<Option<Vec<JsonEdge<'a>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<JsonSince<'a>>,
    notes: Vec<Cow<'static, str>>,
}

#[derive(Serialize)]
struct JsonEdge<'a> {
    from: &'a str,
    to: &'a str,
    ports: &'a [Phrase],
    rules: &'a [RuleOrigin],
    needs: &'a [Need],
}

impl<'a> JsonEdge<'a> {
    fn of(answer: &'a Answer, edge: &'a Edge) -> Self {
        Self {
            from: answer.name(edge.from),
            to: answer.name(edge.to),
            ports: &edge.ports,
            rules: &edge.rules,
            needs: &edge.needs,
        }
    }
}

#[derive(Serialize)]
struct JsonRadius<'a> {
    name: &'a str,
    reached: usize,
    directly: usize,
    hops: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<usize>,
}

#[derive(Serialize)]
struct JsonPart<'a> {
    name: &'a str,
    reached: Vec<JsonReached>,
}

#[derive(Serialize)]
struct JsonReached {
    name: String,
    hops: usize,
    /// The rules of the last hop on a shortest way from the one, or of the first to the other.
    over: Vec<RuleOrigin>,
}

#[derive(Serialize)]
struct JsonSince<'a> {
    added: Vec<JsonEdge<'a>>,
    removed: Vec<JsonEdge<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reach: Option<JsonChange<'a>>,
}

#[derive(Serialize)]
struct JsonChange<'a> {
    gained: Vec<&'a str>,
    lost: Vec<&'a str>,
}
