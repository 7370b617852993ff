//! A graph as a drawing: who calls stands left of whom it calls, wherever they do not call each other in a circle.

use std::fmt::Write as _;

use countersign_policy::analysis::{Graph, Kind, Node};

use super::dot::rules;

/// More than that nobody can read.
const MOST_NODES: usize = 400;
const MOST_EDGES: usize = 4_000;

/// A viewer in the dark gets light lines on dark ground.
/// Without variables, which not every program that draws knows.
const STYLE: &str = "<style>\
    .ground{fill:#fff}text{fill:#1b1f24}.title{font-size:16px;font-weight:600}\
    .edge{fill:none;stroke:#57606a}.end{fill:#57606a}.node{stroke:#57606a}\
    .workload{fill:#e8f0fe}.group{fill:#f3f4f6}.foreign{fill:#fff1d6}.anonymous{fill:#fde3e3}\
    @media (prefers-color-scheme:dark){\
    .ground{fill:#0d1117}text{fill:#e6edf3}.edge,.node{stroke:#9aa4af}.end{fill:#9aa4af}\
    .workload{fill:#17315c}.group{fill:#21262d}.foreign{fill:#4a3410}.anonymous{fill:#5a1e22}}</style>";

const TITLE: &str = "Who may call whom";
/// What the lines and boxes mean, one text a line.
const LEGEND: [&str; 2] = [
    "Dashed lines: needs more than an identity, such as a token or a condition.",
    "Dashed boxes: several workloads, or callers without an identity.",
];

/// Pixels.
const CHARACTER: usize = 8;
const HEIGHT: usize = 28;
const ROW: usize = 44;
const GAP: usize = 120;
const MARGIN: usize = 20;
/// The title, and a line of the legend.
const HEAD: usize = 36;
const LINE: usize = 18;
/// From the middle of a line of text to where it stands.
const BASE: usize = 5;

/// Where a node is drawn.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    row: usize,
    x: usize,
    width: usize,
}

impl Place {
    fn y(self) -> usize {
        MARGIN + HEAD + self.row * ROW
    }

    fn middle(self) -> usize {
        self.y() + HEIGHT / 2
    }
}

/// Draws the graph; `None` if it is too large.
pub(super) fn draw(graph: &Graph) -> Option<String> {
    if graph.nodes.len() > MOST_NODES || graph.edges.len() > MOST_EDGES {
        return None;
    }
    let places = places(graph);
    let right = places.iter().map(|place| place.x + place.width).max();
    let bottom = places.iter().map(|place| place.y() + HEIGHT).max();
    // Nobody wants to guess at the end of a text.
    let longest = LEGEND.into_iter().map(|text| text.len() * CHARACTER).max();
    let right = right
        .unwrap_or_default()
        .max(MARGIN + longest.unwrap_or_default());
    let below = bottom.unwrap_or(MARGIN + HEAD) + MARGIN;
    let (width, height) = (right + MARGIN, below + LEGEND.len() * LINE + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\">\n\
         <title>{TITLE}</title>\n{STYLE}\n\
         <defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto-start-reverse\"><path class=\"end\" d=\"M0 0 8 4 0 8z\"/></marker></defs>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{TITLE}</text>\n",
        MARGIN + HEAD / 2
    );
    for (text, number) in LEGEND.into_iter().zip(0..) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{}\" font-size=\"12\">{text}</text>",
            below + number * LINE + LINE / 2
        );
    }
    for edge in &graph.edges {
        let (Some(from), Some(to)) = (places.get(edge.from), places.get(edge.to)) else {
            continue;
        };
        let (x1, y1) = (from.x + from.width, from.middle());
        let (x2, y2) = (to.x, to.middle());
        let bend = (GAP / 2).max(x1.abs_diff(x2) / 2);
        let dashed = match edge.needs.is_empty() {
            true => "",
            false => " stroke-dasharray=\"5 3\"",
        };
        let back = i64::try_from(x2).unwrap_or_default() - i64::try_from(bend).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<path d=\"M{x1} {y1}C{} {y1} {back} {y2} {x2} {y2}\" class=\"edge\"{dashed} marker-end=\"url(#end)\"><title>{}</title></path>",
            x1 + bend,
            escaped(&rules(edge))
        );
    }
    for (node, place) in graph.nodes.iter().zip(&places) {
        draw_node(&mut svg, node, *place);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn draw_node(svg: &mut String, node: &Node, place: Place) {
    let (class, dashed) = match node.kind {
        Kind::Workload => ("workload", ""),
        Kind::Group => ("group", " stroke-dasharray=\"5 3\""),
        Kind::Foreign => ("foreign", ""),
        Kind::Anonymous => ("anonymous", " stroke-dasharray=\"5 3\""),
    };
    let (x, y, width) = (place.x, place.y(), place.width);
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"4\" class=\"node {class}\"{dashed}/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        x + width / 2,
        place.middle() + BASE,
        escaped(&node.name)
    );
}

