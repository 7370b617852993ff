//! From the calls of one caller to the entries of `to`: as few as there can be that allow exactly the combinations seen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::evidence::{OfCaller, What};
use super::paths::{Form, patterns};
use crate::pattern::{HostPattern, Method, Name};

/// Entries of `to`, and the paths in them that have parameters.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) entries: Vec<Value>,
    /// Pattern → what its parameters rest on.
    pub(super) parameters: BTreeMap<String, Vec<(Form, usize)>>,
}

/// What a call is about, beside where and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// Whatever goes over the port.
    Port,
    Sni(String),
    Path(String),
    Grpc(String, String),
}

impl Target {
    /// The field of an entry that it stands in.
    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Port => None,
            Self::Sni(_) => Some("sni"),
            Self::Path(_) => Some("paths"),
            Self::Grpc(..) => Some("grpc"),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Port => Value::Null,
            Self::Sni(text) | Self::Path(text) => json!(text),
            Self::Grpc(service, method) => json!({"service": service, "method": method}),
        }
    }
}

/// One combination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Combination {
    target: Target,
    port: u16,
    /// `None`: any, or none.
    method: Option<String>,
    host: Option<String>,
}

pub(super) fn operations(calls: &OfCaller<'_>, distinct_values: usize) -> Operations {
    let mut operations = Operations::default();
    let mut combinations = BTreeSet::new();
    let mut paths: BTreeMap<(u16, &str, Option<&str>), Vec<&str>> = BTreeMap::new();
    for (call, _) in calls {
        match &call.what {
            What::Connection { sni } => {
                let name = sni
                    .as_deref()
                    .filter(|name| name.parse::<HostPattern>().is_ok());
                combinations.insert(Combination {
                    target: name.map_or(Target::Port, |name| Target::Sni(name.to_owned())),
                    port: call.port,
                    method: None,
                    host: None,
                });
            }
            What::Request {
                grpc,
                method,
                host,
                path,
            } => {
                if method.parse::<Method>().is_err() {
                    continue;
                }
                let host = host
                    .as_deref()
                    .filter(|host| host.parse::<HostPattern>().is_ok());
                if let Some((service, name)) = grpc_method(path).filter(|_| *grpc) {
                    combinations.insert(Combination {
                        target: Target::Grpc(service.to_owned(), name.to_owned()),
                        port: call.port,
                        method: Some(method.to_string()),
                        host: host.map(str::to_owned),
                    });
                } else {
                    paths
                        .entry((call.port, method, host))
                        .or_default()
                        .push(path);
                }
            }
        }
    }
    for ((port, method, host), paths) in paths {
        for pattern in patterns(paths, distinct_values) {
            if !pattern.parameters.is_empty() {
                operations
                    .parameters
                    .insert(pattern.text.clone(), pattern.parameters);
            }
            combinations.insert(Combination {
                target: Target::Path(pattern.text),
                port,
                method: Some(method.to_owned()),
                host: host.map(str::to_owned),
            });
        }
    }
    // A connection may say anything: what else was seen of its port adds nothing.
    let open: BTreeSet<u16> = combinations
        .iter()
        .filter(|c| c.target == Target::Port)
        .map(|c| c.port)
        .collect();
    combinations.retain(|c| c.target == Target::Port || !open.contains(&c.port));
    operations.entries = entries(combinations);
    operations
}

fn grpc_method(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (service.parse::<Name>().is_ok() && method.parse::<Name>().is_ok()).then_some((service, method))
}

/// An entry allows every combination of its fields, so what shares an entry has to be equal in all fields but one; one
/// field after the other is gathered.
fn entries(combinations: BTreeSet<Combination>) -> Vec<Value> {
    type Set<T> = BTreeSet<T>;
    type Methods = Set<Option<String>>;
    let mut methods: BTreeMap<(Target, Option<String>, u16), Methods> = BTreeMap::new();
    for Combination {
        target,
        port,
        method,
        host,
    } in combinations
    {
        methods
            .entry((target, host, port))
            .or_default()
            .insert(method);
    }
    let mut ports: BTreeMap<(Target, Option<String>, Methods), Set<u16>> = BTreeMap::new();
    for ((target, host, port), methods) in methods {
        ports
            .entry((target, host, methods))
            .or_default()
            .insert(port);
    }
    let mut hosts: BTreeMap<(Target, Set<u16>, Methods), Set<Option<String>>> = BTreeMap::new();
    for ((target, host, methods), ports) in ports {
        hosts
            .entry((target, ports, methods))
            .or_default()
            .insert(host);
    }
    let mut targets: BTreeMap<_, Set<Target>> = BTreeMap::new();
    for ((target, ports, methods), hosts) in hosts {
        targets
            .entry((ports, target.field(), methods, hosts))
            .or_default()
            .insert(target);
    }
    let entries = targets
        .into_iter()
        .map(|((ports, field, methods, hosts), targets)| {
            let mut entry = Map::new();
            entry.insert("ports".to_owned(), json!(ports));
            for (name, values) in [("methods", methods), ("hosts", hosts)] {
                // Any is all of them.
                if let Some(values) = values.into_iter().collect::<Option<Vec<String>>>() {
                    entry.insert(name.to_owned(), json!(values));
                }
            }
            if let Some(field) = field {
                let targets: Vec<Value> = targets.iter().map(Target::json).collect();
                entry.insert(field.to_owned(), Value::Array(targets));
            }
            Value::Object(entry)
        });
    entries.collect()
}
