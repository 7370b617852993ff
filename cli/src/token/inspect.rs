//! `countersign token inspect`: what a JWT (RFC 7519) says, not whether it is true.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::args::InspectArguments;
use super::findings::{Duplicates, Finding, Kind, Token, findings};
use crate::cert::Severity;
use crate::instant::{Span, Standing, rfc3339};
use crate::output::{Answer, Format, Output, Palette, Tone, printable};

/// The claims that are moments (NumericDate, RFC 7519 §2), and what they say.
const MOMENTS: [&str; 4] = ["exp", "nbf", "iat", "auth_time"];

/// The longest token that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Why a token cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    #[error("there is no token; give a JWT, or - to have it read from standard input")]
    Empty,
    #[error("{0} is a file, not a token; `countersign token … - <{0}` reads the token in it")]
    IsFile(String),
    #[error(
        "not a JWT: expected three parts with dots between them (header.claims.signature), found {0}"
    )]
    Parts(usize),
    #[error("the token is encrypted (JWE, RFC 7516): only whom it is for can read it")]
    Encrypted,
    #[error("not a JWT: its {part} is not base64url: {source}")]
    Base64 {
        part: &'static str,
        source: base64::DecodeError,
    },
    #[error("not a JWT: its {part} is not a JSON object: {source}")]
    Json {
        part: &'static str,
        source: serde_json::Error,
    },
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// What a token says.
#[derive(Debug, Serialize)]
struct Report {
    /// Always false: nobody's signature was checked.
    verified: bool,
    /// `JWT-SVID`, `JWT`, `transaction token`, …
    kind: &'static str,
    findings: Vec<Finding>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    validity: Validity,
}

/// What `nbf` and `exp` say about this moment.
#[derive(Debug, Serialize)]
pub(super) struct Validity {
    /// `valid`, `expired`, `not-yet-valid`, `unlimited` or `malformed`.
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// For people.
    pub(super) text: String,
}

/// Prints what a token says and what is wrong with it; the answer is no if there are errors.
pub(crate) fn inspect(
    arguments: &InspectArguments,
    output: &Output,
) -> Result<Answer, InspectError> {
    let token = read_token(&arguments.token)?;
    let now = SystemTime::now();
    let report = read(&token, now)?;
    match output.format {
        Format::Text => output.write(&render(&report, output.palette, now))?,
        Format::Json => output.write_json(&report)?,
    }
    let errors = report
        .findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    Ok(if errors { Answer::No } else { Answer::Yes })
}

/// The token itself, or what standard input has. People paste tokens with "Bearer " before and white
/// space around them.
pub(super) fn read_token(argument: &str) -> Result<String, InspectError> {
    let mut text = String::new();
    let token = match argument {
        "-" => {
            io::stdin()
                .lock()
                .take(LONGEST)
                .read_to_string(&mut text)
                .map_err(InspectError::Stdin)?;
            &text
        }
        token => token,
    };
    let token = token.trim();
    let token = match token.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim_start(),
        _ => token,
    };
    if token.is_empty() {
        return Err(InspectError::Empty);
    }
    // No token is the name of a file that is there.
    if argument != "-" && Path::new(token).is_file() {
        return Err(InspectError::IsFile(printable(token).into_owned()));
    }
    Ok(token.to_owned())
}

/// Takes a token apart.
fn read(token: &str, now: SystemTime) -> Result<Report, InspectError> {
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        return Err(match parts.len() {
            5 => InspectError::Encrypted,
            count => InspectError::Parts(count),
        });
    };
    let mut duplicates = Vec::new();
    let header = object("header", header, &mut duplicates)?;
    let claims = object("claims", claims, &mut duplicates)?;
    let validity = validity(&claims, now);
    let kind = Kind::of(&header, &claims);
    let token = Token {
        kind,
        header: &header,
        claims: &claims,
        signature,
        duplicates,
        validity: &validity,
    };
    Ok(Report {
        verified: false,
        kind: kind.name(),
        findings: findings(&token, now),
        header,
        claims,
        validity,
    })
}

/// An object, and the names that it has twice.
fn object(
    part: &'static str,
    encoded: &str,
    duplicates: &mut Vec<(&'static str, String)>,
) -> Result<Map<String, Value>, InspectError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|source| InspectError::Base64 { part, source })?;
    let invalid = |source| InspectError::Json { part, source };
    let object = serde_json::from_slice(&bytes).map_err(invalid)?;
    let Duplicates(twice) = serde_json::from_slice(&bytes).map_err(invalid)?;
    duplicates.extend(twice.into_iter().map(|name| (part, name)));
    Ok(object)
}

