//! Which endpoint takes a call: the less loaded of two drawn at random.
//!
//! Two draws spread calls nearly as well as looking at every endpoint, at a constant cost, and without sending every
//! caller to the same idle one at once (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).

use std::sync::Arc;

use crate::directory::Service;
use crate::wire::{EndpointState, Wire};

/// The endpoint for the next call, or `None` if the service has no endpoint. `avoid` is not drawn while there is another.
pub(crate) fn choose(
    wire: &Wire,
    service: &Service,
    avoid: Option<&Arc<EndpointState>>,
) -> Option<Arc<EndpointState>> {
    let mut candidates: Vec<_> = match service.endpoints.as_slice() {
        [] => return None,
        [only] => return Some(wire.endpoint(only)),
        several => two_of(several)
            .map(|endpoint| wire.endpoint(endpoint))
            .collect(),
    };
    candidates.sort_by_key(|candidate| {
        let avoided = avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, candidate));
        (avoided, candidate.load())
    });
    candidates.into_iter().next()
}

/// Two different elements of a slice that has at least two, drawn evenly.
fn two_of<T>(several: &[T]) -> impl Iterator<Item = &T> {
    let first = fastrand::usize(..several.len());
    let second = (first + fastrand::usize(1..several.len())) % several.len();
    [first, second]
        .into_iter()
        .filter_map(|index| several.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_ones_are_drawn_and_every_one_gets_its_turn() {
        let several = [0, 1, 2, 3, 4];
        let mut drawn = [0; 5];
        for _ in 0..5000 {
            let two: Vec<usize> = two_of(&several).copied().collect();
            assert_eq!(two.len(), 2);
            assert_ne!(two[0], two[1]);
            for index in two {
                drawn[index] += 1;
            }
        }
        assert!(
            drawn.iter().all(|count| (1500..2500).contains(count)),
            "{drawn:?}"
        );
    }
}
