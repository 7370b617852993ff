//! The order of fields, as `docs/policy.md` has them.

/// The fields of a mapping, in order. One without fields has keys of the author's choice, which stay as they are.
#[derive(Debug)]
pub(super) struct Shape(&'static [(&'static str, &'static Shape)]);

impl Shape {
    /// Where a field stands; unknown ones stand behind all others.
    pub(super) fn place_of(&self, field: &str) -> usize {
        self.0
            .iter()
            .position(|(name, _)| *name == field)
            .unwrap_or(self.0.len())
    }

    pub(super) fn of_field(&self, field: &str) -> Option<&'static Self> {
        self.0
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, shape)| *shape)
    }
}

/// A value, or a mapping with keys of the author's choice.
static FREE: Shape = Shape(&[]);

pub(super) static DOCUMENT: Shape = Shape(&[
    ("apiVersion", &FREE),
    ("kind", &FREE),
    ("metadata", &METADATA),
    ("spec", &FREE),
]);

static METADATA: Shape = Shape(&[
    ("name", &FREE),
    ("namespace", &FREE),
    ("labels", &FREE),
    ("annotations", &FREE),
]);

static TARGET: Shape = Shape(&[("labels", &FREE), ("workloads", &FREE)]);

static ACCESS_POLICY: Shape = Shape(&[
    ("target", &TARGET),
    ("mode", &FREE),
    ("default", &FREE),
    ("rules", &RULE),
]);

static RULE: Shape = Shape(&[
    ("name", &FREE),
    ("action", &FREE),
    ("from", &SOURCE),
    ("subject", &SUBJECT),
    ("intent", &INTENT),
    ("to", &OPERATION),
    ("when", &FREE),
]);

static SOURCE: Shape = Shape(&[
    ("workload", &FREE),
    ("namespace", &FREE),
    ("spiffe", &FREE),
    ("trustDomain", &FREE),
    ("cidr", &FREE),
    ("forwardedFor", &FREE),
    ("anonymous", &FREE),
    ("not", &SOURCE),
]);

static SUBJECT: Shape = Shape(&[
    ("issuer", &FREE),
    ("audience", &FREE),
    ("claims", &FREE),
    ("not", &NOT_SUBJECT),
]);

static NOT_SUBJECT: Shape = Shape(&[("claims", &FREE)]);

static INTENT: Shape = Shape(&[("scope", &FREE), ("context", &FREE), ("requester", &FREE)]);

static OPERATION: Shape = Shape(&[
    ("ports", &FREE),
    ("methods", &FREE),
    ("hosts", &FREE),
    ("paths", &FREE),
    ("grpc", &GRPC),
    ("headers", &FREE),
    ("sni", &FREE),
    ("not", &OPERATION),
]);

static GRPC: Shape = Shape(&[("service", &FREE), ("method", &FREE)]);

static TOKEN_ISSUER: Shape = Shape(&[
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

static LOCATION: Shape = Shape(&[
    ("header", &FREE),
    ("prefix", &FREE),
    ("query", &FREE),
    ("cookie", &FREE),
]);

static MESH_MODE: Shape = Shape(&[
    ("target", &TARGET),
    ("mode", &FREE),
    ("ports", &FREE),
    ("ambiguousPaths", &FREE),
]);

static EGRESS_POLICY: Shape = Shape(&[("target", &TARGET), ("rules", &EGRESS_RULE)]);

static EGRESS_RULE: Shape = Shape(&[("name", &FREE), ("action", &FREE), ("to", &EXTERNAL)]);

static EXTERNAL: Shape = Shape(&[("hosts", &FREE), ("cidrs", &FREE), ("ports", &FREE)]);

static TRUST_DOMAIN: Shape = Shape(&[("trustDomain", &FREE), ("bundleEndpoint", &BUNDLE_ENDPOINT)]);

static BUNDLE_ENDPOINT: Shape = Shape(&[("url", &FREE), ("profile", &FREE), ("spiffeId", &FREE)]);

static TRANSACTION_POLICY: Shape = Shape(&[("target", &TARGET), ("rules", &TRANSACTION_RULE)]);

static TRANSACTION_RULE: Shape = Shape(&[
    ("name", &FREE),
    ("scope", &FREE),
    ("subject", &SUBJECT),
    ("to", &OPERATION),
    ("context", &FREE),
    ("lifetime", &FREE),
]);

static SPECS: [(&str, &Shape); 6] = [
    ("AccessPolicy", &ACCESS_POLICY),
    ("TokenIssuer", &TOKEN_ISSUER),
    ("MeshMode", &MESH_MODE),
    ("EgressPolicy", &EGRESS_POLICY),
    ("TrustDomain", &TRUST_DOMAIN),
    ("TransactionPolicy", &TRANSACTION_POLICY),
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
    use serde_json::Value;

    use super::*;

    /// The fields of a schema, through references and the choices of one or several.
    fn fields<'s>(
        root: &'s Value,
        schema: &'s Value,
    ) -> Option<&'s serde_json::Map<String, Value>> {
        if let Some(Value::Object(fields)) = schema.get("properties") {
            return Some(fields);
        }
        if let Some(Value::String(reference)) = schema.get("$ref") {
            return fields(root, root.pointer(&reference[1..]).unwrap());
        }
        let of_choices = ["allOf", "anyOf"]
            .into_iter()
            .filter_map(|name| schema.get(name)?.as_array());
        let inner = of_choices.flatten().chain(schema.get("items"));
        inner.into_iter().find_map(|inner| fields(root, inner))
    }

    fn compare(root: &Value, schema: &Value, shape: &Shape, at: &str) -> usize {
        let Some(of_schema) = fields(root, schema) else {
            assert!(
                shape.0.is_empty(),
                "{at}: an order of fields, and no fields"
            );
            return 0;
        };
        if at.ends_with(".jwks") {
            return 0;
        }
        for (name, _) in shape.0 {
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
    fn every_field_of_the_schema_has_a_place() {
        let root = crate::schema::json_schema();
        for (kind, spec) in SPECS {
            let document = &root["definitions"][kind];
            let header = fields(&root, document).unwrap();
            assert_eq!(header.len(), DOCUMENT.0.len());
            compare(&root, &header["metadata"], &METADATA, kind);
            assert!(compare(&root, &header["spec"], spec, kind) > 1);
        }
        assert_eq!(SPECS.len() + 1, root["oneOf"].as_array().unwrap().len());
    }
}
