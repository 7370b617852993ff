//! The order of fields, as `docs/policy.md` and, of tests, `docs/policy-tools.md` have them.

use crate::testing;

/// What is in a mapping.
#[derive(Debug)]
pub(super) enum Shape {
    /// Fields, in order. Without any, the keys are of the author's choice, and stay as they are.
    Fields(&'static [(&'static str, &'static Shape)]),
    /// Keys of the author's choice, whose values have one shape.
    Named(&'static Shape),
}

impl Shape {
    /// Where a field stands; unknown ones stand behind all others.
    pub(super) fn place_of(&self, field: &str) -> usize {
        let fields = self.fields();
        fields
            .iter()
            .position(|(name, _)| *name == field)
            .unwrap_or(fields.len())
    }

    pub(super) fn of_field(&self, field: &str) -> Option<&'static Self> {
        match self {
            Self::Fields(fields) => {
                let mut fields = fields.iter();
                let (_, shape) = fields.find(|(name, _)| *name == field)?;
                Some(shape)
            }
            Self::Named(shape) => Some(shape),
        }
    }

    fn fields(&self) -> &'static [(&'static str, &'static Self)] {
        match self {
            Self::Fields(fields) => fields,
            Self::Named(_) => &[],
        }
    }
}

/// A value, or a mapping with keys of the author's choice.
static FREE: Shape = Shape::Fields(&[]);

pub(super) static DOCUMENT: Shape = Shape::Fields(&[
    ("apiVersion", &FREE),
    ("kind", &FREE),
    ("metadata", &METADATA),
    ("spec", &FREE),
]);

static METADATA: Shape = Shape::Fields(&[
    ("name", &FREE),
    ("namespace", &FREE),
    ("labels", &FREE),
    ("annotations", &FREE),
]);

static TARGET: Shape = Shape::Fields(&[("labels", &FREE), ("workloads", &FREE)]);

static ACCESS_POLICY: Shape = Shape::Fields(&[
    ("target", &TARGET),
    ("mode", &FREE),
    ("default", &FREE),
    ("rules", &RULE),
]);

static RULE: Shape = Shape::Fields(&[
    ("name", &FREE),
    ("action", &FREE),
    ("from", &SOURCE),
    ("subject", &SUBJECT),
    ("intent", &INTENT),
    ("to", &OPERATION),
    ("when", &FREE),
]);

static SOURCE: Shape = Shape::Fields(&[
    ("workload", &FREE),
    ("namespace", &FREE),
    ("spiffe", &FREE),
    ("trustDomain", &FREE),
    ("cidr", &FREE),
    ("forwardedFor", &FREE),
    ("anonymous", &FREE),
    ("not", &SOURCE),
]);

static SUBJECT: Shape = Shape::Fields(&[
    ("issuer", &FREE),
    ("audience", &FREE),
    ("claims", &FREE),
    ("not", &NOT_SUBJECT),
]);

static NOT_SUBJECT: Shape = Shape::Fields(&[("claims", &FREE)]);

static INTENT: Shape = Shape::Fields(&[("scope", &FREE), ("context", &FREE), ("requester", &FREE)]);

static OPERATION: Shape = Shape::Fields(&[
    ("ports", &FREE),
    ("methods", &FREE),
    ("hosts", &FREE),
    ("paths", &FREE),
    ("grpc", &GRPC),
    ("headers", &FREE),
    ("sni", &FREE),
    ("not", &OPERATION),
]);

static GRPC: Shape = Shape::Fields(&[("service", &FREE), ("method", &FREE)]);

static TOKEN_ISSUER: Shape = Shape::Fields(&[
    ("target", &TARGET),
    ("issuer", &FREE),
    ("audiences", &FREE),
    ("algorithms", &FREE),
    ("jwks", &FREE),
    ("jwksUri", &FREE),
    ("from", &LOCATION),
    ("leeway", &FREE),
    ("forward", &FREE),
    ("claimHeaders", &FREE),
    ("payloadHeader", &FREE),
]);

static LOCATION: Shape = Shape::Fields(&[
    ("header", &FREE),
    ("prefix", &FREE),
    ("query", &FREE),
    ("cookie", &FREE),
]);

static MESH_MODE: Shape = Shape::Fields(&[
    ("target", &TARGET),
    ("mode", &FREE),
    ("ports", &FREE),
    ("ambiguousPaths", &FREE),
]);

static EGRESS_POLICY: Shape = Shape::Fields(&[("target", &TARGET), ("rules", &EGRESS_RULE)]);

static EGRESS_RULE: Shape = Shape::Fields(&[("name", &FREE), ("action", &FREE), ("to", &EXTERNAL)]);

static EXTERNAL: Shape = Shape::Fields(&[("hosts", &FREE), ("cidrs", &FREE), ("ports", &FREE)]);

static TRUST_DOMAIN: Shape = Shape::Fields(&[
    ("trustDomain", &FREE),
    ("alias", &FREE),
    ("bundleEndpoint", &BUNDLE_ENDPOINT),
]);

static BUNDLE_ENDPOINT: Shape =
    Shape::Fields(&[("url", &FREE), ("profile", &FREE), ("spiffeId", &FREE)]);

static TRANSACTION_POLICY: Shape =
    Shape::Fields(&[("target", &TARGET), ("rules", &TRANSACTION_RULE)]);

