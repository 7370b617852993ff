//! The types of an expression, as far as they are known before it runs: what would fail on every call is a mistake.
//!
//! Claims and a transaction's context may hold anything, so what is taken out of them is [`Type::Any`], and nothing is said of it.
//! Any fact may be absent, and so may be compared with `null`.

use std::collections::HashMap;
use std::fmt;

use cel::Program;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators as op,
};

use super::check::{Scope, placed};

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    /// Nothing.
    Any,
    Null,
    Bool,
    /// `int`, `uint` or `double`: the evaluator compares and converts between them.
    Number,
    Text,
    Bytes,
    Timestamp,
    Duration,
    List(Box<Type>),
    /// By string; the type is that of the values.
    Map(Box<Type>),
    /// A fact with fields that are known.
    Fact,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "a value",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Bytes => "bytes",
            Self::Timestamp => "a timestamp",
            Self::Duration => "a duration",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Fact => "a map",
        })
    }
}

impl Type {
    pub(super) fn map_of(values: Self) -> Self {
        Self::Map(Box::new(values))
    }

    pub(super) fn list_of(items: Self) -> Self {
        Self::List(Box::new(items))
    }

    fn is_any_of(&self, types: &[Self]) -> bool {
        *self == Self::Any || types.contains(self)
    }

    /// Whether values of both can be equal.
    fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(one), Self::List(other)) => one.may_equal(other),
            (Self::Map(_) | Self::Fact, Self::Map(_) | Self::Fact) => true,
            (one, other) => one == other,
        }
    }

    /// What is known of a value that is of one or the other.
    fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

/// The type of an expression whose names are known to be right.
///
/// # Errors
/// What would fail on every call.
pub(super) fn type_of(program: &Program, scope: Scope<'_>) -> Result<Type, Vec<String>> {
    let mut typing = Typing {
        program,
        scope,
        bound: HashMap::new(),
        mistakes: Vec::new(),
    };
    let result = typing.of(program.expression());
    if typing.mistakes.is_empty() {
        Ok(result)
    } else {
        Err(typing.mistakes)
    }
}

struct Typing<'a> {
    program: &'a Program,
    scope: Scope<'a>,
    /// Variables of the comprehensions around.
    bound: HashMap<&'a str, Type>,
    mistakes: Vec<String>,
}

impl<'a> Typing<'a> {
    fn mistake(&mut self, at: &IdedExpr, message: &str) -> Type {
        self.mistakes.push(placed(self.program, at, message));
        Type::Any
    }