fn places(graph: &Graph) -> Vec<Place> {
    let columns = columns(graph);
    let mut places: Vec<Place> = graph
        .nodes
        .iter()
        .map(|node| Place {
            width: node.name.chars().count() * CHARACTER + 2 * CHARACTER,
            ..Place::default()
        })
        .collect();
    let last = columns.iter().copied().max().unwrap_or_default();
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); last + 1];
    for (node, column) in columns.iter().enumerate() {
        if let Some(order) = order.get_mut(*column) {
            order.push(node);
        }
    }
    set_rows(&mut places, &order);
    // A node stands about where its neighbours do: fewer lines cross.
    for round in 0..6 {
        let weights: Vec<f64> = (0..graph.nodes.len())
            .map(|node| {
                let neighbours = graph.edges.iter().filter_map(|edge| match round % 2 {
                    0 if edge.to == node => Some(edge.from),
                    1 if edge.from == node => Some(edge.to),
                    _ => None,
                });
                let rows: Vec<usize> = neighbours
                    .filter_map(|neighbour| places.get(neighbour).map(|place| place.row))
                    .collect();
                let own = places.get(node).map_or(0, |place| place.row);
                match rows.len() {
                    // Who neither calls nor is called stands below.
                    0 if is_idle(graph, node) => f64::MAX,
                    0 => own as f64,
                    count => rows.iter().sum::<usize>() as f64 / count as f64,
                }
            })
            .collect();
        for column in &mut order {
            column.sort_by(|a, b| {
                let weight = |node: &usize| weights.get(*node).copied().unwrap_or_default();
                weight(a).total_cmp(&weight(b))
            });
        }
        set_rows(&mut places, &order);
    }
    let mut x = MARGIN;
    for column in &order {
        let widths = column
            .iter()
            .filter_map(|node| places.get(*node).map(|p| p.width));
        let widest = widths.max().unwrap_or_default();
        for node in column {
            if let Some(place) = places.get_mut(*node) {
                place.x = x;
            }
        }
        x += widest + GAP;
    }
    places
}

fn is_idle(graph: &Graph, node: usize) -> bool {
    !graph
        .edges
        .iter()
        .any(|edge| edge.from == node || edge.to == node)
}

/// Columns are centred beside each other.
fn set_rows(places: &mut [Place], order: &[Vec<usize>]) {
    let longest = order.iter().map(Vec::len).max().unwrap_or_default();
    for column in order {
        let first = (longest - column.len()) / 2;
        for (row, node) in column.iter().enumerate() {
            if let Some(place) = places.get_mut(*node) {
                place.row = first + row;
            }
        }
    }
}

/// The column of each node: right of all that call it, edges that close a circle left out.
fn columns(graph: &Graph) -> Vec<usize> {
    let count = graph.nodes.len();
    let mut calls: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut callers = vec![0_usize; count];
    for edge in &graph.edges {
        if let Some(calls) = calls.get_mut(edge.from) {
            calls.push(edge.to);
        }
        if let Some(callers) = callers.get_mut(edge.to) {
            *callers += 1;
        }
    }
    let mut columns: Vec<Option<usize>> = vec![None; count];
    let mut placed = vec![0_usize; count];
    while let Some(next) = (0..count)
        .filter(|node| columns.get(*node) == Some(&None))
        // Whoever nobody calls any more; in a circle, whoever is called by fewest.
        .min_by_key(|node| callers.get(*node).copied().unwrap_or_default())
    {
        let column = placed.get(next).copied().unwrap_or_default();
        if let Some(slot) = columns.get_mut(next) {
            *slot = Some(column);
        }
        for called in calls.get(next).into_iter().flatten() {
            if let Some(callers) = callers.get_mut(*called) {
                *callers = callers.saturating_sub(1);
            }
            if let Some(placed) = placed.get_mut(*called) {
                *placed = (*placed).max(column + 1);
            }
        }
    }
    columns.into_iter().map(Option::unwrap_or_default).collect()
}

/// Text for XML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use countersign_policy::analysis::Edge;

    use super::*;

    fn graph(names: &[&str], edges: &[(usize, usize)]) -> Graph {
        Graph {
            nodes: names
                .iter()
                .map(|name| Node {
                    name: (*name).to_owned(),
                    kind: Kind::Workload,
                    callable: true,
                    known: true,
                })
                .collect(),
            edges: edges
                .iter()
                .map(|&(from, to)| Edge {
                    from,
                    to,
                    ports: Vec::new(),
                    rules: Vec::new(),
                    needs: Vec::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn who_calls_stands_left_of_whom_it_calls() {
        let chain = graph(&["c", "a", "b"], &[(1, 2), (2, 0), (1, 0)]);
        assert_eq!(columns(&chain), [2, 0, 1]);
        // A circle is cut somewhere.
        let circle = graph(&["a", "b", "c"], &[(0, 1), (1, 2), (2, 0)]);
        assert_eq!(columns(&circle), [0, 1, 2]);
    }

    #[test]
    fn no_two_nodes_stand_on_the_same_place() {
        let graph = graph(
            &["a", "b", "c", "d", "e"],
            &[(0, 2), (1, 2), (0, 3), (2, 4), (4, 0)],
        );
        let places = places(&graph);
        let mut spots: Vec<(usize, usize)> = places.iter().map(|p| (p.x, p.row)).collect();
        spots.sort_unstable();
        spots.dedup();
        assert_eq!(spots.len(), 5);
    }

    #[test]
    fn a_drawing_is_xml_whatever_nodes_are_called() {
        let svg = draw(&graph(&["<a>&\"b\""], &[])).unwrap();
        assert!(svg.contains(">&lt;a&gt;&amp;&quot;b&quot;</text>"), "{svg}");
        assert!(draw(&graph(&[], &[])).unwrap().ends_with("</svg>\n"));
        let many: Vec<&str> = vec!["x"; MOST_NODES + 1];
        assert_eq!(draw(&graph(&many, &[])), None);
    }
}
