//! Paths of an Istio operation: exact, by prefix or suffix, present, or a template.

use crate::pattern::{PathPattern, PathPatternError, TextPattern, decode_segment};

/// What a path has to be.
#[derive(Clone, Debug)]
pub(super) enum PathTest {
    /// One of these patterns of the own language matches.
    Patterns(Vec<PathPattern>),
    /// The path is like this text.
    Text(TextPattern),
    /// The path matches this regular expression.
    Regex(String),
}

/// Why a text is not a path that Istio knows, or not one that a call can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// A call's path starts with a slash.
    #[error("a path starts with `/`: this can match no call")]
    Slash,
    /// Braces elsewhere than in `{*}` and `{**}`.
    #[error("in {0:?}: braces stand only in `{{*}}` and `{{**}}`, which are whole segments")]
    Braces(String),
    /// An operator behind `{**}`.
    #[error("`{{**}}` may be followed by literal segments only")]
    AfterRest,
    /// A star in a template.
    #[error("in {0:?}: a template has no other `*` than `{{*}}` and `{{**}}`")]
    Star(String),
    /// What no path in normal form is.
    #[error(transparent)]
    NotNormal(#[from] PathPatternError),
}

const ONE: &str = "{*}";
const REST: &str = "{**}";

impl PathTest {
    pub(super) fn new(text: &str) -> Result<Self, PathError> {
        if let Some(segment) = text
            .split('/')
            .find(|segment| ![ONE, REST].contains(segment) && segment.contains(['{', '}']))
        {
            return Err(PathError::Braces(segment.to_owned()));
        }
        if text.contains(ONE) || text.contains(REST) {
            return template(text);
        }
        match TextPattern::new(text) {
            TextPattern::Present => Ok(Self::Patterns(vec!["/**".parse()?])),
            TextPattern::Exact(path) => exact(&path),
            TextPattern::Prefix(path) => prefix(&path),
            TextPattern::Suffix(end) => {
                let _: PathPattern = format!("/x{end}").replace('*', "x").parse()?;
                Ok(Self::Text(TextPattern::Suffix(decoded(&end)?)))
            }
        }
    }
}

fn exact(path: &str) -> Result<PathTest, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Slash);
    }
    if path.contains('*') {
        // A star in the middle is itself.
        let _: PathPattern = path.replace('*', "x").parse()?;
        return Ok(PathTest::Text(TextPattern::Exact(decoded(path)?)));
    }
    Ok(PathTest::Patterns(vec![path.parse()?]))
}

fn prefix(path: &str) -> Result<PathTest, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Slash);
    }
    // The last segment may go on.
    let _: PathPattern = format!("{path}x").replace('*', "x").parse()?;
    if path.ends_with('/') && !path.contains('*') {
        return below(path);
    }
    Ok(PathTest::Text(TextPattern::Prefix(decoded(path)?)))
}

/// As conditions see paths: without escapes.
fn decoded(path: &str) -> Result<String, PathPatternError> {
    let segments: Option<Vec<String>> = path.split('/').map(decode_segment).collect();
    let segments = segments.ok_or_else(|| PathPatternError::Percent(path.to_owned()))?;
    Ok(segments.join("/"))
}

/// Every path that starts with `prefix`, which ends in a slash. A path in normal form has no empty segment but the
/// last.
fn below(prefix: &str) -> Result<PathTest, PathError> {
    Ok(PathTest::Patterns(match prefix {
        "/" => vec!["/**".parse()?],
        _ => vec![prefix.parse()?, format!("{prefix}*/**").parse()?],
    }))
}

