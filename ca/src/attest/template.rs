//! From the claims of a token, or the fields of a certificate, to a SPIFFE ID:
//! `spiffe://shop.example/ns/{claims.ns}/sa/{claims.sa}`.
//!
//! The trust domain is written out, never taken from a claim. Each placeholder stands in a path segment of its own: with two
//! in one, `a-b` and `c` would make the same identity as `a` and `b-c`. A claim that is not written in the characters of a
//! path segment refuses the token; it is never escaped or shortened into one, which could make two values one.

use std::fmt;

use countersign_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use serde_json::{Map, Value};

/// What a template takes its values from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `{claims.x}`.
    Token,
    /// `{certificate.x}`.
    Certificate,
}

impl Source {
    /// What placeholders begin with.
    const fn root(self) -> &'static str {
        match self {
            Self::Token => "claims",
            Self::Certificate => "certificate",
        }
    }
}

/// Why a template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// A `{` that begins no placeholder, or a `}` that ends none.
    #[error("`{0}` is no placeholder; expected `{{{1}.NAME}}` or `{{{1}[\"NAME\"]}}`")]
    Placeholder(String, &'static str),
    /// See the module.
    #[error(
        "the path segment `{0}` has more than one placeholder, so that different claims could make the same ID"
    )]
    SeveralInSegment(String),
    /// A placeholder in the trust domain, or another one.
    #[error(
        "a template must begin with `spiffe://{0}/`: the trust domain is not taken from claims"
    )]
    TrustDomain(TrustDomain),
    /// Whatever the claims are, the result is no SPIFFE ID.
    #[error("with every placeholder filled in, the template makes no SPIFFE ID: {0}")]
    SpiffeId(#[from] SpiffeIdError),
}

/// Why claims or fields make no SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    /// It is not there.
    #[error("{0} is missing, which its SPIFFE ID is made of")]
    Missing(FieldPath),
    /// Not a string.
    #[error("{0}, which its SPIFFE ID is made of, is not a string")]
    NotString(FieldPath),
    /// Not fit for a path segment.
    #[error(
        "{0}, which its SPIFFE ID is made of, must be of letters, digits, `.`, `-` and `_` \
         (SPIFFE-ID §2.2)"
    )]
    Characters(FieldPath),
    /// Too long, or `.` or `..`.
    #[error("its values make no SPIFFE ID: {0}")]
    SpiffeId(#[from] SpiffeIdError),
}

/// The way to a claim or field, through objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath {
    source: Source,
    names: Vec<String>,
}

impl FieldPath {
    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Result<&'a str, FieldError> {
        let (first, rest) = self
            .names
            .split_first()
            .ok_or_else(|| FieldError::Missing(self.clone()))?;
        let value = rest
            .iter()
            .try_fold(claims.get(first), |value, name| {
                Some(value?.as_object()?.get(name))
            })
            .flatten();
        let text = value
            .ok_or_else(|| FieldError::Missing(self.clone()))?
            .as_str()
            .ok_or_else(|| FieldError::NotString(self.clone()))?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if text.is_empty() || !text.chars().all(fits) {
            return Err(FieldError::Characters(self.clone()));
        }
        Ok(text)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.names.join(".");
        match self.source {
            Source::Token => write!(f, "the token's claim `{name}`"),
            Source::Certificate => write!(f, "the certificate's `{name}`"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Claim(FieldPath),
}

/// A template, parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

impl Template {
    /// Parses a template that makes IDs of `trust_domain`.
    ///
    /// # Errors
    /// When it is malformed, ambiguous, or makes IDs of another trust domain.
    pub(crate) fn parse(
        text: &str,
        trust_domain: &TrustDomain,
        source: Source,
    ) -> Result<Self, TemplateError> {
        let prefix = format!("spiffe://{trust_domain}/");
        let Some(path) = text.strip_prefix(&prefix) else {
            return Err(TemplateError::TrustDomain(trust_domain.clone()));
        };
        let mut pieces = vec![Piece::Text(prefix)];
        pieces.extend(parse_path(path, source)?);
        let template = Self(pieces);
        // What can be known to be wrong, is wrong now and not at the first token.
        template
            .fill(|_| Ok::<_, FieldError>("x"))
            .map_err(|error| match error {
                FieldError::SpiffeId(error) => TemplateError::SpiffeId(error),
                other => TemplateError::Placeholder(other.to_string(), source.root()),
            })?;
        Ok(template)
    }

    /// The SPIFFE ID that `claims` make.
    ///
    /// # Errors
    /// When a claim is missing, or unfit.
    pub(crate) fn apply(&self, claims: &Map<String, Value>) -> Result<SpiffeId, FieldError> {
        self.fill(|path| path.find(claims))
    }

    /// Whether this text stands at the beginning of the path without a placeholder in it.
    pub(crate) fn writes_out(&self, path_prefix: &str) -> bool {
        let mut written = String::new();
        for piece in self.0.iter() {
            match piece {
                Piece::Text(text) => written.push_str(text),
                Piece::Claim(_) => break,
            }
        }
        written
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.find('/').and_then(|slash| rest.get(slash..)))
            .is_some_and(|path| path.starts_with(path_prefix))
    }

    fn fill<'a>(
        &self,
        mut claim: impl FnMut(&FieldPath) -> Result<&'a str, FieldError>,
    ) -> Result<SpiffeId, FieldError> {
        let mut id = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => id.push_str(text),
                Piece::Claim(path) => id.push_str(claim(path)?),
            }
        }
        Ok(SpiffeId::parse(&id)?)
    }
}

