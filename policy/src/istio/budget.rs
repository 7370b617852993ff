//! How much may be made of what was read: the lists of a rule multiply, and a small file could fill the memory.

use std::cell::Cell;

/// What may still be made, in pieces: callers, operations, parts of conditions.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

/// A policy of 100,000 rules needs no more.
const PIECES: usize = 1_000_000;

/// More would be made than may.
#[derive(Debug)]
pub(super) struct TooMany;

impl Budget {
    pub(super) fn take(&self, pieces: usize) -> Result<(), TooMany> {
        match self.0.get().checked_sub(pieces) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(TooMany),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(PIECES))
    }
}

/// What has a size in pieces.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

impl<T: Weigh> Weigh for [T] {
    fn weight(&self) -> usize {
        self.iter()
            .map(Weigh::weight)
            .fold(0, usize::saturating_add)
    }
}
