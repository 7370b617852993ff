//! Puts fields in their order, with the comments that are beside them.

use super::attach::hoist;
use super::order::{DOCUMENT, Shape, of_spec};
use super::tree::{Collection, Kind, Node};

/// The document with its fields in order and every comment on a line where one can stand.
pub(super) fn arranged(root: &Node) -> Node {
    let mut root = root.clone();
    if let Some(document) = root.collection_mut() {
        let spec = of_spec(document.get_text("kind").unwrap_or_default());
        sort(document, &DOCUMENT);
        let specs = document
            .children
            .iter_mut()
            .filter(|child| child.name() == Some("spec"));
        for collection in specs.filter_map(|child| child.value.collection_mut()) {
            sort(collection, spec);
        }
    }
    hoist(&mut root);
    root
}

/// Items of a list have the shape of the list.
fn sort(collection: &mut Collection, shape: &Shape) {
    if collection.kind == Kind::Mapping {
        collection
            .children
            .sort_by_key(|child| shape.place_of(child.name().unwrap_or_default()));
    }
    for child in &mut collection.children {
        let shape = child
            .key
            .as_ref()
            .map_or(Some(shape), |key| shape.of_field(&key.scalar.text));
        if let (Some(inner), Some(shape)) = (child.value.collection_mut(), shape) {
            sort(inner, shape);
        }
    }
}
