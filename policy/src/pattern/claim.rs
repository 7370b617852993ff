//! What a claim of a token must be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One accepted value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClaimValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A string.
    String(String),
}

impl ClaimValue {
    /// Whether the claim has this value, or, being an array, contains it.
    #[must_use]
    pub fn accepts(&self, claim: &serde_json::Value) -> bool {
        match claim {
            serde_json::Value::Array(items) => items.iter().any(|item| self.is(item)),
            single => self.is(single),
        }
    }

    fn is(&self, claim: &serde_json::Value) -> bool {
        match self {
            Self::Bool(value) => claim.as_bool() == Some(*value),
            Self::Integer(value) => claim.as_i64() == Some(*value),
            Self::String(value) => claim.as_str() == Some(value),
        }
    }
}

impl fmt::Display for ClaimValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::String(value) => f.write_str(value),
        }
    }
}

/// The claim at a dotted path, `realm_access.roles`. A claim whose own name is the whole path (as
/// in `https://example.com/roles`) is preferred.
pub(crate) fn find<'a>(
    claims: &'a serde_json::Map<String, serde_json::Value>,
    path: &str,
) -> Option<&'a serde_json::Value> {
    if let Some(claim) = claims.get(path) {
        return Some(claim);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |claim, name| claim.as_object()?.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_found_by_dotted_path_or_whole_name() {
        let claims = json!({"a": {"b": {"c": 1}}, "https://x.example/roles": "admin", "a.b": 2});
        let claims = claims.as_object().unwrap();
        assert_eq!(find(claims, "a.b.c"), Some(&json!(1)));
        assert_eq!(find(claims, "a.b"), Some(&json!(2)));
        assert_eq!(
            find(claims, "https://x.example/roles"),
            Some(&json!("admin"))
        );
        for missing in ["", "b", "a.x", "a.b.c.d", "."] {
            assert_eq!(find(claims, missing), None, "{missing}");
        }
    }

    #[test]
    fn an_array_matches_when_it_contains_the_value() {
        let buyer = ClaimValue::String("buyer".to_owned());
        assert!(buyer.accepts(&json!("buyer")));
        assert!(buyer.accepts(&json!(["seller", "buyer"])));
        assert!(!buyer.accepts(&json!([["buyer"]])));
        assert!(!buyer.accepts(&json!({"buyer": true})));
        assert!(!buyer.accepts(&json!("buyers")));
        assert!(ClaimValue::Integer(3).accepts(&json!(3)));
        assert!(!ClaimValue::Integer(3).accepts(&json!("3")));
        assert!(!ClaimValue::Bool(true).accepts(&json!("true")));
    }
}
