//! What holds for any text whatever, as a function: tests call it with examples and with texts that were changed at
//! random, the fuzzer with what it finds. Built for these only.

#![expect(clippy::panic, reason = "a broken law ends the test")]

use countersign_identity::TrustDomain;

#[cfg(feature = "tools")]
use super::import;
use super::{Options, Reader};
use crate::laws::check_places;
use crate::yaml::{Report, read_documents};
use crate::{Diagnostics, Policy, document};

/// Documents of Istio are read, or refused with places in the text. What is read compiles; what an import writes of it is
/// read again, and is as many documents.
pub fn any_text(text: &str) {
    let reader = Reader {
        options: Options::default(),
        ..Reader::default()
    };
    let report = Report::new("text");
    let mut documents = Vec::new();
    for node in read_documents(text, &report) {
        let value = report.value(&node);
        if value.peek("apiVersion").is_some_and(super::is_istio) {
            documents.extend(reader.read(value).unwrap_or_default());
        }
    }
    let mistakes = report.into_diagnostics();
    if !mistakes.is_empty() {
        check_places(text, &Diagnostics::new(mistakes));
        return;
    }
    let Ok(local) = TrustDomain::parse("shop.example") else {
        panic!("shop.example is a trust domain");
    };
    if let Err(found) = Policy::compile("r", &local, documents) {
        panic!("what was converted does not compile: {found}");
    }
    #[cfg(feature = "tools")]
    if let Ok(imported) = import([("text".to_owned(), text.to_owned())], Options::default()) {
        match document::parse([("own".to_owned(), imported.yaml.clone())]) {
            Ok(again) if again.len() == imported.documents => {}
            Ok(again) => panic!("{} documents became {}", imported.documents, again.len()),
            Err(found) => panic!("what was imported is not read: {found}\n{}", imported.yaml),
        }
    }
    let _ = document::parse([("text".to_owned(), text.to_owned())]);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    const EVERYTHING: &str = r#"apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop, uid: x, annotations: {istio.io/dry-run: "false"}}
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/shop/sa/web", "a*", "*b", "*"]
        notPrincipals: [cluster.local/ns/shop/sa/admin]
        requestPrincipals: ["https://a.example/u", "*"]
        notNamespaces: [guest, x*]
        ipBlocks: [10.0.0.0/8]
        notRemoteIpBlocks: ["192.0.2.0/24", "::/0"]
    - source: {serviceAccounts: [web, shop/web], trustDomains: [a.example, "b*"]}
    to:
    - operation: {hosts: ["a.example:*"], notHosts: [b], ports: ["8080"], methods: [GET, P*], paths: ["/a/{*}/{**}", "/b*", "*/c", "/{**}/d"], notPaths: ["/x", "/y*"]}
    when:
    - {key: "request.headers[x-a]", values: [a, "b*"], notValues: ["*c"]}
    - {key: "request.auth.claims[a][b]", values: ["x", "y*"]}
    - {key: "request.auth.claims[scope]", notValues: [x]}
    - {key: destination.ip, values: [10.0.0.1]}
    - {key: connection.sni, notValues: ["*.example"]}
---
apiVersion: security.istio.io/v1beta1
kind: RequestAuthentication
metadata: {name: tokens, namespace: istio-system}
spec: {jwtRules: [{issuer: "https://a", fromHeaders: [{name: x, prefix: "y "}], outputClaimToHeaders: [{header: z, claim: a.b}]}, {issuer: b}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: orders, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}
"#;

    #[test]
    fn every_field_obeys_them() {
        any_text(EVERYTHING);
        assert!(document::parse([("p.yaml".to_owned(), EVERYTHING.to_owned())]).is_ok());
    }

    /// A carriage return alone ends a line in YAML (1.2.2 §5.4).
    #[test]
    fn lines_are_those_of_yaml() {
        any_text("\r\r.\0");
    }

    /// The lists of one rule multiply; what they could become is bounded, however small the text is.
    #[test]
    fn lists_that_multiply_are_bounded() {
        let sources = |count: usize, entry: &str| vec![entry; count].join(", ");
        let rule = format!(
            "- from: [{}]\n    to: [{}]\n",
            sources(
                400,
                "{source: {namespaces: [a*], ipBlocks: [10.0.0.1, 10.0.0.2]}}"
            ),
            sources(400, "{operation: {hosts: [a*, b]}}"),
        );
        let many = format!(
            "- from: [{{source: {{principals: [{}], ipBlocks: [{}], remoteIpBlocks: [{}]}}}}]\n",
            sources(4000, "a.example/b"),
            sources(4000, "10.0.0.1"),
            sources(4000, "10.0.0.2"),
        );
        for rules in [rule.repeat(9), many] {
            let text = format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a, namespace: b}}\nspec:\n  rules:\n  {}",
                rules.replace("\n-", "\n  -")
            );
            let started = Instant::now();
            let found = document::parse([("p.yaml".to_owned(), text)]).unwrap_err();
            assert!(found.to_string().contains("combinations"), "{found}");
            assert!(started.elapsed() < Duration::from_secs(20));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_changed_text_obeys_them(
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, r#"[-\[\]{}:,&*!|>'"\\# a1/*%\n\u{1}é]{0,4}"#), 1..4),
        ) {
            let mut text: Vec<char> = EVERYTHING.chars().collect();
            for (at, length, insert) in cuts {
                let at = at.index(text.len());
                let end = (at + length).min(text.len());
                text.splice(at..end, insert.chars());
            }
            any_text(&text.into_iter().collect::<String>());
        }
    }
}
