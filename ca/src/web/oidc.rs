//! The CA as an OpenID Connect issuer: the discovery document (OpenID Connect Discovery 1.0 §3) and the keys, so that
//! whoever takes ID tokens can verify JWT-SVIDs. WIT-SVIDs are not for them, and their keys are not here.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::Document;
use crate::authority::Authority;
use crate::authority::tokens::Use;

/// Keys are published for hours before they sign.
const MAX_AGE: Duration = Duration::from_mins(5);

/// The issuer's two documents.
pub(crate) fn documents(issuer: &Url, authority: &Arc<Authority>) -> Vec<Document> {
    let base = issuer.as_str().trim_end_matches('/');
    let path = issuer.path().trim_end_matches('/');
    let metadata = json!({
        // As it is configured, to the letter: clients compare.
        "issuer": issuer_name(issuer),
        "jwks_uri": format!("{base}/keys"),
        // The standard wants one. Nobody logs in here: there is nothing at it.
        "authorization_endpoint": format!("{base}/authorize"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": ["sub", "aud", "exp", "iat", "iss", "jti"],
    })
    .to_string();
    let authority = Arc::clone(authority);
    vec![
        Document {
            path: format!("{path}/.well-known/openid-configuration"),
            max_age: MAX_AGE,
            json: Box::new(move || Some(metadata.clone())),
        },
        Document {
            path: format!("{path}/keys"),
            max_age: MAX_AGE,
            json: Box::new(move || Some(keys(&authority))),
        },
    ]
}

/// The claim `iss`: the URL, without the slash that a URL of a host alone is written with.
pub(crate) fn issuer_name(issuer: &Url) -> String {
    match issuer.path() {
        "/" => issuer.as_str().trim_end_matches('/').to_owned(),
        _ => issuer.as_str().to_owned(),
    }
}

fn keys(authority: &Authority) -> String {
    let mut keys = authority.published().token_keys.jwks(Use::JwtSvid);
    for key in &mut keys {
        key.insert("use".to_owned(), "sig".into());
    }
    let keys: Vec<Value> = keys.into_iter().map(Value::Object).collect();
    json!({ "keys": keys }).to_string()
}