/// <https://istio.io/latest/docs/reference/config/security/authorization-policy/#Operation>: `{*}` is one segment,
/// `{**}` any number of them.
fn template(text: &str) -> Result<PathTest, PathError> {
    let segments = text.strip_prefix('/').ok_or(PathError::Slash)?;
    let mut rest = false;
    for segment in segments.split('/') {
        match segment {
            ONE | REST if rest => return Err(PathError::AfterRest),
            REST => rest = true,
            ONE => {}
            _ if segment.contains('*') => return Err(PathError::Star(segment.to_owned())),
            _ => {}
        }
    }
    // Checked as a pattern even where it cannot be one.
    let plain = text.replace(REST, "x").replace(ONE, "*");
    let _: PathPattern = plain.parse()?;
    let pattern = text.replace(ONE, "*");
    match pattern.split_once(REST) {
        None => Ok(PathTest::Patterns(vec![pattern.parse()?])),
        Some((before, "")) => below(before),
        Some((before, after)) => Ok(PathTest::Regex(format!(
            "^{}.*{}$",
            expression(before),
            expression(after)
        ))),
    }
}

/// Literal segments and `*` as a regular expression.
fn expression(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment {
        "*" => "[^/]+".to_owned(),
        literal => escaped(literal),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The text as a regular expression that matches it alone: what may be special is put in brackets.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '~' | '%' | '@' | ':' | '/' | ',' => {
                escaped.push(character);
            }
            '^' | '\\' | '[' | ']' => escaped.extend(['\\', character]),
            _ => escaped.extend(['[', character, ']']),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Vec<String> {
        match PathTest::new(text) {
            Ok(PathTest::Patterns(patterns)) => patterns.iter().map(ToString::to_string).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn paths_become_patterns_where_they_can() {
        assert_eq!(patterns("/info"), ["/info"]);
        assert_eq!(patterns("*"), ["/**"]);
        assert_eq!(patterns("/*"), ["/**"]);
        assert_eq!(patterns("/api/*"), ["/api/", "/api/*/**"]);
        assert_eq!(patterns("/foo/{*}"), ["/foo/*"]);
        assert_eq!(patterns("/foo/{*}/bar"), ["/foo/*/bar"]);
        assert_eq!(patterns("/foo/{*}/"), ["/foo/*/"]);
        assert_eq!(patterns("/{**}"), ["/**"]);
        assert_eq!(
            patterns("/foo/{*}/bar/{**}"),
            ["/foo/*/bar/", "/foo/*/bar/*/**"]
        );
    }

    #[test]
    fn other_paths_become_texts_and_expressions() {
        let text = |text: &str| match PathTest::new(text) {
            Ok(PathTest::Text(pattern)) => pattern.to_string(),
            Ok(PathTest::Regex(regex)) => regex,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(text("/info*"), "/info*");
        assert_eq!(text("*/info"), "*/info");
        assert_eq!(text("*.txt"), "*.txt");
        assert_eq!(text("/a/*/b"), "/a/*/b");
        assert_eq!(text("/a%20b*"), "/a b*");
        assert_eq!(text("/foo/{**}/"), "^/foo/.*/$");
        assert_eq!(text("/foo/{*}/{**}/b.c"), "^/foo/[^/]+/.*/b[.]c$");
    }

    #[test]
    fn what_no_call_can_have_is_refused() {
        use PathError as E;
        let s = str::to_owned;
        for (text, expected) in [
            ("info", E::Slash),
            ("info*", E::Slash),
            ("{*}", E::Slash),
            ("/a/{b}", E::Braces(s("{b}"))),
            ("/a/{*}.txt", E::Braces(s("{*}.txt"))),
            ("/{**}/a/{*}", E::AfterRest),
            ("/{**}/{**}", E::AfterRest),
            ("/*/a/{*}", E::Star(s("*"))),
            ("/**/a/{*}", E::Star(s("**"))),
            ("/a//b", E::NotNormal(PathPatternError::NotNormal)),
            ("/a/../b*", E::NotNormal(PathPatternError::NotNormal)),
            ("/a?x=1", E::NotNormal(PathPatternError::Query('?'))),
            (
                "/a%2fb",
                E::NotNormal(PathPatternError::Ambiguous(s("a%2fb"))),
            ),
        ] {
            match PathTest::new(text) {
                Err(found) => assert_eq!(found, expected, "{text}"),
                Ok(found) => panic!("{text}: {found:?}"),
            }
        }
    }
}
