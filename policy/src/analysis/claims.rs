//! Claims of tokens, by path, as JSON.

use serde_json::{Map, Value};

use crate::pattern::{ClaimValue, find_claim};

fn json(value: &ClaimValue) -> Value {
    match value {
        ClaimValue::Bool(value) => (*value).into(),
        ClaimValue::Integer(value) => (*value).into(),
        ClaimValue::String(value) => value.as_str().into(),
    }
}

/// Claims that have exactly these values; several of one claim make it a list.
pub(super) fn claims<'a>(
    given: impl IntoIterator<Item = (&'a str, &'a ClaimValue)>,
) -> Map<String, Value> {
    let mut by_path: Vec<(&str, Vec<Value>)> = Vec::new();
    for (path, value) in given {
        match by_path.last_mut() {
            Some((last, values)) if *last == path => values.push(json(value)),
            _ => by_path.push((path, vec![json(value)])),
        }
    }
    let mut claims = Map::new();
    for (path, mut values) in by_path {
        let claim = match values.len() {
            1 => values.remove(0),
            _ => Value::Array(values),
        };
        if !nested(&mut claims, path, &claim) {
            claims.insert(path.to_owned(), claim);
        }
    }
    claims
}

/// Puts a claim where its dotted path leads, if that is where people would look for it and nothing is in the way.
fn nested(claims: &mut Map<String, Value>, path: &str, claim: &Value) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !path.chars().all(plain) || path.split('.').any(str::is_empty) {
        return false;
    }
    let mut changed = claims.clone();
    let mut names = path.split('.').peekable();
    let mut at = &mut changed;
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            at.insert(name.to_owned(), claim.clone());
            break;
        }
        let inner = at
            .entry(name.to_owned())
            .or_insert_with(|| Value::Object(Map::new()));
        match inner {
            Value::Object(inner) => at = inner,
            _ => return false,
        }
    }
    if find_claim(&changed, path) != Some(claim) {
        return false;
    }
    *claims = changed;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_where_their_paths_lead() {
        let text = |text: &str| ClaimValue::String(text.to_owned());
        let (a, b, c) = (text("a"), text("b"), ClaimValue::Integer(3));
        let made = claims([
            ("groups", &a),
            ("groups", &b),
            ("act.sub", &a),
            ("groups.level", &c),
            ("https://x.example/roles", &b),
        ]);
        assert_eq!(
            Value::Object(made),
            serde_json::json!({
                "groups": ["a", "b"],
                "act": {"sub": "a"},
                "groups.level": 3,
                "https://x.example/roles": "b",
            })
        );
    }
}
