//! Conditions for what the structured fields of a rule cannot say.

use crate::document::Action;
use crate::pattern::{Cidr, TextPattern};

/// A list in a condition is cut into pieces of this many bytes, each for a rule of its own: expressions are short.
const PIECE_BYTES: usize = 1000;

/// A part of a condition.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) expression: String,
    /// Whether only an HTTP request can answer.
    pub(super) is_http: bool,
}

/// All parts together, and with `only_http` that there is a request. `None` if nothing has to hold.
///
/// On an opaque connection, an ALLOW rule that asks for a fact of HTTP does not match, and any other is matched
/// without it.
pub(super) fn all(parts: &[Part], action: Action, only_http: bool) -> Option<String> {
    let of = |is_http: bool| {
        let chosen = parts.iter().filter(move |part| part.is_http == is_http);
        chosen.map(|part| part.expression.clone())
    };
    let mut expressions: Vec<String> = of(false).collect();
    let http: Vec<String> = of(true).collect();
    match action {
        Action::Allow => {
            expressions
                .extend((only_http || !http.is_empty()).then(|| "request != null".to_owned()));
            expressions.extend(http);
        }
        Action::Deny | Action::Audit if http.is_empty() => {}
        Action::Deny | Action::Audit => {
            expressions.push(format!("(request == null || {})", http.join(" && ")));
        }
    }
    (!expressions.is_empty()).then(|| expressions.join(" && "))
}

/// A string literal. JSON's escapes are CEL's, too.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A list of items, in pieces that are not long.
pub(super) fn lists(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lists: Vec<String> = Vec::new();
    for item in items {
        match lists.last_mut() {
            Some(list) if list.len().saturating_add(item.len()) < PIECE_BYTES => {
                list.push_str(", ");
                list.push_str(&item);
            }
            _ => lists.push(item),
        }
    }
    lists.into_iter().map(|list| format!("[{list}]")).collect()
}

pub(super) fn texts<'a>(patterns: impl IntoIterator<Item = &'a TextPattern>) -> Vec<String> {
    lists(
        patterns
            .into_iter()
            .map(|pattern| quoted(&pattern.to_string())),
    )
}

pub(super) fn ranges(ranges: &[Cidr]) -> Vec<String> {
    lists(ranges.iter().map(|range| quoted(&range.to_string())))
}

/// `fact` is like one of a list of patterns.
pub(super) fn like(fact: &str, list: &str) -> String {
    format!("like({fact}, {list})")
}

/// One of several holds.
pub(super) fn any(expressions: &[String]) -> String {
    match expressions {
        [one] => one.clone(),
        _ => format!("({})", expressions.join(" || ")),
    }
}

/// What is at the end of a way through maps, or null.
pub(super) fn lookup(root: &str, names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!("lookup({root}, [{}])", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let items = (0..300).map(|number| format!("\"item-{number}\""));
        let lists = lists(items);
        assert!(lists.len() > 1);
        assert!(lists.iter().all(|list| list.len() <= PIECE_BYTES + 8));
        assert!(lists[0].starts_with("[\"item-0\", ") && lists[0].ends_with(']'));
    }

    #[test]
    fn facts_of_http_are_asked_of_requests_only() {
        let part = |expression: &str, is_http| Part {
            expression: expression.to_owned(),
            is_http,
        };
        let parts = [part("a", true), part("b", false), part("c", true)];
        let all =
            |parts: &[Part], action, only_http| all(parts, action, only_http).unwrap_or_default();
        assert_eq!(
            all(&parts, Action::Allow, false),
            "b && request != null && a && c"
        );
        assert_eq!(
            all(&parts, Action::Deny, false),
            "b && (request == null || a && c)"
        );
        assert_eq!(
            all(&parts[..1], Action::Audit, false),
            "(request == null || a)"
        );
        assert_eq!(all(&[], Action::Allow, true), "request != null");
        assert_eq!(all(&[], Action::Allow, false), "");
    }
}
