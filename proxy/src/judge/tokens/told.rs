//! What an application is told of a verified token, in headers.

use countersign_policy::document::TokenIssuer;
use serde_json::{Map, Value};

/// The headers that a token of `issuer` fills, with their values. What cannot stand in a header is left out.
pub(super) fn told<'i>(
    issuer: &'i TokenIssuer,
    token: &'i str,
    claims: &'i Map<String, Value>,
) -> impl Iterator<Item = (&'i str, String)> {
    let of_claims = issuer.claim_headers.iter().filter_map(|(header, path)| {
        let claim = TokenIssuer::claim(claims, path)?;
        let value = field_value(claim);
        if value.is_none() {
            tracing::debug!(
                issuer = %issuer.metadata,
                %header,
                claim = path,
                "a claim cannot stand in a header and is left out"
            );
        }
        Some((header.as_str(), value?))
    });
    let payload = issuer.payload_header.iter().filter_map(|header| {
        // RFC 7515 §7.1: the second of three parts.
        Some((header.as_str(), token.split('.').nth(1)?.to_owned()))
    });
    of_claims.chain(payload)
}

/// A claim as the value of a header; `None` if it cannot be one.
fn field_value(claim: &Value) -> Option<String> {
    let Value::Array(items) = claim else {
        return text(claim);
    };
    let items: Vec<String> = items.iter().map(text).collect::<Option<_>>()?;
    // An item with a comma would be read as two: `["a,admin"]` is not `["a", "admin"]`.
    let told_apart = items.iter().all(|item| !item.contains(','));
    told_apart.then(|| items.join(","))
}

/// A single value. A claim can hold a line break, and blanks at its ends would get lost (RFC 9110 §5.5).
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let is_value = is_field_value(&text) && !text.starts_with(' ') && !text.ends_with(' ');
    is_value.then_some(text)
}

/// Whether a text that came in a token may stand in a header: a claim can hold a line break, a header value must not.
pub(in crate::judge) fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_cannot_smuggle_a_header() {
        assert!(is_field_value("shop/corp/alice"));
        assert!(!is_field_value("shop/corp/alice\r\nx-admin: 1"));
        assert!(!is_field_value("shop/corp/\u{e4}"));
    }

    #[test]
    fn plain_claims_are_told_and_others_left_out() {
        for (claim, value) in [
            (json!("alice"), Some("alice")),
            (json!("a, b"), Some("a, b")),
            (json!(""), Some("")),
            (json!(7), Some("7")),
            (json!(-1.5), Some("-1.5")),
            (
                json!(18_446_744_073_709_551_615_u64),
                Some("18446744073709551615"),
            ),
            (json!(true), Some("true")),
            (json!(["a", "b c", 3, false]), Some("a,b c,3,false")),
            (json!([]), Some("")),
            (json!(["a,admin"]), None),
            (json!(["a", ["b"]]), None),
            (json!(["a", null]), None),
            (json!({"a": "b"}), None),
            (json!(null), None),
            (json!("a\r\nx-admin: 1"), None),
            (json!("a\nb"), None),
            (json!("\u{e4}"), None),
            (json!(" a"), None),
            (json!(["a "]), None),
        ] {
            assert_eq!(field_value(&claim).as_deref(), value, "{claim}");
        }
    }
}
