//! CEL conditions (`when`): compiled once with the policy, evaluated only for rules whose structured
//! part matched.
//!
//! # What an evaluation can cost
//! An expression has at most [`MAX_EXPRESSION_BYTES`] and [`check::MAX_DEPTH`] levels, and comprehensions (`exists`, `all`, `map`, …)
//! are nested at most [`check::MAX_NESTED_LOOPS`] deep. How long they take depends on the claims and headers that a
//! caller sends: an evaluation that could take too long is not started ([`cost`]). A regular expression of `matches` has
//! to be a literal; it runs in linear time, and is compiled anew by every evaluation, which costs some 10 to 100
//! µs: prefer `startsWith`, `endsWith`, `contains` and the rule's own fields.

mod check;
mod cost;
mod functions;
mod object;
mod types;
mod variables;

use std::fmt;
use std::sync::{Arc, OnceLock};

use cel::{Context, Env, ExecutionError, Program, Value};

pub(crate) use check::Roots;
pub use object::{FieldType, ObjectCondition, ObjectShape};
pub(crate) use variables::Facts;

/// The longest expression that is accepted.
pub const MAX_EXPRESSION_BYTES: usize = 2048;

/// How much of an expression a message repeats.
const QUOTED_CHARACTERS: usize = 120;

/// A compiled condition.
pub(crate) struct Expression {
    program: Program,
    roots: Roots,
    weight: cost::Weight,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression")
            .field("source", &self.program.source_info().source)
            .finish_non_exhaustive()
    }
}

/// The environment that all conditions share.
fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Env::stdlib();
        // It fails only where a name is taken, which a test would show: then expressions that call it fail.
        let _ = functions::add_to(&mut environment);
        Arc::new(environment)
    })
}

impl Expression {
    /// Compiles a condition of a rule whose paths capture segments of these names.
    ///
    /// # Errors
    /// What is wrong with it, as lines for people.
    pub(crate) fn compile(source: &str, captures: &[&str]) -> Result<Self, Vec<String>> {
        Self::compile_bool(source, check::Scope::Call { captures })
    }

    fn compile_bool(source: &str, scope: check::Scope<'_>) -> Result<Self, Vec<String>> {
        let (expression, result) = Self::compile_any(source, scope)?;
        match result {
            types::Type::Any | types::Type::Bool => Ok(expression),
            other => Err(vec![format!(
                "expected an expression that is true or false, this one is {other}"
            )]),
        }
    }

    /// Compiles an expression whose value may be of any type.
    ///
    /// # Errors
    /// What is wrong with it, as lines for people.
    pub(crate) fn compile_value(source: &str, captures: &[&str]) -> Result<Self, Vec<String>> {
        let scope = check::Scope::Call { captures };
        Self::compile_any(source, scope).map(|(expression, _)| expression)
    }

    fn compile_any(
        source: &str,
        scope: check::Scope<'_>,
    ) -> Result<(Self, types::Type), Vec<String>> {
        if source.len() > MAX_EXPRESSION_BYTES {
            return Err(vec![format!(
                "the expression has more than {MAX_EXPRESSION_BYTES} bytes"
            )]);
        }
        let program = environment().compile(source).map_err(|errors| {
            let line = |error: &cel::ParseError| {
                let (line, column) = error.pos;
                let first_line = error.msg.lines().next().unwrap_or_default();
                format!("in the expression, at {line}:{column}: {first_line}")
            };
            errors.errors.iter().map(line).collect::<Vec<_>>()
        })?;
        let roots = check::check(&program, scope)?;
        let result = types::type_of(&program, scope)?;
        let weight = cost::Weight::of(program.expression());
        let expression = Self {
            program,
            roots,
            weight,
        };
        Ok((expression, result))
    }

    /// Which facts it asks for.
    pub(crate) fn roots(&self) -> Roots {
        self.roots
    }

    /// The expression in quotes, cut where it is long.
    pub(crate) fn quoted(&self) -> String {
        let source = &self.program.source_info().source;
        let mut characters = source.chars();
        let shown: String = characters.by_ref().take(QUOTED_CHARACTERS).collect();
        let more = if characters.next().is_some() {
            "…"
        } else {
            ""
        };
        format!("{shown:?}{more}")
    }

    /// Whether the condition is true of these facts.
    ///
    /// # Errors
    /// Why that cannot be said. The message has no values: they may be secret.
    pub(crate) fn evaluate(&self, facts: &Facts<'_>) -> Result<bool, String> {
        if let Err(cost::TooLong { items }) = self.weight.afford(facts) {
            return Err(format!(
                "it could take too long, because the call has a list of {items} items"
            ));
        }
        let mut context = Context::with_env(Arc::clone(environment()));
        facts.add_to(&mut context, self.roots);
        self.evaluate_in(&context)
    }

    fn evaluate_in(&self, context: &Context<'_, '_>) -> Result<bool, String> {
        match self.program.execute(context) {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(other) => Err(format!("it is no boolean but of type {}", other.type_of())),
            Err(error) => Err(self.without_values(&error)),
        }
    }
}

impl Expression {
    /// The crate's own messages show the values at hand, such as claims.
    fn without_values(&self, error: &ExecutionError) -> String {
        let fixed = match error {
            ExecutionError::NoSuchKey(key) => {
                // A key that the expression names is no secret; one that it calculates may be.
                let source = &self.program.source_info().source;
                return match source.contains(key.as_str()) {
                    true => format!("there is no {key}"),
                    false => "there is no such key".to_owned(),
                };
            }
            ExecutionError::NoSuchOverload(overload) => {
                let function = overload.function().trim_matches(['_', '@']);
                let types = overload.argument_types().join(" and ");
                return format!("{function} does not take {types}");
            }
            ExecutionError::FunctionError { function, .. } => {
                return format!("the function {function} failed");
            }
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                "it divides by zero"
            }
            ExecutionError::Overflow(..) => "a number is too large",
            ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds",
            _ => "an operator or function does not take these values",
        };
        fixed.to_owned()
    }
}

#[cfg(test)]
mod tests;
