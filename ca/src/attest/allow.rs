//! Allow rules: conditions in CEL, of which one must be true of a token's claims or a certificate, beyond its being good.
//!
//! They are compiled and type-checked when the configuration is read. At run time their cost is bounded, and a rule that
//! cannot be evaluated lets nobody in.

use std::fmt;

use countersign_policy::{ObjectCondition, ObjectShape};
use serde_json::{Map, Value};

/// How many rules a refusal tells of.
const TOLD: usize = 4;

/// The rules of one issuer, cluster or root. Without a rule, everything is allowed that is good otherwise.
#[derive(Debug, Default)]
pub(crate) struct AllowRules(Vec<ObjectCondition>);

/// No rule lets it in: what became of each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no rule of `allow` lets it in: {}", self.told())]
pub(crate) struct NotAllowed(Vec<(String, Option<String>)>);

impl NotAllowed {
    fn told(&self) -> String {
        let mut told: Vec<String> = self
            .0
            .iter()
            .take(TOLD)
            .map(|(expression, error)| match error {
                None => format!("{expression} is false"),
                Some(error) => format!("{expression} fails, {error}"),
            })
            .collect();
        if let Some(more @ 1..) = self.0.len().checked_sub(TOLD) {
            told.push(format!("and {more} more"));
        }
        told.join("; ")
    }
}

impl AllowRules {
    /// Compiles one rule.
    ///
    /// # Errors
    /// What is wrong with it, as lines for people.
    pub(crate) fn compile(
        source: &str,
        shape: &ObjectShape,
    ) -> Result<ObjectCondition, Vec<String>> {
        ObjectCondition::compile(source, shape)
    }

    /// These rules.
    pub(crate) fn new(rules: Vec<ObjectCondition>) -> Self {
        Self(rules)
    }

    /// Whether a rule is true of `object`.
    ///
    /// # Errors
    /// When none is.
    pub(crate) fn check(&self, object: &Map<String, Value>) -> Result<(), NotAllowed> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut refused = Vec::new();
        for rule in &self.0 {
            match rule.evaluate(object) {
                Ok(true) => return Ok(()),
                Ok(false) => refused.push((rule.quoted(), None)),
                Err(error) => refused.push((rule.quoted(), Some(error))),
            }
        }
        Err(NotAllowed(refused))
    }
}

impl fmt::Display for AllowRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<String> = self.0.iter().map(ObjectCondition::quoted).collect();
        f.write_str(&rules.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::jwt::CLAIMS;
    use serde_json::json;

    fn check(rules: &[&str], claims: Value) -> Result<(), String> {
        let compiled = rules
            .iter()
            .map(|rule| AllowRules::compile(rule, &CLAIMS).unwrap());
        AllowRules::new(compiled.collect())
            .check(claims.as_object().unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_rule_has_to_be_true() {
        let rules = ["claims.ref == 'refs/heads/main'", "claims.admin"];
        assert_eq!(check(&rules, json!({"ref": "refs/heads/main"})), Ok(()));
        assert_eq!(check(&rules, json!({"ref": "x", "admin": true})), Ok(()));
        assert_eq!(check(&[], json!({})), Ok(()));
        assert_eq!(
            check(&rules, json!({"ref": "x"})),
            Err(
                "no rule of `allow` lets it in: \"claims.ref == 'refs/heads/main'\" is false; \
                 \"claims.admin\" fails, there is no admin"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_rule_that_fails_or_is_no_boolean_lets_nobody_in() {
        for claims in [
            json!({}),
            json!({"a": "yes"}),
            json!({"a": 1}),
            json!({"a": null}),
        ] {
            let told = check(&["claims.a"], claims).unwrap_err();
            assert!(told.contains("\"claims.a\" fails"), "{told}");
        }
        let loops = "claims.a.exists(x, claims.a.exists(y, x == y + 1))";
        let told = check(&[loops], json!({"a": vec![0; 1000]})).unwrap_err();
        assert!(told.contains("could take too long"), "{told}");
    }

    #[test]
    fn a_refusal_is_one_line_of_bounded_length() {
        let rule = format!("claims.a ==\n'{}'", "x".repeat(500));
        let told = check(&[rule.as_str(); 9], json!({"a": "b"})).unwrap_err();
        assert!(!told.contains('\n') && told.len() < 1000, "{told}");
        assert!(told.ends_with("and 5 more"), "{told}");
    }
}
