//! The JSON Schema of the documents, for editors that complete, explain and check while policy is written.
//!
//! The types of this module have the shape that documents have as YAML, field by field, with the text that an editor
//! shows; what a field accepts is the type that it is read into ([`crate::pattern`]). Documents are not read by them, so
//! tests hold them to the reader: `tests/schema.rs` compares the fields of both, and what both refuse.

mod access_policy;
mod blocks;
mod mesh;
mod policy_test;
mod text;
mod token_issuer;

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::document::API_VERSION;

/// The JSON Schema of one document: any kind of this language, or a document of another API group.
///
/// It is of draft 7, which every editor knows.
#[must_use]
pub fn json_schema() -> Value {
    let mut generator = generator();
    let own = [
        generator.subschema_for::<access_policy::AccessPolicy>(),
        generator.subschema_for::<token_issuer::TokenIssuer>(),
        generator.subschema_for::<mesh::MeshMode>(),
        generator.subschema_for::<mesh::EgressPolicy>(),
        generator.subschema_for::<mesh::TrustDomain>(),
        generator.subschema_for::<mesh::TransactionPolicy>(),
    ];
    let other = json_schema!({
        "description": "A document of another API group, such as Kubernetes' own. It is no policy.",
        "type": "object",
        "properties": {"apiVersion": {"type": "string", "not": {"pattern": "^countersign\\.dev/"}}},
        "required": ["apiVersion"],
    });
    let any: Vec<Value> = own.into_iter().chain([other]).map(Value::from).collect();
    root("Countersign policy", "oneOf", any, generator)
}

/// The JSON Schema of one document of a file `*.test.yaml`; of draft 7, too.
#[must_use]
pub fn test_json_schema() -> Value {
    let mut generator = generator();
    let test = generator.subschema_for::<policy_test::PolicyTest>();
    // In draft 7 a `$ref` hides what stands beside it; `allOf` does not.
    root(
        "Countersign policy tests",
        "allOf",
        vec![test.into()],
        generator,
    )
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.transforms.push(Box::new(WithoutNull));
    });
    settings.into_generator()
}

/// A schema with its definitions; `which` says how many of `documents` a document has to be.
fn root(title: &str, which: &str, documents: Vec<Value>, mut generator: SchemaGenerator) -> Value {
    let mut schema = json_schema!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        which: documents,
        "definitions": generator.take_definitions(true),
    });
    WithoutNull.transform(&mut schema);
    schema.into()
}

/// A field is left out, and never given without a value: nothing may be `null`.
#[derive(Clone, Debug)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(fields) = schema.as_object_mut() else {
            return;
        };
        if let Some(Value::Array(types)) = fields.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                fields.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(words)) = fields.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        let is_null = |schema: &Value| schema.get("type").is_some_and(|name| name == "null");
        if let Some(Value::Array(choices)) = fields.get_mut("anyOf")
            && choices.iter().any(is_null)
        {
            choices.retain(|choice| !is_null(choice));
            if let [only] = choices.as_slice() {
                let only = only.clone();
                fields.remove("anyOf");
                // In draft 7 a `$ref` hides what stands beside it; `allOf` does not.
                fields.insert("allOf".to_owned(), Value::Array(vec![only]));
            }
        }
    }
}

/// What stands in `kind`.
macro_rules! kind {
    ($type:ident, $kind:expr) => {
        /// The kind of the document.
        #[derive(Debug)]
        struct $type;

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"const": $kind})
            }
        }
    };
}
use kind;

/// `countersign.dev/v1`
#[derive(Debug)]
struct ApiVersion;

impl JsonSchema for ApiVersion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ApiVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"const": API_VERSION})
    }
}