    fn of(&mut self, expression: &'a IdedExpr) -> Type {
        match &expression.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => match self.bound.get(name.as_str()) {
                Some(known) => known.clone(),
                None => match self.scope {
                    Scope::Call { .. } => of_variable(name),
                    Scope::Object(shape) => shape.value_type(),
                },
            },
            Expr::Select(select) => {
                let operand = self.of(&select.operand);
                let field = self.field(expression, &select.operand, &operand, &select.field);
                if select.test { Type::Bool } else { field }
            }
            Expr::Call(call) => self.call(expression, call),
            Expr::List(list) => {
                let items: Vec<_> = list.elements.iter().map(|item| self.of(item)).collect();
                let joined = items.into_iter().reduce(Type::or);
                Type::list_of(joined.unwrap_or(Type::Any))
            }
            Expr::Map(map) => {
                let mut values = Vec::new();
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.of(&entry.key);
                            values.push(self.of(&entry.value));
                        }
                        EntryExpr::StructField(field) => values.push(self.of(&field.value)),
                    }
                }
                Type::map_of(values.into_iter().reduce(Type::or).unwrap_or(Type::Any))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(_) | Expr::Unspecified => Type::Any,
        }
    }

    fn field(&mut self, at: &IdedExpr, operand: &IdedExpr, of: &Type, field: &str) -> Type {
        match of {
            Type::Fact => match &operand.expr {
                Expr::Ident(name) => match self.scope {
                    Scope::Call { .. } => of_field(name, field),
                    Scope::Object(shape) => shape.field_type(field),
                },
                _ => Type::Any,
            },
            Type::Map(values) => (**values).clone(),
            Type::Any | Type::Null => Type::Any,
            other => self.mistake(at, &format!("{other} has no field `{field}`")),
        }
    }

    fn call(&mut self, at: &'a IdedExpr, call: &'a CallExpr) -> Type {
        let given = call.target.iter().map(|target| &**target);
        let given: Vec<Type> = given.chain(&call.args).map(|one| self.of(one)).collect();
        let name = call.func_name.as_str();
        match (result(name, &given), given.as_slice()) {
            (Some(result), _) => result,
            (None, [one, other]) if matches!(name, op::EQUALS | op::NOT_EQUALS) => {
                self.mistake(at, &format!("{one} is never equal to {other}"))
            }
            (None, given) => {
                let shown = name.trim_matches(['_', '@']);
                let given: Vec<String> = given.iter().map(ToString::to_string).collect();
                self.mistake(
                    at,
                    &format!("`{shown}` does not take {}", given.join(" and ")),
                )
            }
        }
    }

    fn comprehension(&mut self, of: &'a ComprehensionExpr) -> Type {
        let range = self.of(&of.iter_range);
        let item = match range {
            Type::List(items) => *items,
            Type::Map(_) | Type::Fact => Type::Text,
            Type::Any | Type::Null => Type::Any,
            other => {
                let message = format!("expected a list or a map to go through, got {other}");
                self.mistake(&of.iter_range, &message)
            }
        };
        let accumulated = match self.of(&of.accu_init) {
            // It starts out empty.
            Type::List(_) => Type::list_of(Type::Any),
            other => other,
        };
        let item = match &of.iter_var2 {
            // With two variables, the first is an index or a key.
            Some(_) => Type::Any,
            None => item,
        };
        let mut bound = vec![(of.iter_var.as_str(), item), (&of.accu_var, accumulated)];
        bound.extend(of.iter_var2.as_deref().map(|name| (name, Type::Any)));
        let hidden: Vec<_> = bound
            .into_iter()
            .map(|(name, is)| (name, self.bound.insert(name, is)))
            .collect();
        self.of(&of.loop_cond);
        self.of(&of.loop_step);
        let result = self.of(&of.result);
        for (name, before) in hidden.into_iter().rev() {
            match before {
                Some(before) => self.bound.insert(name, before),
                None => self.bound.remove(name),
            };
        }
        result
    }
}

fn of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Type::Number,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::Text,
    }
}

fn of_variable(name: &str) -> Type {
    match name {
        "path" => Type::map_of(Type::Text),
        "time" => Type::Timestamp,
        _ => Type::Fact,
    }
}

fn of_field(fact: &str, field: &str) -> Type {
    match (fact, field) {
        (_, "claims" | "tctx") => Type::map_of(Type::Any),
        (_, "headers" | "labels") => Type::map_of(Type::Text),
        (_, "scope") => Type::list_of(Type::Text),
        (_, "port") => Type::Number,
        _ => Type::Text,
    }
}

