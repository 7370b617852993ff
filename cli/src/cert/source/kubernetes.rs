//! Certificates in Kubernetes' own files: kubeconfigs, Secrets and ConfigMaps, as YAML or JSON.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_policy::yaml::{Report, read_documents};
use serde_json::{Map, Value};

use super::super::text::shown;
use super::bytes::{Context, Read, from_pkcs12, pem_group};
use super::found::{FoundKey, Group, Kind, Remark};
use super::{pem, pkcs12};

/// The most values of one file that are looked at.
const MOST_VALUES: usize = 1000;

/// Why such a file holds no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubernetesError {
    #[error("a {0} without a certificate in it")]
    Nothing(&'static str),
}

/// Reads such a file. `None` if it is something else.
pub(super) fn read(text: &str, context: Context<'_>) -> Result<Option<Read>, KubernetesError> {
    // Cheap to tell, and spares other files the YAML parser.
    if !text.contains("kind") || !text.contains("apiVersion") {
        return Ok(None);
    }
    let report = Report::new("");
    let documents: Vec<Value> = read_documents(text, &report)
        .filter_map(|node| report.value(&node).json())
        .collect();
    let mut read = Read {
        form: "",
        groups: Vec::new(),
        remarks: Vec::new(),
    };
    for document in &documents {
        object(document, context, &mut read);
    }
    if read.form.is_empty() {
        return Ok(None);
    }
    for mistake in report.into_diagnostics().into_iter().take(10) {
        read.remarks.push(Remark::Damaged(format!(
            "line {}: {}",
            mistake.line,
            shown(&mistake.message)
        )));
    }
    match read.groups.is_empty() {
        true => Err(KubernetesError::Nothing(read.form)),
        false => Ok(Some(read)),
    }
}

fn object(object: &Value, context: Context<'_>, read: &mut Read) {
    match object.get("kind").and_then(Value::as_str) {
        Some("Config") => {
            read.form = "kubeconfig";
            kubeconfig(object, context, read);
        }
        Some("Secret") => {
            read.form = "Secret";
            let mut values = Vec::new();
            for (key, value) in entries(object, "data") {
                match STANDARD.decode(value.split_whitespace().collect::<String>()) {
                    Ok(bytes) => values.push((key, bytes)),
                    Err(_) => read.remarks.push(Remark::Damaged(format!(
                        "{}: not base64, as the values under `data` have to be",
                        shown(&key)
                    ))),
                }
            }
            let plain = entries(object, "stringData");
            values.extend(plain.map(|(key, value)| (key, value.into_bytes())));
            keyed(object, values, context, read);
        }
        Some("ConfigMap") => {
            read.form = "ConfigMap";
            let plain = entries(object, "data");
            let values = plain
                .map(|(key, value)| (key, value.into_bytes()))
                .collect();
            keyed(object, values, context, read);
        }
        Some("List" | "SecretList" | "ConfigMapList") => {
            let items = object.get("items").and_then(Value::as_array);
            for item in items.into_iter().flatten().take(MOST_VALUES) {
                self::object(item, context, read);
            }
        }
        _ => {}
    }
}

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (String, String)> + 'a {
    object
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .take(MOST_VALUES)
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
}

