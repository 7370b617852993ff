//! How calls to one workload have to arrive: what the `MeshMode` documents about it say together.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_identity::spiffe::system;

use crate::decision::DocumentOrigin;
use crate::document::{AmbiguousPaths, MeshMode, PeerMode};

/// What was said, and by which document.
#[derive(Clone, Debug)]
struct Said<T> {
    value: T,
    by: Arc<DocumentOrigin>,
}

/// How calls to one workload have to arrive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival {
    /// For ports that `ports` has not.
    mode: Option<Said<PeerMode>>,
    ports: HashMap<u16, Said<PeerMode>>,
    ambiguous_paths: AmbiguousPaths,
}

impl Arrival {
    /// Of the documents about one workload: what the highest rank says, and of equals the stricter.
    pub(crate) fn new(documents: &[(&MeshMode, Arc<DocumentOrigin>)]) -> Self {
        let ports = documents
            .iter()
            .flat_map(|(document, _)| document.ports.keys());
        let ports = ports.filter_map(|port| {
            let of_port = |document: &MeshMode| document.ports.get(port).copied().or(document.mode);
            Some((*port, decide(documents, of_port)?))
        });
        Self {
            mode: decide(documents, |document| document.mode),
            ports: ports.collect(),
            ambiguous_paths: decide(documents, |document| document.ambiguous_paths)
                .map_or_else(AmbiguousPaths::default, |said| said.value),
        }
    }

    /// Whether a caller of this port has to prove an identity.
    pub(crate) fn peer_mode(&self, port: u16) -> PeerMode {
        self.of_port(port)
            .map_or(PeerMode::default(), |said| said.value)
    }

    /// The document that says so.
    pub(crate) fn peer_mode_origin(&self, port: u16) -> Option<Arc<DocumentOrigin>> {
        self.of_port(port).map(|said| Arc::clone(&said.by))
    }

    pub(crate) fn ambiguous_paths(&self) -> AmbiguousPaths {
        self.ambiguous_paths
    }

    /// The ports that have a mode of their own.
    #[cfg(feature = "tools")]
    pub(crate) fn named_ports(&self) -> impl Iterator<Item = u16> {
        self.ports.keys().copied()
    }

    fn of_port(&self, port: u16) -> Option<&Said<PeerMode>> {
        self.ports.get(&port).or(self.mode.as_ref())
    }
}

fn decide<T: Ord>(
    documents: &[(&MeshMode, Arc<DocumentOrigin>)],
    says: impl Fn(&MeshMode) -> Option<T>,
) -> Option<Said<T>> {
    let saying = documents.iter().filter_map(|(document, origin)| {
        let said = Said {
            value: says(document)?,
            by: Arc::clone(origin),
        };
        Some((rank(document), said))
    });
    let highest = saying.max_by(|(rank, said), (other_rank, other)| {
        (rank, &said.value).cmp(&(other_rank, &other.value))
    });
    highest.map(|(_, said)| said)
}

/// What names its workloads outranks what is about a whole namespace, and a namespace's own outranks the root's.
pub(crate) fn rank(document: &MeshMode) -> (bool, bool) {
    let own = document.metadata.namespace.as_str() != system::NAMESPACE;
    (!document.target.is_all(), own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, parse};

    const MESH: &str = "{name: mesh, namespace: countersign-system}";
    const ROOT: &str = "{name: app, namespace: countersign-system}";
    const SHOP: &str = "{name: shop, namespace: shop}";
    const ORDERS: &str = "{name: orders, namespace: shop}";
    const TARGET: &str = "target: {labels: {app: orders}}, ";

    fn arrival(documents: &[(&str, String)]) -> Arrival {
        let text: String = documents
            .iter()
            .map(|(metadata, spec)| {
                format!("apiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {metadata}\nspec: {{{spec}}}\n---\n")
            })
            .collect();
        let documents = parse([("m.yaml".to_owned(), text)]).unwrap();
        let modes: Vec<_> = documents
            .iter()
            .map(|document| match document {
                Document::MeshMode(mode) => (mode, Arc::new(DocumentOrigin::of(document))),
                other => panic!("{other:?}"),
            })
            .collect();
        Arrival::new(&modes)
    }

    #[test]
    fn without_a_document_it_is_strict() {
        let none = arrival(&[]);
        assert_eq!(none.peer_mode(80), PeerMode::Strict);
        assert_eq!(none.peer_mode_origin(80), None);
        assert_eq!(none.ambiguous_paths(), AmbiguousPaths::Refuse);
    }

    #[test]
    fn what_is_said_more_closely_counts_and_of_equals_the_stricter() {
        let permissive = || "mode: permissive".to_owned();
        let strict = || "mode: strict".to_owned();
        let targeted = |mode: &str| format!("{TARGET}mode: {mode}");
        for (documents, expected) in [
            (vec![(MESH, permissive())], PeerMode::Permissive),
            (
                vec![(MESH, permissive()), (SHOP, strict())],
                PeerMode::Strict,
            ),
            (
                vec![(MESH, strict()), (SHOP, permissive())],
                PeerMode::Permissive,
            ),
            (
                vec![(SHOP, strict()), (ORDERS, targeted("permissive"))],
                PeerMode::Permissive,
            ),
            (
                vec![(ROOT, targeted("permissive")), (SHOP, strict())],
                PeerMode::Permissive,
            ),
            (
                vec![(ROOT, targeted("permissive")), (ORDERS, targeted("strict"))],
                PeerMode::Strict,
            ),
            (
                vec![(SHOP, permissive()), (ORDERS, strict())],
                PeerMode::Strict,
            ),
            (
                vec![(ORDERS, strict()), (SHOP, permissive())],
                PeerMode::Strict,
            ),
        ] {
            assert_eq!(arrival(&documents).peer_mode(80), expected, "{documents:?}");
        }
    }

    #[test]
    fn a_port_has_its_own_mode_and_what_is_not_said_is_inherited() {
        let both = arrival(&[
            (MESH, "mode: permissive, ambiguousPaths: accept".to_owned()),
            (ORDERS, format!("{TARGET}ports: {{'8080': strict}}")),
        ]);
        assert_eq!(both.peer_mode(8080), PeerMode::Strict);
        assert_eq!(
            both.peer_mode_origin(8080).unwrap().to_string(),
            "MeshMode shop/orders (m.yaml:6)"
        );
        assert_eq!(both.peer_mode(80), PeerMode::Permissive);
        assert_eq!(
            both.peer_mode_origin(80).unwrap().name,
            "countersign-system/mesh"
        );
        assert_eq!(both.ambiguous_paths(), AmbiguousPaths::Accept);
    }
}