/// What an operator or function gives of values of these types; `None` if it takes no such values.
fn result(name: &str, given: &[Type]) -> Option<Type> {
    use Type::{Any, Bool, Bytes, Duration, Null, Number, Text, Timestamp};
    let all = |types: &[Type]| given.iter().all(|one| one.is_any_of(types));
    let some = |is: bool, result: Type| is.then_some(result);
    match (name, given) {
        (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, _) => some(all(&[Bool]), Bool),
        (op::CONDITIONAL, [condition, yes, no]) => {
            some(condition.is_any_of(&[Bool]), yes.clone().or(no.clone()))
        }
        (op::EQUALS | op::NOT_EQUALS, [one, other]) => some(one.may_equal(other), Bool),
        (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [one, other]) => {
            let ordered = [Bool, Number, Text, Bytes, Timestamp, Duration];
            let alike = one == other || *one == Any || *other == Any;
            some(all(&ordered) && alike, Bool)
        }
        (op::ADD, [Any, other] | [other, Any]) => some(
            !matches!(other, Bool | Null | Type::Map(_) | Type::Fact),
            Any,
        ),
        (op::ADD, [Type::List(one), Type::List(other)]) => {
            Some(Type::list_of((**one).clone().or((**other).clone())))
        }
        (op::ADD, [Timestamp, Duration] | [Duration, Timestamp]) => Some(Timestamp),
        (op::ADD, [one, other]) => some(
            one == other && one.is_any_of(&[Number, Text, Bytes, Duration]),
            one.clone(),
        ),
        (op::SUBSTRACT, [Timestamp, Timestamp]) => Some(Duration),
        (op::SUBSTRACT, [Timestamp, Duration]) => Some(Timestamp),
        (op::SUBSTRACT, [Any, other] | [other, Any]) => {
            some(other.is_any_of(&[Number, Timestamp, Duration]), Any)
        }
        (op::SUBSTRACT, [one, other]) => some(
            one == other && one.is_any_of(&[Number, Duration]),
            one.clone(),
        ),
        (op::MULTIPLY | op::DIVIDE | op::MODULO | op::NEGATE, _) => some(all(&[Number]), Number),
        (op::IN, [item, Type::List(items)]) => some(item.may_equal(items), Bool),
        (op::IN, [_, Type::Map(_) | Type::Fact | Any]) => Some(Bool),
        (op::INDEX, [Type::List(items), key]) => some(key.is_any_of(&[Number]), (**items).clone()),
        (op::INDEX, [Type::Map(values), key]) => {
            some(key.is_any_of(&[Text, Number, Bool]), (**values).clone())
        }
        (op::INDEX, [Type::Fact | Any, _]) => Some(Any),
        (op::NOT_STRICTLY_FALSE, _) => Some(Bool),
        ("size", [one]) => {
            let sized = matches!(
                one,
                Any | Text | Bytes | Type::List(_) | Type::Map(_) | Type::Fact
            );
            some(sized, Number)
        }
        ("contains", [one, _]) => some(
            matches!(
                one,
                Any | Text | Bytes | Type::List(_) | Type::Map(_) | Type::Fact
            ),
            Bool,
        ),
        ("like" | "inRange", [_, Type::List(_) | Any]) => Some(Bool),
        ("lookup", [_, Type::List(_) | Any]) | ("words", [_]) => Some(Any),
        ("join", [Type::List(_) | Any, Text | Any]) => Some(Any),
        ("startsWith" | "endsWith" | "matches", [_, _]) => some(all(&[Text]), Bool),
        ("int" | "uint" | "double", [one]) => {
            some(one.is_any_of(&[Number, Text, Timestamp, Duration]), Number)
        }
        ("string", [one]) => some(
            one.is_any_of(&[Number, Text, Bytes, Bool, Timestamp, Duration]),
            Text,
        ),
        ("bool", [one]) => some(one.is_any_of(&[Bool, Text]), Bool),
        ("timestamp", [one]) => some(one.is_any_of(&[Text, Number, Timestamp]), Timestamp),
        ("duration", [one]) => some(one.is_any_of(&[Text, Number, Duration]), Duration),
        ("getHours" | "getMinutes" | "getSeconds" | "getMilliseconds", [one, rest @ ..]) => {
            let zone = rest.iter().all(|zone| zone.is_any_of(&[Text]));
            some(
                one.is_any_of(&[Timestamp, Duration]) && rest.len() < 2 && zone,
                Number,
            )
        }
        (name, [one, rest @ ..]) if name.starts_with("get") => {
            let zone = rest.iter().all(|zone| zone.is_any_of(&[Text]));
            some(
                one.is_any_of(&[Timestamp]) && rest.len() < 2 && zone,
                Number,
            )
        }
        (
            "like" | "inRange" | "lookup" | "join" | "words" | "size" | "contains" | "startsWith"
            | "endsWith" | "matches" | "int" | "uint" | "double" | "string" | "bool" | "timestamp"
            | "duration",
            _,
        ) => None,
        _ => Some(Any),
    }
}
