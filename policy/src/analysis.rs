//! Policies as sets of calls: by analysis and not by trying, for there are infinitely many calls.
//!
//! ```text
//! rules ─▶ universe: the facts that they tell apart ─▶ encode: each rule, each policy as a set ─▶ set algebra
//!                                                                                                     │
//!              Change ◀─ words, in the policy's own ◀─ example, confirmed by the engine ◀─ cover: few large regions
//! ```

mod claims;
mod cover;
mod destinations;
mod diagram;
mod diff;
mod dimensions;
mod documents;
mod encode;
mod example;
mod headers;
mod issuers;
mod needless;
mod nodes;
mod reach;
mod sequence;
mod sequences;
mod tell;
mod tokens;
mod universe;
mod words;

pub use diagram::TooLarge;
pub use diff::{Change, Difference, Example, Judgement, diff};
pub use documents::{DocumentChange, Edit, PathsChange};
pub use example::{ExampleCall, ExampleRequest};
pub use needless::{Needless, Needlessness, Why, needless};
pub use nodes::Kind;
pub use reach::{Edge, Graph, Need, Node, Reached, reach};
pub use tell::{Region, Requirement, told};
pub use words::Phrase;
