//! A graph in the language of Graphviz.

use std::fmt::Write as _;

use countersign_policy::analysis::{Edge, Graph, Kind, told};

pub(super) fn write(graph: &Graph) -> String {
    let mut text = String::from(
        "digraph reach {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for (number, node) in graph.nodes.iter().enumerate() {
        let style = match node.kind {
            Kind::Workload => "",
            Kind::Group => ", style=dashed",
            Kind::Foreign => ", style=rounded",
            Kind::Anonymous => ", style=\"rounded,dashed\"",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  n{number} [label={}{style}];", quoted(&node.name));
    }
    for edge in &graph.edges {
        let style = match edge.needs.is_empty() {
            true => "",
            false => ", style=dashed",
        };
        let _ = writeln!(
            text,
            "  n{} -> n{} [label={}, tooltip={}{style}];",
            edge.from,
            edge.to,
            quoted(&told(&edge.ports)),
            quoted(&rules(edge))
        );
    }
    text.push_str("}\n");
    text
}

/// What is behind an edge, a line each.
pub(super) fn rules(edge: &Edge) -> String {
    let rules = edge.rules.iter().map(ToString::to_string);
    let needs = edge
        .needs
        .iter()
        .map(|need| format!("needs {}", need.as_str()));
    rules.chain(needs).collect::<Vec<_>>().join("\n")
}

/// A text of the language: only quotation marks and backslashes are special in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push('\u{fffd}'),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_their_quotation() {
        assert_eq!(quoted("a\"b\\\n"), r#""a\"b\\\n""#);
    }
}
