//! Documents as YAML, in the canonical layout: what [`parse`](super::parse) reads back as the same document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    AccessPolicy, Action, AmbiguousPaths, Claims, DefaultAction, Document, EgressPolicy,
    EndpointProfile, GrpcMethod, IntentMatch, KeySource, MeshMode, Metadata, Mode, Operation,
    OperationFields, PeerMode, RequesterPattern, Rule, Source, SourceFields, SubjectMatch, Target,
    TokenIssuer, TokenLocation, TransactionPolicy, TrustDomainDocument,
};
use crate::format;
use crate::pattern::ClaimValue;

/// Lines of comments above a document and above each of its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comments {
    /// Above the document.
    pub document: Vec<String>,
    /// Above the rules, in their order; may be shorter than they are.
    pub rules: Vec<Vec<String>>,
}

/// The documents as one YAML text, each with its comments (there may be fewer of them). Origins are not written.
///
/// # Errors
/// What keeps a document from being read back: a name that is no name, a rule without a name. Documents that were read
/// from YAML have none.
pub fn to_yaml(
    documents: &[Document],
    comments: &[Comments],
) -> Result<String, crate::Diagnostics> {
    let mut text = String::new();
    let none = Comments::default();
    for (index, document) in documents.iter().enumerate() {
        let comments = comments.get(index).unwrap_or(&none);
        text.push_str("---\n");
        write_comments(&comments.document, &mut text);
        write_document(document, comments, &mut text);
    }
    format::format("the documents", &text)
}

/// JSON is YAML. The formatter makes it what people read, and keeps the comments between.
fn write_document(document: &Document, comments: &Comments, text: &mut String) {
    let Metadata { namespace, name } = document.metadata();
    let kind = document.kind();
    let metadata = json!({"name": name.as_str(), "namespace": namespace.as_str()});
    text.push_str(&format!(
        "apiVersion: {}\nkind: {kind}\nmetadata: {metadata}\nspec:\n",
        super::API_VERSION
    ));
    let mut spec = spec(document);
    let rules = spec.remove("rules");
    for (field, value) in spec {
        text.push_str(&format!("  {field}: {value}\n"));
    }
    let Some(Value::Array(rules)) = rules else {
        return;
    };
    text.push_str("  rules:\n");
    for (index, rule) in rules.iter().enumerate() {
        for line in comments.rules.get(index).into_iter().flatten() {
            text.push_str("  ");
            write_comments(std::slice::from_ref(line), text);
        }
        text.push_str(&format!("  - {rule}\n"));
    }
}

fn write_comments(lines: &[String], text: &mut String) {
    for line in lines {
        // A comment is one line, whatever the names in it are.
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        text.push_str(&format!("# {line}\n"));
    }
}

fn spec(document: &Document) -> Map<String, Value> {
    let spec = match document {
        Document::AccessPolicy(policy) => access_policy(policy),
        Document::TokenIssuer(issuer) => token_issuer(issuer),
        Document::MeshMode(mode) => mesh_mode(mode),
        Document::EgressPolicy(policy) => egress_policy(policy),
        Document::TrustDomain(domain) => trust_domain(domain),
        Document::TransactionPolicy(policy) => transaction_policy(policy),
    };
    let mut spec = spec.0;
    if let Some(of) = document.target()
        && !of.is_all()
    {
        spec.insert("target".to_owned(), target(of));
    }
    spec
}

/// A mapping from which fields without a value are left out.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn with_text(self, name: &str, value: Option<&impl ToString>) -> Self {
        self.with_some(name, value.map(ToString::to_string))
    }

    fn with_texts<'a, T: ToString + 'a>(
        self,
        name: &str,
        values: impl IntoIterator<Item = &'a T>,
    ) -> Self {
        let texts: Vec<String> = values.into_iter().map(ToString::to_string).collect();
        self.with_list(name, texts)
    }

    fn with_list<T: Into<Value>>(self, name: &str, values: Vec<T>) -> Self {
        match values.is_empty() {
            true => self,
            false => self.with(name, values),
        }
    }

    fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

fn target(target: &Target) -> Value {
    let Target { labels, workloads } = target;
    Fields::default()
        .with_some("labels", (!labels.is_empty()).then(|| json!(labels)))
        .with_texts("workloads", workloads)
        .into_value()
}

fn access_policy(policy: &AccessPolicy) -> Fields {
    let AccessPolicy {
        metadata: _,
        origin: _,
        target: _,
        mode,
        default,
        rules,
    } = policy;
    let default = match default {
        DefaultAction::Allow => Some("allow"),
        // Without rules, it has to be said.
        DefaultAction::Deny if rules.is_empty() => Some("deny"),
        DefaultAction::Deny => None,
    };
    Fields::default()
        .with_some("mode", (*mode == Mode::Observe).then_some("observe"))
        .with_some("default", default)
        .with_list("rules", rules.iter().map(|one| rule(one)).collect())
}

