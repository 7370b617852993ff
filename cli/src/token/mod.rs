//! `countersign token`: get a development token, and look at any token.

mod inspect;
mod mint;

pub(crate) use self::inspect::inspect;
pub(crate) use self::mint::mint;
