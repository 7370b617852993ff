//! The SPIFFE bundle endpoint (SPIFFE Federation §5): the trust domain's bundle, for other trust domains to follow.

use std::sync::Arc;
use std::time::Duration;

use countersign_identity::bundle::SpiffeBundle;

use super::Document;
use crate::authority::Authority;

/// The bundle, at the root of the endpoint.
pub(crate) fn documents(authority: &Arc<Authority>, refresh_hint: Duration) -> Vec<Document> {
    let authority = Arc::clone(authority);
    let json = move || {
        let published = SpiffeBundle {
            bundle: (*authority.bundle()).clone(),
            refresh_hint: Some(refresh_hint),
        };
        published
            .to_json()
            .inspect_err(|error| tracing::error!(%error, "the bundle cannot be published"))
            .ok()
    };
    vec![Document {
        path: "/".to_owned(),
        max_age: refresh_hint,
        json: Box::new(json),
    }]
}
