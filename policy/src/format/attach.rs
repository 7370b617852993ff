//! Which node a comment belongs to: by its line, and where that leaves a choice, by its column.

use super::source::{Chunk, Remark};
use super::tree::{Collection, Comment, Content, Kind, Node};

/// Gives a document its comments.
pub(super) fn attach(chunk: &mut Chunk, remarks: Vec<Remark>, text: &str) {
    for remark in remarks {
        match chunk.root.as_mut() {
            Some(root) if remark.start > root.start => match &mut root.content {
                Content::Collection(collection) => {
                    place(collection, root.column, remark, text);
                }
                Content::Scalar(_) => chunk.above.push(remark.comment),
            },
            // Before everything: about the document, whatever its first field is.
            _ => chunk.above.push(remark.comment),
        }
    }
}

/// Puts a comment into a collection that starts before it, or into one of its children.
fn place(collection: &mut Collection, column: usize, remark: Remark, text: &str) {
    let next = collection
        .children
        .partition_point(|child| child.start() < remark.start);
    let is_last = next == collection.children.len();
    let flow = collection.flow;
    let Some(previous) = next
        .checked_sub(1)
        .and_then(|index| collection.children.get_mut(index))
    else {
        return lead(collection, next, remark);
    };
    let value = &mut previous.value;

    // Between a key and its value; what is seen of a block scalar begins behind its header.
    if remark.start < value.start {
        let is_block = value.collection().is_some_and(|inner| !inner.flow);
        match value.collection_mut() {
            _ if !remark.own_line => previous.head.push(remark.comment.text),
            Some(inner) if is_block => lead(inner, 0, remark),
            _ => previous.above.push(remark.comment),
        }
        return;
    }

    let inside = remark.start < value.end;
    if inside
        || continues(value, &remark, text)
        || goes_below(value, &remark, flow, column, is_last)
    {
        let place_of_value = value.column;
        if let Some(inner) = value.collection_mut() {
            // Behind an opening bracket.
            let first = inner
                .children
                .first()
                .is_none_or(|child| remark.start < child.start());
            if first && !remark.own_line {
                previous.head.push(remark.comment.text);
            } else {
                place(inner, place_of_value, remark, text);
            }
            return;
        }
    }
    if !remark.own_line && on_one_line(text, value.end, remark.start) {
        previous.beside.push(remark.comment.text);
    } else {
        lead(collection, next, remark);
    }
}

/// Above the child that comes next, or below the last.
fn lead(collection: &mut Collection, next: usize, remark: Remark) {
    match collection.children.get_mut(next) {
        Some(child) => child.above.push(remark.comment),
        None => collection.below.push(remark.comment),
    }
}

/// Whether a comment stands on the last line of a block collection: then it is its last child's.
fn continues(value: &Node, remark: &Remark, text: &str) -> bool {
    let is_block = value.collection().is_some_and(|inner| !inner.flow);
    is_block && !remark.own_line && on_one_line(text, value.end, remark.start)
}

/// Whether a comment behind a value is one of the value's own lines: as far to the right as they are. One that could be
/// the value's and could lead what follows, at `column`, leads it.
fn goes_below(value: &Node, remark: &Remark, in_flow: bool, column: usize, is_last: bool) -> bool {
    let is_block = value.collection().is_some_and(|inner| !inner.flow);
    is_block
        && !in_flow
        && remark.own_line
        && remark.column >= value.column
        && (remark.column > column || is_last)
}

fn on_one_line(text: &str, from: usize, to: usize) -> bool {
    !text.get(from..to).unwrap_or_default().contains('\n')
}

/// Comments that have no line to stand on go above: a line holds one, and an item begins with its first field.
pub(super) fn hoist(node: &mut Node) {
    let Some(collection) = node.collection_mut() else {
        return;
    };
    let is_list = collection.kind == Kind::List;
    for child in &mut collection.children {
        hoist(&mut child.value);
        if is_list && let Some(inner) = child.value.collection_mut() {
            match inner.children.first_mut() {
                Some(first) => child.above.append(&mut first.above),
                None => child.above.append(&mut inner.below),
            }
        }
        child.head.append(&mut child.beside);
        let more = child.head.split_off(child.head.len().min(1));
        child.above.extend(more.into_iter().map(Comment::of));
    }
}