fn validity(claims: &Map<String, Value>, now: SystemTime) -> Validity {
    let not_before = claims.get("nbf").and_then(moment);
    let expires_at = claims.get("exp").and_then(moment);
    let start = not_before.unwrap_or(SystemTime::UNIX_EPOCH);
    let no_time = ["nbf", "exp"].into_iter().find(|claim| {
        claims
            .get(*claim)
            .is_some_and(|value| moment(value).is_none())
    });
    let (state, text) = match expires_at {
        _ if no_time.is_some() => (
            "malformed",
            format!("its `{}` is not a time", no_time.unwrap_or_default()),
        ),
        None if start <= now => ("unlimited", "never expires: it has no `exp`".to_owned()),
        None => ("not-yet-valid", "not yet valid".to_owned()),
        Some(end) => {
            let standing = Standing::of(start, end, now);
            let state = match standing {
                Standing::Valid(_) => "valid",
                Standing::Expired(_) => "expired",
                Standing::NotYet(_) => "not-yet-valid",
            };
            (state, standing.to_string())
        }
    };
    Validity {
        state,
        not_before: not_before.map(rfc3339),
        expires_at: expires_at.map(rfc3339),
        text,
    }
}

/// A NumericDate: seconds since 1970, fractions allowed (RFC 7519 §2). Years beyond 9999 are not
/// taken for moments.
pub(super) fn moment(value: &Value) -> Option<SystemTime> {
    const END_OF_YEAR_9999: f64 = 253_402_300_799.0;
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..=END_OF_YEAR_9999).contains(seconds))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs_f64(seconds))
}

fn render(report: &Report, palette: Palette, now: SystemTime) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut text, report, palette, now);
    text
}

fn write_report(
    text: &mut String,
    report: &Report,
    palette: Palette,
    now: SystemTime,
) -> std::fmt::Result {
    let warning = format!(
        "{}, not verified: anybody can have written this",
        report.kind
    );
    writeln!(text, "{}", palette.paint(Tone::Warning, &warning))?;
    if !report.findings.is_empty() {
        writeln!(text)?;
    }
    for finding in &report.findings {
        let (tone, word) = match finding.severity {
            Severity::Error => (Tone::Bad, "error  "),
            Severity::Warning => (Tone::Warning, "warning"),
            Severity::Info => (Tone::Faint, "note   "),
        };
        let word = palette.paint(tone, word);
        let message = printable(&finding.message);
        writeln!(text, "{word}  {message} [{}]", finding.code)?;
        if !finding.advice.is_empty() {
            writeln!(text, "         → {}", finding.advice)?;
        }
    }
    for (name, object) in [("header", &report.header), ("claims", &report.claims)] {
        writeln!(text, "\n{}", palette.paint(Tone::Strong, name))?;
        let width = object
            .keys()
            .map(|key| key.chars().count())
            .max()
            .unwrap_or(0);
        for (key, value) in object {
            let shown = match value {
                Value::String(string) => string.clone(),
                other => other.to_string(),
            };
            write!(text, "  {:<width$}  {}", printable(key), printable(&shown))?;
            if name == "claims" && MOMENTS.contains(&key.as_str()) {
                write_moment(text, value, now)?;
            }
            writeln!(text)?;
        }
    }
    let tone = match report.validity.state {
        "valid" => Tone::Good,
        "unlimited" => Tone::Warning,
        _ => Tone::Bad,
    };
    writeln!(text, "\n{}", palette.paint(Tone::Strong, "validity"))?;
    writeln!(text, "  {}", palette.paint(tone, &report.validity.text))
}