fn parse_path(path: &str, source: Source) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    // Where the segment that is being read begins, and how many placeholders it has had.
    let (mut text, mut in_segment) = (String::new(), 0);
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        if next == '{' {
            let (claim, after) = placeholder(rest, source)?;
            in_segment += 1;
            if in_segment > 1 {
                return Err(TemplateError::SeveralInSegment(segment_of(path, after)));
            }
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(Piece::Claim(claim));
            rest = after;
            continue;
        }
        if next == '}' {
            return Err(TemplateError::Placeholder("}".to_owned(), source.root()));
        }
        if next == '/' {
            in_segment = 0;
        }
        text.push(next);
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// The segment of `path` that ends where, or after, `after` begins: for the error message.
fn segment_of(path: &str, after: &str) -> String {
    let read = path.get(..path.len() - after.len()).unwrap_or(path);
    let start = read.rfind('/').map_or(0, |slash| slash + 1);
    path.get(start..)
        .unwrap_or_default()
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// `{claims.a.b}` or `{claims["kubernetes.io"].b}` at the beginning of `text`, and what is after it.
fn placeholder(text: &str, source: Source) -> Result<(FieldPath, &str), TemplateError> {
    let end = text.find('}').map_or(text.len(), |end| end + 1);
    let malformed = || {
        let shown = text.get(..end).unwrap_or(text).to_owned();
        TemplateError::Placeholder(shown, source.root())
    };
    let mut names = Vec::new();
    let mut rest = text
        .strip_prefix('{')
        .and_then(|text| text.strip_prefix(source.root()))
        .ok_or_else(malformed)?;
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            if names.is_empty() {
                return Err(malformed());
            }
            return Ok((FieldPath { source, names }, after));
        }
        let (name, after) = if let Some(quoted) = rest.strip_prefix("[\"") {
            quoted.split_once("\"]").ok_or_else(malformed)?
        } else {
            let plain = rest.strip_prefix('.').ok_or_else(malformed)?;
            let length = plain
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
                .unwrap_or(plain.len());
            plain.split_at_checked(length).ok_or_else(malformed)?
        };
        if name.is_empty() {
            return Err(malformed());
        }
        names.push(name.to_owned());
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<Template, TemplateError> {
        let trust_domain = TrustDomain::parse("shop.example").unwrap();
        Template::parse(text, &trust_domain, Source::Token)
    }

    fn apply(template: &str, claims: Value) -> Result<String, FieldError> {
        let claims = claims.as_object().unwrap().clone();
        parse(template)
            .unwrap()
            .apply(&claims)
            .map(|id| id.to_string())
    }

    #[test]
    fn claims_become_path_segments() {
        let template = "spiffe://shop.example/ns/{claims.ns}/sa/ci-{claims.job.name}";
        let claims = json!({"ns": "shop", "job": {"name": "orders_1.2"}});
        assert_eq!(
            apply(template, claims).unwrap(),
            "spiffe://shop.example/ns/shop/sa/ci-orders_1.2"
        );
        let kubernetes = "spiffe://shop.example/ns/{claims[\"kubernetes.io\"].namespace}/sa/\
                          {claims[\"kubernetes.io\"].serviceaccount.name}";
        let claims = json!({"kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "b"}}});
        assert_eq!(
            apply(kubernetes, claims).unwrap(),
            "spiffe://shop.example/ns/a/sa/b"
        );
        assert_eq!(
            apply("spiffe://shop.example/fixed", json!({})).unwrap(),
            "spiffe://shop.example/fixed"
        );
    }

    #[test]
    fn unfit_claims_refuse_the_token() {
        let template = "spiffe://shop.example/ns/{claims.ns}/sa/x";
        for value in ["", "a/b", "a b", "ä", "%2e", "a\n", "{claims.x}"] {
            let error = apply(template, json!({"ns": value})).unwrap_err();
            assert!(
                matches!(error, FieldError::Characters(_)),
                "{value:?}: {error}"
            );
        }
        for value in [".", ".."] {
            let error = apply(template, json!({"ns": value})).unwrap_err();
            assert!(
                matches!(error, FieldError::SpiffeId(_)),
                "{value:?}: {error}"
            );
        }
        for value in [json!(1), json!(true), json!(["a"]), json!({}), json!(null)] {
            let error = apply(template, json!({"ns": value})).unwrap_err();
            assert!(
                matches!(error, FieldError::NotString(_)),
                "{value}: {error}"
            );
        }
        let error = apply(template, json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the token's claim `ns` is missing, which its SPIFFE ID is made of"
        );
    }

    #[test]
    fn ambiguous_and_malformed_templates_are_refused() {
        for (template, expected) in [
            (
                "spiffe://shop.example/{claims.a}-{claims.b}",
                "`{claims.a}-{claims.b}` has more than one",
            ),
            (
                "spiffe://shop.example/x/{claims.a}{claims.b}/y",
                "`{claims.a}{claims.b}` has more than one",
            ),
            (
                "spiffe://{claims.td}/ns",
                "must begin with `spiffe://shop.example/`",
            ),
            (
                "spiffe://other.example/ns",
                "must begin with `spiffe://shop.example/`",
            ),
            (
                "spiffe://shop.example.evil/ns",
                "must begin with `spiffe://shop.example/`",
            ),
            (
                "spiffe://shop.example/{claim.a}",
                "`{claim.a}` is no placeholder",
            ),
            (
                "spiffe://shop.example/{claims}",
                "`{claims}` is no placeholder",
            ),
            (
                "spiffe://shop.example/{claims.}",
                "`{claims.}` is no placeholder",
            ),
            (
                "spiffe://shop.example/{claims.a",
                "`{claims.a` is no placeholder",
            ),
            ("spiffe://shop.example/{claims[\"a]}", "is no placeholder"),
            ("spiffe://shop.example/a}", "`}` is no placeholder"),
            ("spiffe://shop.example/", "makes no SPIFFE ID"),
            ("spiffe://shop.example/a//b", "makes no SPIFFE ID"),
            ("spiffe://shop.example/a b", "makes no SPIFFE ID"),
        ] {
            let error = parse(template).unwrap_err().to_string();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }

    #[test]
    fn what_is_written_out_is_known() {
        let template = parse("spiffe://shop.example/ns/tools/sa/{claims.sa}").unwrap();
        assert!(template.writes_out("/ns/tools/"));
        assert!(!template.writes_out("/ns/shop/"));
        assert!(
            !parse("spiffe://shop.example/ns/{claims.ns}/sa/x")
                .unwrap()
                .writes_out("/ns/tools/")
        );
    }

    proptest! {
        /// Different claims make different identities, or none.
        #[test]
        fn the_mapping_is_injective(a in "[a-c./-]{0,4}", b in "[a-c./-]{0,4}", c in "[a-c./-]{0,4}", d in "[a-c./-]{0,4}") {
            let template = parse("spiffe://shop.example/ns/p-{claims.a}/sa/{claims.b}-s").unwrap();
            let apply = |a: &str, b: &str| {
                template.apply(json!({"a": a, "b": b}).as_object().unwrap())
            };
            if let (Ok(first), Ok(second)) = (apply(&a, &b), apply(&c, &d)) {
                prop_assert_eq!(first == second, (a, b) == (c, d));
            }
        }

        #[test]
        fn odd_templates_never_panic(text in "spiffe://shop.example/[a{}.\\[\\]\"claims/é]{0,24}") {
            let _ = parse(&text);
        }
    }
}