static TRANSACTION_RULE: Shape = Shape::Fields(&[
    ("name", &FREE),
    ("scope", &FREE),
    ("subject", &SUBJECT),
    ("to", &OPERATION),
    ("context", &FREE),
    ("lifetime", &FREE),
]);

static POLICY_TEST: Shape = Shape::Fields(&[("calls", &CALLS), ("tests", &TEST)]);

static CALLS: Shape = Shape::Named(&CALL);

static CALL: Shape = Shape::Fields(&[
    ("peer", &FREE),
    ("source_ip", &FREE),
    ("destination", &DESTINATION),
    ("sni", &FREE),
    ("request", &REQUEST),
    ("subject", &TOKEN),
    ("subjects", &TOKEN),
    ("intent", &TRANSACTION),
    ("time", &FREE),
]);

static DESTINATION: Shape = Shape::Fields(&[
    ("namespace", &FREE),
    ("workload", &FREE),
    ("labels", &FREE),
    ("ip", &FREE),
    ("port", &FREE),
]);

static REQUEST: Shape = Shape::Fields(&[
    ("method", &FREE),
    ("host", &FREE),
    ("path", &FREE),
    ("headers", &FREE),
]);

static TOKEN: Shape = Shape::Fields(&[("issuer", &FREE), ("claims", &FREE)]);

static TRANSACTION: Shape = Shape::Fields(&[
    ("scope", &FREE),
    ("tctx", &FREE),
    ("requester", &FREE),
    ("exp", &FREE),
]);

static TEST: Shape = Shape::Fields(&[
    ("name", &FREE),
    ("call", &CALL),
    ("without", &FREE),
    ("with", &CALL),
    ("expect", &FREE),
    ("rule", &FREE),
    ("policy", &FREE),
    ("reason", &FREE),
    ("observed", &FREE),
]);

static SPECS: [(&str, &Shape); 7] = [
    ("AccessPolicy", &ACCESS_POLICY),
    ("TokenIssuer", &TOKEN_ISSUER),
    ("MeshMode", &MESH_MODE),
    ("EgressPolicy", &EGRESS_POLICY),
    ("TrustDomain", &TRUST_DOMAIN),
    ("TransactionPolicy", &TRANSACTION_POLICY),
    (testing::KIND, &POLICY_TEST),
];

/// The shape of the `spec` of a kind.
pub(super) fn of_spec(kind: &str) -> &'static Shape {
    SPECS
        .iter()
        .find(|(name, _)| *name == kind)
        .map_or(&FREE, |(_, shape)| shape)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    /// What fits is found through references and the choices of one or several.
    fn found<'s, T>(
        root: &'s Value,
        schema: &'s Value,
        what: &dyn Fn(&'s Value) -> Option<T>,
    ) -> Option<T> {
        if let Some(found) = what(schema) {
            return Some(found);
        }
        if let Some(Value::String(reference)) = schema.get("$ref") {
            return found(root, root.pointer(&reference[1..]).unwrap(), what);
        }
        let of_choices = ["allOf", "anyOf"]
            .into_iter()
            .filter_map(|name| schema.get(name)?.as_array());
        let inner = of_choices.flatten().chain(schema.get("items"));
        inner.into_iter().find_map(|inner| found(root, inner, what))
    }

    fn fields<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Map<String, Value>> {
        found(root, schema, &|schema| {
            schema.get("properties")?.as_object()
        })
    }

    fn compare(root: &Value, schema: &Value, shape: &Shape, at: &str) -> usize {
        if let Shape::Named(shape) = shape {
            let of_values = found(root, schema, &|schema| schema.get("additionalProperties"));
            return compare(root, of_values.unwrap(), shape, &format!("{at}.*"));
        }
        let Some(of_schema) = fields(root, schema) else {
            assert!(
                shape.fields().is_empty(),
                "{at}: an order of fields, and no fields"
            );
            return 0;
        };
        if at.ends_with(".jwks") {
            return 0;
        }
        for (name, _) in shape.fields() {
            // `not` has no `not`.
            assert!(
                of_schema.contains_key(*name) || *name == "not",
                "{at}.{name} is no field"
            );
        }
        let inner = of_schema.iter().map(|(name, schema)| {
            let shape = shape
                .of_field(name)
                .unwrap_or_else(|| panic!("{at}.{name} has no place"));
            compare(root, schema, shape, &format!("{at}.{name}"))
        });
        1 + inner.sum::<usize>()
    }

    #[test]
    fn every_field_of_the_schemas_has_a_place() {
        let (policy, tests) = (
            crate::schema::json_schema(),
            crate::schema::test_json_schema(),
        );
        for (kind, spec) in SPECS {
            let root = if kind == testing::KIND {
                &tests
            } else {
                &policy
            };
            let document = &root["definitions"][kind];
            let header = fields(root, document).unwrap();
            assert_eq!(header.len(), DOCUMENT.fields().len());
            compare_metadata(root, &header["metadata"], kind);
            assert!(compare(root, &header["spec"], spec, kind) > 1);
        }
        // Policy's kinds and the documents of others; tests.
        let kinds = policy["oneOf"].as_array().unwrap().len() - 1 + 1;
        assert_eq!(SPECS.len(), kinds);
    }

    fn compare_metadata(root: &Value, schema: &Value, kind: &str) {
        let all = fields(root, schema).unwrap();
        assert!(!all.is_empty());
        for name in all.keys() {
            assert!(METADATA.of_field(name).is_some(), "{kind}.metadata.{name}");
        }
    }
}