fn write_moment(text: &mut String, value: &Value, now: SystemTime) -> std::fmt::Result {
    let Some(time) = moment(value) else {
        return write!(text, "  (not a time)");
    };
    let distance = match time.duration_since(now) {
        Ok(ahead) => format!("in {}", Span(ahead)),
        Err(past) => format!("{} ago", Span(past.duration())),
    };
    write!(text, "  ({}, {distance})", rfc3339(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#);
        format!("{header}.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const CLAIMS: &str = r#"{"iss":"https://login.shop.example","sub":"alice","aud":["shop"],"iat":1795428000,"nbf":1795428000,"exp":1795428300,"groups":["buyer"],"note":"a\u001b[2J"}"#;

    #[test]
    fn text_says_that_nothing_is_verified_and_how_long_it_lives() {
        let report = read(&token(CLAIMS), at(1_795_428_060)).unwrap();
        assert_eq!(
            render(&report, Palette::PLAIN, at(1_795_428_060)),
            "\
JWT, not verified: anybody can have written this

header
  alg  ES256
  kid  k1
  typ  JWT

claims
  aud     [\"shop\"]
  exp     1795428300  (2026-11-23T10:05:00Z, in 4m)
  groups  [\"buyer\"]
  iat     1795428000  (2026-11-23T10:00:00Z, 1m ago)
  iss     https://login.shop.example
  nbf     1795428000  (2026-11-23T10:00:00Z, 1m ago)
  note    a\u{fffd}[2J
  sub     alice

validity
  4m left
"
        );
    }

    #[test]
    fn json_tells_the_state_by_a_stable_word() {
        for (now, state) in [
            (1_795_427_999, "not-yet-valid"),
            (1_795_428_000, "valid"),
            (1_795_428_301, "expired"),
        ] {
            let report = serde_json::to_value(read(&token(CLAIMS), at(now)).unwrap()).unwrap();
            assert_eq!(report["validity"]["state"], state);
            assert_eq!(report["verified"], false);
            assert_eq!(report["claims"]["sub"], "alice");
        }
        let report = read(&token("{}"), at(0)).unwrap();
        assert_eq!(report.validity.state, "unlimited");
    }

    #[test]
    fn bearer_and_white_space_are_no_part_of_the_token() {
        let pasted = read_token(&format!(" Bearer {}\n", token("{}"))).unwrap();
        assert_eq!(pasted, token("{}"));
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        let error = |text: &str| read(text, at(0)).unwrap_err().to_string();
        assert!(error("abc").ends_with("(header.claims.signature), found 1"));
        assert!(error("a!.b.c").starts_with("not a JWT: its header is not base64url"));
        assert!(error("YWJj.e30.c").starts_with("not a JWT: its header is not a JSON object"));
        assert!(error(&token("[]")).starts_with("not a JWT: its claims is not a JSON object"));
    }

    #[test]
    fn absurd_times_are_shown_as_such() {
        let now = at(1_795_428_060);
        let report = read(&token(r#"{"exp":1e300,"iat":-5,"nbf":"soon"}"#), now).unwrap();
        assert_eq!(report.validity.state, "malformed");
        let text = render(&report, Palette::PLAIN, now);
        assert_eq!(text.matches("(not a time)").count(), 3, "{text}");
    }

    fn codes(header: &str, claims: &str) -> Vec<&'static str> {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.c2ln", encoded(header), encoded(claims));
        let report = read(&token, at(1_795_428_060)).unwrap();
        report
            .findings
            .iter()
            .filter(|finding| finding.severity != Severity::Info)
            .map(|finding| finding.code)
            .collect()
    }

    #[test]
    fn what_is_wrong_with_a_token_is_told_by_its_code() {
        let header = r#"{"alg":"ES256","kid":"k"}"#;
        assert_eq!(codes(header, CLAIMS), [""; 0]);
        for (bad, code) in [
            (r#"{"alg":"none"}"#, "alg-none"),
            (r#"{"alg":"HS256"}"#, "alg-symmetric"),
            (r#"{"alg":"XX"}"#, "alg-unknown"),
            (r#"{"kid":"k"}"#, "alg-missing"),
            (
                r#"{"alg":"ES256","jku":"https://a.example"}"#,
                "key-in-header",
            ),
            (r#"{"alg":"ES256","crit":["b64"]}"#, "critical-header"),
            (r#"{"alg":"ES256","alg":"none"}"#, "duplicate-member"),
        ] {
            assert!(codes(bad, CLAIMS).contains(&code), "{bad}");
        }
        for (bad, code) in [
            (r#"{"iss":"a","sub":"b","aud":"c"}"#, "exp-missing"),
            (r#"{"iss":"a","sub":"b","exp":1795428100}"#, "aud-missing"),
            (
                r#"{"iss":"a","sub":"b","aud":"c","exp":1795428000}"#,
                "expired",
            ),
            (
                r#"{"iss":"a","sub":"b","aud":"c","iat":1795428000,"exp":1799999999}"#,
                "lifetime-long",
            ),
            (r#"{"sub":"b","aud":"c","exp":1795428100}"#, "iss-missing"),
            (
                r#"{"sub":"spiffe://a/b//c","aud":"c","exp":1795428100}"#,
                "svid-sub",
            ),
            (
                r#"{"sub":"spiffe://a","aud":"c","exp":1795428100}"#,
                "svid-sub",
            ),
            (
                r#"{"sub":"spiffe://a/b","aud":["c","d"],"exp":1795428100}"#,
                "svid-aud-several",
            ),
            (
                r#"{"sub":"spiffe://a/b","aud":"c","aud":"d","exp":1795428100}"#,
                "duplicate-member",
            ),
        ] {
            assert_eq!(codes(header, bad), [code], "{bad}");
        }
        let typed = r#"{"alg":"ES256","typ":"at+jwt"}"#;
        let svid = r#"{"sub":"spiffe://a/b","aud":"c","exp":1795428100}"#;
        assert_eq!(codes(typed, svid), ["svid-typ"]);
    }

    proptest::proptest! {
        #[test]
        fn any_token_is_shown_or_refused(
            header in "[ -~]{0,40}",
            claims in r#"\{("(exp|sub|aud|iat|a)":("[ -~]{0,9}"|-?[0-9]{1,20}|\[\]|null),?){0,5}\}"#,
        ) {
            let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let good = encoded(r#"{"alg":"ES256"}"#);
            for header in [good.as_str(), &encoded(&header)] {
                let token = format!("{header}.{}.c2ln", encoded(&claims));
                if let Ok(report) = read(&token, at(1_795_428_060)) {
                    let text = render(&report, Palette::PLAIN, at(1_795_428_060));
                    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
                }
            }
        }
    }
}
