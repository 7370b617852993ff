//! What fields of several kinds are made of: lists that are not empty, one value or several, mappings by name.

#![expect(dead_code, reason = "of these types there is only the schema")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::text::Text;
use crate::pattern::{ClaimValue, Name};

/// A list of at least one item.
#[derive(Debug)]
pub(super) struct List<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<T>(), "minItems": 1})
    }
}

/// One value, or a list of alternatives.
#[derive(Debug)]
pub(super) struct OneOrMore<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<T>(), List::<T>::json_schema(generator)]})
    }
}

/// Values by names of one type; at least one.
#[derive(Debug)]
pub(super) struct ByName<K, V>(PhantomData<(K, V)>);

impl<K: JsonSchema, V: JsonSchema> JsonSchema for ByName<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}By{}", V::schema_name(), K::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": K::json_schema(generator),
            "additionalProperties": generator.subschema_for::<V>(),
            "minProperties": 1,
        })
    }
}

/// Dotted path of a claim → the value, or the values, that it may have.
pub(super) type Claims = ByName<Text, OneOrMore<ClaimValue>>;

/// What a document is called. Its name is unique within its kind and namespace.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    /// The name.
    name: Name,
    /// The namespace whose workloads the document is about. In `countersign-system`, the root namespace, it is about
    /// the workloads of the whole mesh.
    namespace: Name,
    /// Kubernetes' own; nothing here depends on them.
    labels: Option<BTreeMap<String, String>>,
    /// Kubernetes' own; nothing here depends on them.
    annotations: Option<BTreeMap<String, String>>,
}

/// The workloads of the namespace that the document is about: both parts have to hold. Left out, it is about all of them.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Target {
    /// Labels that they have to have, all of them.
    labels: Option<BTreeMap<String, String>>,
    /// Service accounts.
    workloads: Option<List<Name>>,
}

/// A TCP port.
#[derive(Debug)]
pub(super) struct Port;

impl JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": 65535})
    }
}
