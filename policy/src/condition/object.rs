//! Conditions outside of policy, over one object: the claims of a token, or what a certificate says. They are compiled,
//! typed and bounded as those of policy are.

use std::sync::Arc;

use cel::Context;
use serde_json::{Map, Value};

use super::check::Scope;
use super::types::Type;
use super::{Expression, cost, environment, variables};

/// The one variable of such a condition.
#[derive(Clone, Copy, Debug)]
pub struct ObjectShape {
    /// Its name.
    pub variable: &'static str,
    /// Its fields, if no others can be there.
    pub fields: Option<&'static [(&'static str, FieldType)]>,
}

/// What a field of an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// An object that may hold anything.
    Object,
}

impl ObjectShape {
    pub(super) fn field_names(&self) -> Option<Vec<&'static str>> {
        Some(self.fields?.iter().map(|(name, _)| *name).collect())
    }

    pub(super) fn value_type(&self) -> Type {
        match self.fields {
            None => Type::map_of(Type::Any),
            Some(_) => Type::Fact,
        }
    }

    pub(super) fn field_type(&self, field: &str) -> Type {
        let known = self
            .fields
            .and_then(|fields| fields.iter().find(|(name, _)| *name == field));
        match known {
            Some((_, FieldType::Text)) => Type::Text,
            Some((_, FieldType::Texts)) => Type::list_of(Type::Text),
            Some((_, FieldType::Object)) => Type::map_of(Type::Any),
            None => Type::Any,
        }
    }
}

/// A compiled condition over one object.
#[derive(Debug)]
pub struct ObjectCondition {
    expression: Expression,
    variable: &'static str,
}

impl ObjectCondition {
    /// Compiles a condition over an object of this shape.
    ///
    /// # Errors
    /// What is wrong with it, as lines for people: unknown names, types that never fit, what could cost too much.
    pub fn compile(source: &str, shape: &ObjectShape) -> Result<Self, Vec<String>> {
        Ok(Self {
            expression: Expression::compile_bool(source, Scope::Object(shape))?,
            variable: shape.variable,
        })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.expression.program.source_info().source
    }

    /// The expression in quotes, cut where it is long: for messages.
    #[must_use]
    pub fn quoted(&self) -> String {
        self.expression.quoted()
    }

    /// Whether the condition is true of `object`.
    ///
    /// # Errors
    /// Why that cannot be said: a field that is missing, or of a type that an operator does not take, or an evaluation
    /// that could take too long. The message has no values: they may be secret.
    pub fn evaluate(&self, object: &Map<String, Value>) -> Result<bool, String> {
        if let Err(cost::TooLong { items }) = self.expression.weight.afford_object(object) {
            return Err(format!(
                "it could take too long, because there is a list of {items} items"
            ));
        }
        let mut context = Context::with_env(Arc::clone(environment()));
        context.add_variable_from_value(self.variable, variables::object(object));
        self.expression.evaluate_in(&context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CLAIMS: ObjectShape = ObjectShape {
        variable: "claims",
        fields: None,
    };
    const CARD: ObjectShape = ObjectShape {
        variable: "card",
        fields: Some(&[
            ("owner", FieldType::Text),
            ("names", FieldType::Texts),
            ("more", FieldType::Object),
        ]),
    };

    fn evaluate(shape: &ObjectShape, source: &str, object: Value) -> Result<bool, String> {
        let condition = ObjectCondition::compile(source, shape).unwrap();
        assert_eq!(condition.source(), source);
        condition.evaluate(object.as_object().unwrap())
    }

    fn mistakes(shape: &ObjectShape, source: &str) -> String {
        ObjectCondition::compile(source, shape)
            .unwrap_err()
            .join("\n")
    }

    #[test]
    fn claims_are_what_a_condition_asks_about() {
        let source = r#"claims.repository == "acme/shop" && claims.ref == "refs/heads/main""#;
        let claims = |reference: &str| json!({"repository": "acme/shop", "ref": reference});
        assert_eq!(
            evaluate(&CLAIMS, source, claims("refs/heads/main")),
            Ok(true)
        );
        assert_eq!(evaluate(&CLAIMS, source, claims("refs/heads/x")), Ok(false));
        assert_eq!(
            evaluate(&CLAIMS, source, json!({"repository": "acme/shop"})),
            Err("there is no ref".to_owned())
        );
        let nested = r#"claims["kubernetes.io"].namespace in ["a", "b"]"#;
        let object = json!({"kubernetes.io": {"namespace": "b"}});
        assert_eq!(evaluate(&CLAIMS, nested, object), Ok(true));
    }

    #[test]
    fn an_error_shows_no_value() {
        let error = evaluate(&CLAIMS, "claims.a + 1 == 2", json!({"a": "secret"})).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn what_never_works_is_a_mistake() {
        for (shape, source, expected) in [
            (&CLAIMS, "claim.a", "did you mean `claims`"),
            (&CLAIMS, "subject.claims.a == 1", "unknown variable"),
            (&CLAIMS, "'a' + 'b'", "expected an expression that is true"),
            (&CLAIMS, "claims == 'x'", "never equal"),
            (&CLAIMS, "claims.a ==", "in the expression"),
            (
                &CLAIMS,
                "claims.a.exists(x, x.exists(y, y.exists(z, true)))",
                "too deeply",
            ),
            (&CARD, "card.ower == 'x'", "did you mean `owner`"),
            (&CARD, "card.owner == 1", "never equal"),
            (&CARD, "card.names == 'x'", "never equal"),
            (&CARD, "claims.a", "unknown variable"),
        ] {
            let told = mistakes(shape, source);
            assert!(told.contains(expected), "{source}: {told}");
        }
        assert_eq!(
            evaluate(&CARD, "'x' in card.names", json!({"names": ["x"]})),
            Ok(true)
        );
        assert_eq!(
            evaluate(&CARD, "card.more.n == 1", json!({"more": {"n": 1}})),
            Ok(true)
        );
    }

    #[test]
    fn what_could_take_too_long_is_not_started() {
        let source = "claims.a.exists(x, claims.a.exists(y, x == y + 1))";
        let many = json!({"a": vec![0; 1000]});
        let error = evaluate(&CLAIMS, source, many).unwrap_err();
        assert!(error.contains("could take too long"), "{error}");
        assert_eq!(evaluate(&CLAIMS, source, json!({"a": [1, 0]})), Ok(true));
    }
}
