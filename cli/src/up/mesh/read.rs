//! Reads the fields of a mesh file. What concerns several of them is for [`super::check`].

use std::collections::BTreeMap;
use std::path::Path;

use countersign_identity::TrustDomain;
use countersign_policy::yaml::{Fields, Value};
use url::Url;

use super::check;
use super::template::Template;
use super::{Issuer, Mesh, PolicySource, Port, Repository};
use crate::up::addresses::MOST_WORKLOADS;
use crate::up::issuer::User;

/// What is read, together with where it stands.
#[derive(Clone)]
pub(super) struct Placed<'a, T> {
    pub(super) value: T,
    pub(super) at: Value<'a>,
}

/// A workload whose parts are still tied to their places.
#[derive(Clone)]
pub(super) struct PlacedWorkload<'a> {
    pub(super) at: Value<'a>,
    pub(super) name: Placed<'a, String>,
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) command: Vec<Placed<'a, Template>>,
    pub(super) env: Vec<(String, Placed<'a, Template>)>,
    pub(super) ports: Vec<Placed<'a, Port>>,
    pub(super) calls: Vec<Placed<'a, String>>,
    pub(super) replicas: usize,
}

/// Reads the whole file; relative paths in it are meant from `base`.
pub(crate) fn mesh(value: Value<'_>, base: &Path) -> Option<Mesh> {
    value.mapping(|fields| {
        let trust_domain = fields.required("trustDomain", |value| {
            value.parsed::<TrustDomain>("a trust domain such as shop.example")
        });
        let policy = fields.required("policy", |value| policy(value, base));
        let issuers = fields.default("issuers", Vec::new(), |value| value.list("issuers", issuer));
        let workloads = fields.required("workloads", |value| {
            // Each is kept even if another is wrong, so that what concerns several is checked too.
            value.non_empty_list("workloads", |value| Some(workload(value)))
        });
        // These look across fields; they run even where some field is wrong, to find all mistakes.
        let distinct = issuers.as_deref().and_then(check::distinct_issuers);
        let workloads = workloads.and_then(|workloads| {
            check::Workloads::new(workloads, fields).check(trust_domain.as_ref())
        });
        distinct?;
        Some(Mesh {
            trust_domain: trust_domain?,
            policy: policy?,
            issuers: issuers?.into_iter().map(|issuer| issuer.value).collect(),
            workloads: workloads?,
        })
    })
}

fn policy(value: Value<'_>, base: &Path) -> Option<PolicySource> {
    value.mapping(|fields| {
        let repository = fields.required("repository", Value::text);
        let branch = fields.default("branch", "main".to_owned(), Value::string);
        let repository = repository?;
        // As git tells them apart: a URL has a scheme, the short form of ssh a colon before any slash.
        let remote = repository.contains("://")
            || repository
                .split('/')
                .next()
                .is_some_and(|first| first.contains(':'));
        let repository = if remote {
            Repository::Remote(repository.to_owned())
        } else {
            Repository::Local(base.join(repository))
        };
        Some(PolicySource {
            repository,
            branch: branch?,
        })
    })
}

fn issuer(value: Value<'_>) -> Option<Placed<'_, Issuer>> {
    value.mapping(|fields| {
        let name = fields.required("name", label);
        let issuer = fields.required("issuer", |value| {
            let text = value.text()?;
            match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => Some(text.to_owned()),
                _ => value.expected("a URL such as https://login.shop.example"),
            }
        });
        let audiences = fields.required("audiences", |value| {
            value.non_empty_list("audiences", Value::string)
        });
        let users = fields.default("users", Vec::new(), |value| value.list("users", user));
        let (name, issuer) = (name?, issuer?);
        let issuer = Issuer {
            name: name.value,
            issuer,
            audiences: audiences?,
            users: users?,
        };
        Some(Placed {
            value: issuer,
            at: name.at,
        })
    })
}

fn user(value: Value<'_>) -> Option<User> {
    value.mapping(|fields| {
        let name = fields.required("name", Value::string);
        let claims = fields.default("claims", serde_json::Map::new(), |value| {
            match value.json()? {
                serde_json::Value::Object(claims) => Some(claims),
                _ => value.expected("a mapping of claims to their values"),
            }
        });
        Some(User {
            name: name?,
            claims: claims?,
        })
    })
}

fn workload(value: Value<'_>) -> Option<PlacedWorkload<'_>> {
    value.mapping(|fields| {
        let name = fields.required("name", label);
        let namespace = fields.required("namespace", label);
        let service_account = fields.optional("serviceAccount", label);
        let labels = fields.optional("labels", |value| {
            value.entries("labels", |_, value| value.string_or_empty())
        });
        let command = fields.required("command", |value| {
            value.non_empty_list("program and its arguments", template)
        });
        let env = fields.default("env", Vec::new(), |value| {
            value.entries("values", |_, value| template(value))
        });
        let ports = fields.default("ports", Vec::new(), |value| value.list("ports", port));
        let calls = fields.default("calls", Vec::new(), |value| {
            value.list("services", |at| {
                Some(Placed {
                    value: at.string()?,
                    at,
                })
            })
        });
        let replicas = replicas(fields);
        let name = name?;
        let service_account =
            service_account?.map_or_else(|| name.value.clone(), |account| account.value);
        let labels = match labels? {
            Some(labels) => labels.into_iter().collect(),
            None => BTreeMap::from([("app".to_owned(), name.value.clone())]),
        };
        Some(PlacedWorkload {
            at: value,
            name,
            namespace: namespace?.value,
            service_account,
            labels,
            command: command?,
            env: env?,
            ports: ports?,
            calls: calls?,
            replicas: replicas?,
        })
    })
}

fn replicas(fields: &mut Fields<'_>) -> Option<usize> {
    fields.default("replicas", 1, |value| value.integer(1..=MOST_WORKLOADS))
}

fn port(value: Value<'_>) -> Option<Placed<'_, Port>> {
    value.mapping(|fields| {
        let port = fields.required("port", |at| {
            Some(Placed {
                value: at.port()?,
                at,
            })
        });
        let protocol = fields.optional("protocol", |value| {
            value.choice(&[("http1", "http1"), ("http2", "http2"), ("tcp", "tcp")])
        });
        let port = port?;
        Some(Placed {
            value: Port {
                port: port.value,
                protocol: protocol?,
            },
            at: port.at,
        })
    })
}

fn template(at: Value<'_>) -> Option<Placed<'_, Template>> {
    match Template::parse(&at.string_or_empty()?) {
        Ok(value) => Some(Placed { value, at }),
        Err(error) => at.mistake(error.to_string()),
    }
}

/// A name that is part of SPIFFE IDs, service names and file names: a DNS label (RFC 1123 §2.1).
fn label(at: Value<'_>) -> Option<Placed<'_, String>> {
    let text = at.text()?;
    let fits = text.len() <= 63
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        Some(Placed {
            value: text.to_owned(),
            at,
        })
    } else {
        at.expected("a name of at most 63 lower-case letters, digits and `-`, such as orders")
    }
}