/// The certificates under each key of a Secret or ConfigMap, each with the private key that belongs to
/// it by its name (`tls.crt` and `tls.key`), or by being the only one.
fn keyed(object: &Value, values: Vec<(String, Vec<u8>)>, context: Context<'_>, read: &mut Read) {
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    let namespace = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str);
    let owner: Vec<_> = namespace.into_iter().chain(name).map(shown).collect();
    let owner = owner.join("/");
    let mut groups: Vec<(String, Group)> = Vec::new();
    let mut keys: Vec<(String, Vec<FoundKey>)> = Vec::new();
    for (key, bytes) in values {
        let label = format!("{owner} {}", shown(&key)).trim_start().to_owned();
        let found = if pem::is_pem(&bytes) {
            pem_group(&bytes, context)
        } else if pkcs12::is_pkcs12(&bytes) {
            match from_pkcs12(&bytes, context) {
                Ok(found) => match found.groups.into_iter().next() {
                    Some(group) => (group, Vec::new()),
                    None => continue,
                },
                Err(error) => {
                    let text = format!("{label}: {error}");
                    read.remarks.push(Remark::Damaged(text));
                    continue;
                }
            }
        } else {
            continue;
        };
        let (mut group, remarks) = found;
        read.remarks
            .extend(remarks.into_iter().map(|remark| match remark {
                Remark::Note(text) => Remark::Note(format!("{label}: {text}")),
                Remark::Damaged(text) => Remark::Damaged(format!("{label}: {text}")),
            }));
        if group.certificates.is_empty() {
            keys.push((stem(&key).to_owned(), group.keys));
        } else {
            group.name = Some(label);
            if key == "ca.crt" || key.starts_with("ca-") || key.starts_with("root-") {
                group.kind = Kind::Bundle;
            }
            groups.push((stem(&key).to_owned(), group));
        }
    }
    let alone = keys.len() == 1 && groups.len() == 1;
    for (stem, found) in keys {
        let owner = groups.iter_mut().find(|(of, _)| *of == stem || alone);
        match owner {
            Some((_, group)) => group.keys.extend(found),
            None => read.remarks.push(Remark::Note(format!(
                "a private key {} that no certificate here belongs to by its name",
                shown(&stem)
            ))),
        }
    }
    read.groups
        .extend(groups.into_iter().map(|(_, group)| group));
}

/// `tls` of `tls.crt`.
fn stem(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(stem, _)| stem)
}

/// The authorities of the clusters and the certificates of the users, within the file or in files that
/// it names.
fn kubeconfig(config: &Value, context: Context<'_>, read: &mut Read) {
    for (cluster, fields) in named(config, "clusters", "cluster") {
        let name = format!("cluster {}", shown(&cluster));
        let field = "certificate-authority";
        if let Some(bytes) = field_bytes(fields, field, &name, context, read) {
            push(&bytes, name, Kind::Bundle, context, read);
        }
    }
    for (user, fields) in named(config, "users", "user") {
        let name = format!("user {}", shown(&user));
        let Some(bytes) = field_bytes(fields, "client-certificate", &name, context, read) else {
            continue;
        };
        let key = field_bytes(fields, "client-key", &name, context, read);
        push(&bytes, name, Kind::Chain, context, read);
        if let (Some(key), Some(group)) = (key, read.groups.last_mut()) {
            group.keys.extend(pem_group(&key, context).0.keys);
        }
    }
}

fn named<'a>(
    config: &'a Value,
    list: &str,
    item: &'a str,
) -> impl Iterator<Item = (String, &'a Map<String, Value>)> {
    config
        .get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(MOST_VALUES)
        .filter_map(move |entry| {
            let name = entry.get("name").and_then(Value::as_str).unwrap_or("?");
            Some((name.to_owned(), entry.get(item)?.as_object()?))
        })
}

/// The bytes of a field: `FIELD-data` in base64, else the file that `FIELD` names.
fn field_bytes(
    fields: &Map<String, Value>,
    field: &str,
    owner: &str,
    context: Context<'_>,
    read: &mut Read,
) -> Option<Vec<u8>> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    if let Some(data) = text(&format!("{field}-data")) {
        let decoded = STANDARD.decode(data.split_whitespace().collect::<String>());
        if decoded.is_err() {
            let problem = format!("{owner}: {field}-data is not base64");
            read.remarks.push(Remark::Damaged(problem));
        }
        return decoded.ok();
    }
    let named = text(field)?;
    let path = context.directory.unwrap_or(Path::new(".")).join(named);
    match super::read_file(&path) {
        Ok(bytes) => Some(bytes.to_vec()),
        Err(error) => {
            let problem = format!("{owner}: cannot read {}: {error}", shown(named));
            read.remarks.push(Remark::Damaged(problem));
            None
        }
    }
}

fn push(bytes: &[u8], name: String, kind: Kind, context: Context<'_>, read: &mut Read) {
    let (mut group, remarks) = pem_group(bytes, context);
    let remarks = remarks.into_iter().map(|remark| match remark {
        Remark::Note(text) => Remark::Note(format!("{name}: {text}")),
        Remark::Damaged(text) => Remark::Damaged(format!("{name}: {text}")),
    });
    read.remarks.extend(remarks);
    if group.certificates.is_empty() {
        let problem = format!("{name}: no certificate in it");
        read.remarks.push(Remark::Damaged(problem));
        return;
    }
    group.name = Some(name);
    group.kind = kind;
    read.groups.push(group);
}