fn action(action: Action) -> Value {
    action.as_str().into()
}

fn rule(rule: &Rule) -> Value {
    let Rule {
        name,
        origin: _,
        action: of,
        from,
        subject: on_behalf,
        intent: what_for,
        to,
        when,
    } = rule;
    Fields::default()
        .with("name", name.as_str())
        .with("action", action(*of))
        .with_list("from", from.iter().map(source).collect())
        .with_some("subject", on_behalf.as_deref().map(subject))
        .with_some("intent", what_for.as_deref().map(intent))
        .with_list("to", to.iter().map(operation).collect())
        .with_some("when", when.as_ref().map(|when| when.expression.as_str()))
        .into_value()
}

fn source(source: &Source) -> Value {
    let Source { is, not } = source;
    let not = match not.as_slice() {
        [] => None,
        [one] => Some(source_fields(one).into_value()),
        several => Some(
            several
                .iter()
                .map(|one| source_fields(one).into_value())
                .collect(),
        ),
    };
    source_fields(is).with_some("not", not).into_value()
}

fn source_fields(fields: &SourceFields) -> Fields {
    let SourceFields {
        anonymous,
        workload,
        namespace,
        spiffe,
        trust_domain,
        cidr,
        forwarded_for,
    } = fields;
    Fields::default()
        .with_some("anonymous", anonymous.then_some(true))
        .with_text("workload", workload.as_ref())
        .with_text("namespace", namespace.as_ref())
        .with_text("spiffe", spiffe.as_ref())
        .with_text("trustDomain", trust_domain.as_ref())
        .with_text("cidr", cidr.as_ref())
        .with_text("forwardedFor", forwarded_for.as_ref())
}

fn subject(subject: &SubjectMatch) -> Value {
    let SubjectMatch {
        origin: _,
        issuer,
        audience,
        claims: accepted,
        not_claims,
    } = subject;
    let not = claims(not_claims).map(|not| json!({"claims": not}));
    Fields::default()
        .with_text("issuer", issuer.as_ref())
        .with_text("audience", audience.as_ref())
        .with_some("claims", claims(accepted))
        .with_some("not", not)
        .into_value()
}

fn claims(claims: &Claims) -> Option<Value> {
    let entries = claims.iter().map(|(path, accepted)| {
        let accepted: Vec<Value> = accepted.iter().map(claim_value).collect();
        (path.clone(), one_or_more(accepted))
    });
    (!claims.is_empty()).then(|| Value::Object(entries.collect()))
}

fn claim_value(value: &ClaimValue) -> Value {
    match value {
        ClaimValue::Bool(value) => (*value).into(),
        ClaimValue::Integer(value) => (*value).into(),
        ClaimValue::String(value) => value.as_str().into(),
    }
}

/// One value stands alone.
fn one_or_more(mut values: Vec<Value>) -> Value {
    match (values.len(), values.pop()) {
        (1, Some(one)) => one,
        (_, last) => {
            values.extend(last);
            values.into()
        }
    }
}

fn intent(intent: &IntentMatch) -> Value {
    let IntentMatch {
        scope,
        context,
        requester,
    } = intent;
    let requester = requester.as_ref().map(|requester| match requester {
        RequesterPattern::Workload(workload) => workload.to_string(),
        RequesterPattern::Spiffe(id) => id.to_string(),
    });
    Fields::default()
        .with_list("scope", scope.clone())
        .with_some("context", claims(context))
        .with_some("requester", requester)
        .into_value()
}

fn operation(operation: &Operation) -> Value {
    let Operation { is, not } = operation;
    let not = (*not != OperationFields::default()).then(|| operation_fields(not).into_value());
    operation_fields(is).with_some("not", not).into_value()
}

fn operation_fields(fields: &OperationFields) -> Fields {
    let OperationFields {
        ports,
        methods,
        hosts,
        paths,
        grpc,
        headers,
        sni,
    } = fields;
    let headers: BTreeMap<&str, Value> = headers
        .iter()
        .map(|(name, accepted)| {
            let accepted = accepted.iter().map(|value| value.as_str().into()).collect();
            (name.as_str(), one_or_more(accepted))
        })
        .collect();
    Fields::default()
        .with_list("ports", ports.to_vec())
        .with_texts("methods", methods)
        .with_texts("hosts", hosts)
        .with_texts("paths", paths)
        .with_list("grpc", grpc.iter().map(grpc_method).collect())
        .with_some("headers", (!headers.is_empty()).then(|| json!(headers)))
        .with_texts("sni", sni)
}

fn grpc_method(method: &GrpcMethod) -> Value {
    let GrpcMethod { service, method } = method;
    Fields::default()
        .with("service", service.as_str())
        .with_text("method", method.as_ref())
        .into_value()
}

