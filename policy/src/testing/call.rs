//! Calls in YAML: those of [`call_json`](crate::call_json), whole or in part.
//!
//! They are checked field by field, so that a mistake has its place, and put together as JSON.

use std::net::IpAddr;

use serde_json::{Map, Value as Json};

use crate::yaml::{Fields, Value};

/// What a call has of its own, and a test can take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Peer,
    SourceIp,
    Sni,
    Request,
    Subject,
    Subjects,
    Intent,
    Time,
}

impl Fact {
    pub(crate) const ALL: [Self; 8] = [
        Self::Peer,
        Self::SourceIp,
        Self::Sni,
        Self::Request,
        Self::Subject,
        Self::Subjects,
        Self::Intent,
        Self::Time,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::SourceIp => "source_ip",
            Self::Sni => "sni",
            Self::Request => "request",
            Self::Subject => "subject",
            Self::Subjects => "subjects",
            Self::Intent => "intent",
            Self::Time => "time",
        }
    }
}

/// Reads a whole call.
pub(super) fn read(value: Value<'_>) -> Option<Map<String, Json>> {
    Reader { whole: true }.call(value)
}

/// Reads what is different in a call.
pub(super) fn read_part(value: Value<'_>) -> Option<Map<String, Json>> {
    Reader { whole: false }.call(value)
}

/// A call without some facts and with others: mappings are put together field by field, everything else is replaced.
pub(super) fn combined(
    mut call: Map<String, Json>,
    with: Map<String, Json>,
    without: &[Fact],
) -> Map<String, Json> {
    for fact in without {
        call.remove(fact.as_str());
    }
    merge(&mut call, with);
    call
}

/// As deep as the YAML, which is bounded.
fn merge(into: &mut Map<String, Json>, from: Map<String, Json>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Json::Object(into)), Json::Object(from)) => merge(into, from),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

struct Reader {
    /// Whether nothing may be missing.
    whole: bool,
}

impl Reader {
    fn call(&self, value: Value<'_>) -> Option<Map<String, Json>> {
        value.mapping(|fields| {
            let known = [
                fields.optional("peer", text).is_some(),
                fields.optional("source_ip", address).is_some(),
                self.needed(fields, "destination", |v| self.destination(v)),
                fields.optional("sni", text).is_some(),
                fields.optional("request", |v| self.request(v)).is_some(),
                fields.optional("subject", |v| self.subject(v)).is_some(),
                fields
                    .optional("subjects", |value| {
                        value.list("subjects", |v| Self { whole: true }.subject(v))
                    })
                    .is_some(),
                fields.optional("intent", intent).is_some(),
                fields.optional("time", time).is_some(),
            ];
            object_if(known, value)
        })
    }

    /// Whether the field is right, or may be missing and is.
    fn needed<'a, T>(
        &self,
        fields: &mut Fields<'a>,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> bool {
        if self.whole {
            fields.required(name, read).is_some()
        } else {
            fields.optional(name, read).is_some()
        }
    }

    fn destination(&self, value: Value<'_>) -> Option<Map<String, Json>> {
        value.mapping(|fields| {
            let known = [
                self.needed(fields, "namespace", text),
                self.needed(fields, "workload", text),
                fields
                    .optional("labels", |v| {
                        v.entries("strings", |_, v| v.string_or_empty())
                    })
                    .is_some(),
                fields.optional("ip", address).is_some(),
                self.needed(fields, "port", Value::port),
            ];
            object_if(known, value)
        })
    }

    fn request(&self, value: Value<'_>) -> Option<Map<String, Json>> {
        value.mapping(|fields| {
            let known = [
                self.needed(fields, "method", text),
                fields.optional("host", Value::string_or_empty).is_some(),
                self.needed(fields, "path", text),
                fields
                    .optional("headers", |value| {
                        value.entries("values", |_, value| {
                            if value.is_list() {
                                value.list("values", Value::string_or_empty).map(drop)
                            } else {
                                value.string_or_empty().map(drop)
                            }
                        })
                    })
                    .is_some(),
            ];
            object_if(known, value)
        })
    }

    fn subject(&self, value: Value<'_>) -> Option<Map<String, Json>> {
        value.mapping(|fields| {
            let known = [
                self.needed(fields, "issuer", text),
                fields.optional("claims", json_object).is_some(),
            ];
            object_if(known, value)
        })
    }
}

fn intent(value: Value<'_>) -> Option<Map<String, Json>> {
    value.mapping(|fields| {
        let known = [
            fields.optional("scope", Value::strings).is_some(),
            fields.optional("tctx", json_object).is_some(),
            fields.optional("requester", text).is_some(),
            fields
                .optional("exp", |v| v.integer(0..=u64::MAX))
                .is_some(),
        ];
        object_if(known, value)
    })
}

fn time(value: Value<'_>) -> Option<()> {
    let text = value.text()?;
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(_) => Some(()),
        Err(problem) => value.mistake(format!(
            "expected a time such as 2026-11-23T10:00:00Z, got {text:?}: {problem}"
        )),
    }
}

fn address(value: Value<'_>) -> Option<IpAddr> {
    value.parsed("an IP address such as 10.0.0.7")
}

fn text(value: Value<'_>) -> Option<&str> {
    value.text()
}

fn json_object(value: Value<'_>) -> Option<Map<String, Json>> {
    if value.is_mapping() {
        object(value)
    } else {
        value.expected("a mapping")
    }
}

fn object(value: Value<'_>) -> Option<Map<String, Json>> {
    match value.json()? {
        Json::Object(object) => Some(object),
        _ => value.expected("a mapping"),
    }
}

fn object_if<const N: usize>(right: [bool; N], value: Value<'_>) -> Option<Map<String, Json>> {
    if right.into_iter().all(|right| right) {
        object(value)
    } else {
        None
    }
}
