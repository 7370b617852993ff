//! A graph for people.

use std::fmt::Write as _;

use countersign_policy::analysis::{Edge, Graph, Need, Reached, told};

use super::answer::Answer;
use crate::output::{Palette, Tone, printable};

pub(super) fn write(answer: &Answer, palette: Palette) -> String {
    let mut text = String::new();
    match (answer.from, answer.to) {
        (Some(from), Some(to)) => way(&mut text, answer, from, to, palette),
        (Some(node), None) => {
            let reached = answer.graph.from(node);
            let heading = format!("{} gets to {}", answer.name(node), counted(reached.len()));
            far(&mut text, answer, &heading, &reached, palette);
        }
        (None, Some(node)) => {
            let reached = answer.graph.to(node);
            let heading = format!("{} get to {}", counted(reached.len()), answer.name(node));
            far(&mut text, answer, &heading, &reached, palette);
        }
        (None, None) => all(&mut text, answer, palette),
    }
    changes(&mut text, answer, palette);
    for note in answer.notes() {
        let note = format!("note: {}", printable(&note));
        line(&mut text, &palette.paint(Tone::Faint, &note));
    }
    text
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}

fn heading(text: &mut String, palette: Palette, content: &str) {
    line(text, &palette.paint(Tone::Strong, &printable(content)));
}

fn counted(count: usize) -> String {
    match count {
        1 => "1 workload".to_owned(),
        more => format!("{more} workloads"),
    }
}

/// `a → b:8080  by "rule" (…)  with a token`
fn tell(answer: &Answer, edge: &Edge) -> String {
    let (from, to) = (answer.name(edge.from), answer.name(edge.to));
    printable(&format!("{from} → {to}{}", how(edge))).into_owned()
}

fn how(edge: &Edge) -> String {
    let mut text = match edge.ports.as_slice() {
        [] => String::new(),
        ports => format!(":{}", told(ports)),
    };
    let rules: Vec<String> = edge.rules.iter().map(ToString::to_string).collect();
    let rules = match rules.as_slice() {
        [] => "what no rule decides is allowed".to_owned(),
        rules => format!("by {}", rules.join(", ")),
    };
    let _ = write!(text, "  {rules}");
    if !edge.needs.is_empty() {
        let needs: Vec<&str> = edge.needs.iter().copied().map(Need::as_str).collect();
        let _ = write!(text, "  needs {}", needs.join(" and "));
    }
    text
}

fn all(text: &mut String, answer: &Answer, palette: Palette) {
    heading(text, palette, "who may call whom");
    if answer.graph.edges.is_empty() {
        line(text, "  nobody may call anybody");
    }
    for edge in &answer.graph.edges {
        line(text, &format!("  {}", tell(answer, edge)));
    }
    heading(text, palette, "how far somebody gets who has one of them");
    let radii = answer.radii();
    let width = radii
        .iter()
        .map(|radius| answer.name(radius.node).chars().count());
    let width = width.max().unwrap_or_default();
    for radius in radii {
        let name = printable(answer.name(radius.node)).into_owned();
        let mut told = format!("  {name:width$}  {}", counted(radius.reached));
        let _ = match radius.hops {
            0 => Ok(()),
            1 => write!(told, ", directly"),
            hops => write!(
                told,
                ", {} directly, the others over up to {hops} calls",
                radius.directly
            ),
        };
        match radius.before {
            Some(before) if before != radius.reached => {
                let _ = write!(told, "  (before: {before})");
            }
            _ => {}
        }
        line(text, &told);
    }
}

/// By hops; each with the edge over which it is got to.
fn far(text: &mut String, answer: &Answer, title: &str, reached: &[Reached], palette: Palette) {
    heading(text, palette, title);
    let mut hops = 0;
    for found in reached {
        if found.hops != hops {
            hops = found.hops;
            let over = match hops {
                1 => "directly".to_owned(),
                more => format!("over {more} calls"),
            };
            line(text, &format!("  {over}"));
        }
        if let Some(edge) = answer.graph.edges.get(found.edge) {
            line(text, &format!("    {}", tell(answer, edge)));
        }
    }
}

fn way(text: &mut String, answer: &Answer, from: usize, to: usize, palette: Palette) {
    let (from_name, to_name) = (answer.name(from), answer.name(to));
    let steps = |graph: &Graph| graph.way(from, to).map(|way| way.len());
    match answer.graph.way(from, to) {
        None => heading(
            text,
            palette,
            &format!("{from_name} does not get to {to_name}"),
        ),
        Some(way) => {
            let calls = match way.len() {
                1 => "directly".to_owned(),
                more => format!("over {more} calls"),
            };
            heading(
                text,
                palette,
                &format!("{from_name} gets to {to_name} {calls}"),
            );
            for edge in way.iter().filter_map(|edge| answer.graph.edges.get(*edge)) {
                line(text, &format!("  {}", tell(answer, edge)));
            }
        }
    }
    if let Some(before) = &answer.before {
        let told = match steps(before) {
            None => "before, it did not".to_owned(),
            Some(1) => "before, it did directly".to_owned(),
            Some(more) => format!("before, it did over {more} calls"),
        };
        line(text, &told);
    }
}

fn changes(text: &mut String, answer: &Answer, palette: Palette) {
    if answer.before.is_none() {
        return;
    }
    let (added, removed) = answer.changed();
    for (edges, title, tone) in [
        (
            added,
            "who may call whom now, and could not before",
            Tone::Warning,
        ),
        (
            removed,
            "who could call whom before, and may not now",
            Tone::Strong,
        ),
    ] {
        if !edges.is_empty() {
            line(text, &palette.paint(tone, title));
        }
        for edge in edges {
            line(text, &format!("  {}", tell(answer, edge)));
        }
    }
    if let Some((gained, lost)) = answer.changed_reach() {
        let names = |nodes: Vec<usize>| {
            let names: Vec<&str> = nodes.into_iter().map(|node| answer.name(node)).collect();
            printable(&match names.as_slice() {
                [] => "none".to_owned(),
                names => names.join(", "),
            })
            .into_owned()
        };
        line(
            text,
            &format!("got to now and not before: {}", names(gained)),
        );
        line(text, &format!("got to before and not now: {}", names(lost)));
    }
}
