//! An issuer's keys, found by OpenID Connect Discovery 1.0 and kept fresh.
//!
//! [`KeyFollower`] runs one task per issuer, so that one issuer's failure is not another's. It keeps the last good key set
//! while the issuer is out of reach, and says how old it is. What is fetched from is not trusted to be kind: connections
//! go to allowed addresses only ([`AddressRule`]), no redirect is followed, and time and size are bounded.

mod address;
mod discovery;
mod endpoint;
mod fetch;
mod follower;
mod metadata;
mod schedule;
mod server;
#[cfg(test)]
mod tests;

pub use address::{AddressRule, ForbiddenAddress};
pub use endpoint::{EndpointError, IssuerEndpoint};
pub use fetch::{Content, FetchError, Fetcher, Outgoing, Reply};
pub use follower::{FollowError, KeyFollower, KeyState};
pub use metadata::{DiscoveryError, Endpoint, Metadata, MetadataError};
