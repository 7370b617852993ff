//! `countersign token mint`: a token of the development issuer, by its token endpoint.

use std::io;

use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::args::MintArguments;
use crate::http_client::{self, HttpError};
use crate::mesh_state::{IssuerState, MeshState, MeshStateError};
use crate::output::{Answer, Format, Output};

/// Why no token could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    #[error(transparent)]
    MeshState(#[from] MeshStateError),
    #[error("the mesh has no issuer; add one under `issuers` in its mesh file")]
    NoIssuer,
    #[error("the mesh has several issuers: choose one of {0} with --issuer")]
    ChooseIssuer(String),
    #[error("the mesh has no issuer `{name}`; it has {known}")]
    UnknownIssuer { name: String, known: String },
    #[error("--claim {0}: expected NAME=VALUE")]
    Claim(String),
    #[error("the address of the issuer in mesh.json is damaged")]
    Address(#[from] url::ParseError),
    #[error("cannot reach the issuer; is the mesh up?")]
    Unreachable(#[source] HttpError),
    #[error("the issuer refuses: {0}")]
    Refused(String),
    #[error("the issuer's answer is not that of a token endpoint")]
    Answer(#[source] serde_json::Error),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    #[error("cannot print the token")]
    Print(#[source] io::Error),
}

/// A token endpoint's answer (RFC 6749 §5.1, §5.2).
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenAnswer {
    Granted {
        access_token: String,
        expires_in: i64,
    },
    Refused {
        error: String,
        error_description: Option<String>,
    },
}

/// Prints a token, alone, so that `$(countersign token mint alice)` is one.
pub(crate) fn mint(arguments: &MintArguments, output: &Output) -> Result<Answer, MintError> {
    let state = MeshState::read(&arguments.state)?;
    let issuer = choose(&state.issuers, arguments.issuer.as_deref())?;
    let form = form(arguments)?;
    let endpoint = Url::parse(&issuer.token_endpoint)?;
    let body = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MintError::Runtime)?
        .block_on(http_client::post_form(&endpoint, form))
        .map_err(MintError::Unreachable)?
        .body;
    match serde_json::from_slice(&body).map_err(MintError::Answer)? {
        TokenAnswer::Granted {
            access_token,
            expires_in,
        } => {
            match output.format {
                Format::Text => output.write(&format!("{access_token}\n")),
                Format::Json => output.write_json(&serde_json::json!({
                    "token": access_token, "expires_in": expires_in, "issuer": issuer.issuer,
                })),
            }
            .map_err(MintError::Print)?;
            Ok(Answer::Yes)
        }
        TokenAnswer::Refused {
            error,
            error_description,
        } => Err(MintError::Refused(error_description.unwrap_or(error))),
    }
}

fn choose<'a>(
    issuers: &'a [IssuerState],
    name: Option<&str>,
) -> Result<&'a IssuerState, MintError> {
    let known = || {
        issuers
            .iter()
            .map(|issuer| issuer.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (issuers, name) {
        ([], _) => Err(MintError::NoIssuer),
        ([only], None) => Ok(only),
        (_, None) => Err(MintError::ChooseIssuer(known())),
        (_, Some(name)) => issuers
            .iter()
            .find(|issuer| issuer.name == name)
            .ok_or_else(|| MintError::UnknownIssuer {
                name: name.to_owned(),
                known: known(),
            }),
    }
}

/// The request of the development grant: a user's name and no password.
fn form(arguments: &MintArguments) -> Result<String, MintError> {
    let mut claims = Map::new();
    for text in &arguments.claim {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| MintError::Claim(text.clone()))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        claims.insert(name.to_owned(), value);
    }
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "password")
        .append_pair("username", &arguments.user)
        .append_pair("ttl", &arguments.ttl.seconds().to_string())
        .append_pair("claims", &Value::Object(claims).to_string());
    for audience in &arguments.audience {
        form.append_pair("audience", audience);
    }
    Ok(form.finish())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::instant::parse_signed_duration;

    fn issuer(name: &str) -> IssuerState {
        IssuerState {
            name: name.to_owned(),
            issuer: format!("https://{name}.example"),
            discovery_url: String::new(),
            token_endpoint: String::new(),
            audiences: Vec::new(),
            users: Vec::new(),
        }
    }

    fn arguments(claims: &[&str]) -> MintArguments {
        MintArguments {
            user: "alice".to_owned(),
            issuer: None,
            audience: vec!["a b".to_owned(), "c".to_owned()],
            ttl: parse_signed_duration("-5m").unwrap(),
            claim: claims.iter().map(|claim| (*claim).to_owned()).collect(),
            state: PathBuf::new(),
        }
    }

    #[test]
    fn the_only_issuer_needs_no_name() {
        let (a, b) = (issuer("a"), issuer("b"));
        assert_eq!(choose(std::slice::from_ref(&a), None).unwrap(), &a);
        let both = [a, b.clone()];
        assert_eq!(choose(&both, Some("b")).unwrap(), &b);
        assert_eq!(
            choose(&both, None).unwrap_err().to_string(),
            "the mesh has several issuers: choose one of a, b with --issuer"
        );
        assert_eq!(
            choose(&both, Some("c")).unwrap_err().to_string(),
            "the mesh has no issuer `c`; it has a, b"
        );
    }

    #[test]
    fn claims_are_json_or_else_strings() {
        let form = form(&arguments(&[
            r#"groups=["x"]"#,
            "tenant=acme",
            "n=1",
            "eq=a=b",
        ]))
        .unwrap();
        let pairs: Vec<_> = form_urlencoded::parse(form.as_bytes())
            .into_owned()
            .collect();
        let value = |name: &str| {
            pairs
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        assert_eq!(
            serde_json::from_str::<Value>(value("claims").unwrap()).unwrap(),
            serde_json::json!({"groups": ["x"], "tenant": "acme", "n": 1, "eq": "a=b"})
        );
        assert_eq!(value("ttl"), Some("-300"));
        assert_eq!(
            pairs.iter().filter(|(name, _)| name == "audience").count(),
            2
        );
    }

    #[test]
    fn a_claim_without_a_value_is_refused() {
        assert!(matches!(
            form(&arguments(&["groups"])),
            Err(MintError::Claim(_))
        ));
        assert!(matches!(
            form(&arguments(&["=x"])),
            Err(MintError::Claim(_))
        ));
    }
}