fn token_issuer(issuer: &TokenIssuer) -> Fields {
    let TokenIssuer {
        metadata: _,
        origin: _,
        target: _,
        issuer,
        audiences,
        algorithms,
        keys,
        from,
        leeway,
        forward,
        claim_headers,
        payload_header,
    } = issuer;
    let (inline, uri) = match keys {
        KeySource::Discovery => (None, None),
        KeySource::Inline(keys) => (Some(keys), None),
        KeySource::JwksUri(uri) => (None, Some(uri)),
    };
    let audiences: Value = match audiences.is_empty() {
        true => super::read_token_issuer::ANY_AUDIENCE.into(),
        false => json!(audiences),
    };
    let claim_headers: BTreeMap<&str, &String> = claim_headers
        .iter()
        .map(|(header, claim)| (header.as_str(), claim))
        .collect();
    let algorithms: Vec<&str> = algorithms
        .iter()
        .map(|algorithm| algorithm.name())
        .collect();
    Fields::default()
        .with("issuer", issuer.as_str())
        .with("audiences", audiences)
        .with("algorithms", algorithms)
        .with_text("jwks", inline)
        .with_text("jwksUri", uri)
        .with_list("from", from.iter().map(location).collect())
        .with("leeway", format!("{}s", leeway.as_secs()))
        .with("forward", *forward)
        .with_some(
            "claimHeaders",
            (!claim_headers.is_empty()).then(|| json!(claim_headers)),
        )
        .with_text("payloadHeader", payload_header.as_ref())
}

fn location(location: &TokenLocation) -> Value {
    match location {
        TokenLocation::Header { name, prefix } => Fields::default()
            .with("header", name.as_str())
            .with_some("prefix", (!prefix.is_empty()).then_some(prefix.as_str())),
        TokenLocation::Query(name) => Fields::default().with("query", name.as_str()),
        TokenLocation::Cookie(name) => Fields::default().with("cookie", name.to_string()),
    }
    .into_value()
}

fn mesh_mode(mode: &MeshMode) -> Fields {
    let MeshMode {
        metadata: _,
        origin: _,
        target: _,
        mode,
        ports,
        ambiguous_paths,
    } = mode;
    let ports: BTreeMap<String, Value> = ports
        .iter()
        .map(|(port, mode)| (port.to_string(), peer_mode(*mode)))
        .collect();
    Fields::default()
        .with_some("mode", mode.map(peer_mode))
        .with_some("ports", (!ports.is_empty()).then(|| json!(ports)))
        .with_some(
            "ambiguousPaths",
            ambiguous_paths.map(|paths| match paths {
                AmbiguousPaths::Accept => "accept",
                AmbiguousPaths::Refuse => "refuse",
            }),
        )
}

fn peer_mode(mode: PeerMode) -> Value {
    match mode {
        PeerMode::Permissive => "permissive",
        PeerMode::Strict => "strict",
    }
    .into()
}

fn egress_policy(policy: &EgressPolicy) -> Fields {
    let rules = policy.rules.iter().map(|rule| {
        let to = rule.to.iter().map(|to| {
            Fields::default()
                .with_texts("hosts", &to.hosts)
                .with_texts("cidrs", &to.cidrs)
                .with_list("ports", to.ports.clone())
                .into_value()
        });
        Fields::default()
            .with("name", rule.name.as_str())
            .with("action", action(rule.action))
            .with_list("to", to.collect())
            .into_value()
    });
    Fields::default().with_list("rules", rules.collect())
}

fn trust_domain(domain: &TrustDomainDocument) -> Fields {
    let endpoint = &domain.bundle_endpoint;
    let (profile, id) = match &endpoint.profile {
        EndpointProfile::HttpsWeb => ("https_web", None),
        EndpointProfile::HttpsSpiffe(id) => ("https_spiffe", Some(id)),
    };
    let endpoint = Fields::default()
        .with("url", endpoint.url.as_str())
        .with("profile", profile)
        .with_text("spiffeId", id);
    Fields::default()
        .with("trustDomain", domain.trust_domain.as_str())
        .with_some("alias", domain.alias.then_some(true))
        .with("bundleEndpoint", endpoint.into_value())
}

fn transaction_policy(policy: &TransactionPolicy) -> Fields {
    let rules = policy.rules.iter().map(|rule| {
        let context: BTreeMap<&str, &str> = rule
            .context
            .iter()
            .map(|(name, condition)| (name.as_str(), condition.expression.as_str()))
            .collect();
        Fields::default()
            .with("name", rule.name.as_str())
            .with_list("scope", rule.scope.clone())
            .with_some("subject", rule.subject.as_ref().map(subject))
            .with_list("to", rule.to.iter().map(operation).collect())
            .with_some("context", (!context.is_empty()).then(|| json!(context)))
            .with("lifetime", format!("{}s", rule.lifetime.as_secs()))
            .into_value()
    });
    Fields::default().with_list("rules", rules.collect())
}
