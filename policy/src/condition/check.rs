//! What is wrong with an expression can be found out before it runs: names that do not exist,
//! functions that do not exist, and shapes that could cost too much.

use cel::Program;
use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue};
use cel::parser::Parser;

use super::object::ObjectShape;
use crate::pattern::Cidr;
use crate::yaml::closest;

/// How deep an expression may be nested, macros expanded.
pub(super) const MAX_DEPTH: usize = 100;
/// How deep comprehensions may be nested.
pub(super) const MAX_NESTED_LOOPS: usize = 2;

/// Which variables an expression asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roots {
    pub(crate) peer: bool,
    pub(crate) connection: bool,
    pub(crate) subject: bool,
    pub(crate) intent: bool,
    pub(crate) request: bool,
    pub(crate) destination: bool,
    pub(crate) path: bool,
    pub(crate) time: bool,
}

/// Which variables an expression can ask for.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// The facts of a call, with the named segments of its path.
    Call { captures: &'a [&'a str] },
    /// One object and nothing else.
    Object(&'a ObjectShape),
}

const VARIABLES: [&str; 8] = [
    "peer",
    "connection",
    "subject",
    "intent",
    "request",
    "destination",
    "path",
    "time",
];
const PEER: &[&str] = &["id", "trustDomain", "namespace", "workload", "address"];
const SUBJECT: &[&str] = &["issuer", "claims"];
const INTENT: &[&str] = &["scope", "tctx", "requester"];
const REQUEST: &[&str] = &["method", "host", "authority", "path", "query", "headers"];
const CONNECTION: &[&str] = &["sni"];
const DESTINATION: &[&str] = &[
    "trustDomain",
    "namespace",
    "workload",
    "labels",
    "address",
    "port",
];

/// CEL's standard functions, less those that only serve types which no fact has, and [`functions`](super::functions).
const FUNCTIONS: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "inRange",
    "join",
    "like",
    "lookup",
    "words",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];

pub(super) fn check(program: &Program, scope: Scope<'_>) -> Result<Roots, Vec<String>> {
    let mut walk = Walk {
        program,
        scope,
        bound: Vec::new(),
        loops: 0,
        roots: Roots::default(),
        mistakes: Vec::new(),
    };
    walk.expression(program.expression(), 0);
    if walk.mistakes.is_empty() {
        Ok(walk.roots)
    } else {
        Err(walk.mistakes)
    }
}

struct Walk<'a> {
    program: &'a Program,
    scope: Scope<'a>,
    /// Variables of the comprehensions around.
    bound: Vec<&'a str>,
    loops: usize,
    roots: Roots,
    mistakes: Vec<String>,
}

impl<'a> Walk<'a> {
    fn mistake(&mut self, at: &IdedExpr, message: &str) {
        self.mistakes.push(placed(self.program, at, message));
    }

    fn expression(&mut self, expression: &'a IdedExpr, depth: usize) {
        if depth > MAX_DEPTH {
            if self.mistakes.is_empty() {
                self.mistake(expression, "it is nested too deeply");
            }
            return;
        }
        let depth = depth.saturating_add(1);
        match &expression.expr {
            Expr::Literal(_) => {}
            Expr::Unspecified => self.mistake(expression, "an operand is missing"),
            Expr::Ident(name) => self.variable(expression, name),
            Expr::Select(select) => {
                self.expression(&select.operand, depth);
                self.field(expression, &select.operand, &select.field);
            }
            Expr::Call(call) => {
                if let Some(target) = &call.target {
                    self.expression(target, depth);
                }
                for argument in &call.args {
                    self.expression(argument, depth);
                }
                self.function(expression, &call.func_name, call.args.last());
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.expression(element, depth);
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    self.entry(entry, depth);
                }
            }
            Expr::Struct(_) => self.mistake(expression, "there are no message types here"),
            Expr::Comprehension(comprehension) => {
                self.expression(&comprehension.iter_range, depth);
                self.expression(&comprehension.accu_init, depth);
                if self.loops >= MAX_NESTED_LOOPS {
                    let message =
                        "comprehensions are nested too deeply: an evaluation could take too long";
                    self.mistake(expression, message);
                    return;
                }
                self.loops = self.loops.saturating_add(1);
                let bound = self.bound.len();
                self.bound.push(&comprehension.iter_var);
                self.bound.push(&comprehension.accu_var);
                self.bound.extend(comprehension.iter_var2.as_deref());
                self.expression(&comprehension.loop_cond, depth);
                self.expression(&comprehension.loop_step, depth);
                self.expression(&comprehension.result, depth);
                self.bound.truncate(bound);
                self.loops = self.loops.saturating_sub(1);
            }
        }
    }

    fn entry(&mut self, entry: &'a IdedEntryExpr, depth: usize) {
        match &entry.expr {
            EntryExpr::StructField(field) => self.expression(&field.value, depth),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key, depth);
                self.expression(&entry.value, depth);
            }
        }
    }

    fn variable(&mut self, at: &IdedExpr, name: &str) {
        if self.bound.contains(&name) {
            return;
        }
        if let Scope::Object(shape) = self.scope {
            if name != shape.variable {
                self.mistake(at, &unknown("variable", name, &[shape.variable]));
            }
            return;
        }
        let root = match name {
            "peer" => &mut self.roots.peer,
            "connection" => &mut self.roots.connection,
            "subject" => &mut self.roots.subject,
            "intent" => &mut self.roots.intent,
            "request" => &mut self.roots.request,
            "destination" => &mut self.roots.destination,
            "path" => &mut self.roots.path,
            "time" => &mut self.roots.time,
            _ => return self.mistake(at, &unknown("variable", name, &VARIABLES)),
        };
        *root = true;
    }

    /// `peer.x`: the variables' own fields are known; what is in claims, headers and labels is not.
    fn field(&mut self, at: &IdedExpr, operand: &IdedExpr, field: &str) {
        let Expr::Ident(name) = &operand.expr else {
            return;
        };
        if self.bound.contains(&name.as_str()) {
            return;
        }
        let captures = match self.scope {
            Scope::Call { captures } => captures,
            Scope::Object(shape) => {
                let known = shape.field_names();
                if name == shape.variable && known.as_ref().is_some_and(|k| !k.contains(&field)) {
                    let what = format!("field of `{name}`:");
                    self.mistake(at, &unknown(&what, field, &known.unwrap_or_default()));
                }
                return;
            }
        };
        let known = match name.as_str() {
            "peer" => PEER,
            "connection" => CONNECTION,
            "subject" => SUBJECT,
            "intent" => INTENT,
            "request" => REQUEST,
            "destination" => DESTINATION,
            "path" if captures.is_empty() => {
                let message = "`path` has the named segments of `to.paths`, and none has a name";
                return self.mistake(at, message);
            }
            "path" => captures,
            _ => return,
        };
        if !known.contains(&field) {
            self.mistake(at, &unknown(&format!("field of `{name}`:"), field, known));
        }
    }

    fn function(&mut self, at: &IdedExpr, name: &str, last_argument: Option<&IdedExpr>) {
        // Operators have names such as `_==_` and `@in`.
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return;
        }
        if !FUNCTIONS.contains(&name) {
            return self.mistake(at, &unknown("function", name, FUNCTIONS));
        }
        let last_argument = last_argument.map(|argument| &argument.expr);
        let valid = match (name, last_argument) {
            ("matches", Some(Expr::Literal(LiteralValue::String(pattern)))) => {
                is_regex(pattern.inner())
            }
            // A pattern out of a request would be the caller's to choose.
            ("matches", _) => {
                Err("the regular expression of `matches` has to be a literal string".to_owned())
            }
            ("inRange", Some(Expr::List(ranges))) => ranges
                .elements
                .iter()
                .try_for_each(|range| is_range(&range.expr)),
            ("inRange", _) => Err("the ranges of `inRange` have to be a literal list".to_owned()),
            _ => Ok(()),
        };
        if let Err(message) = valid {
            self.mistake(at, &message);
        }
    }
}

/// A message with the place in the expression that it is about.
pub(super) fn placed(program: &Program, at: &IdedExpr, message: &str) -> String {
    let info = program.source_info();
    let place = info.offset_for(at.id).and_then(|(start, _)| {
        let before = info.source.get(..usize::try_from(start).ok()?)?;
        let line = before.split('\n').count();
        let column = before
            .rsplit('\n')
            .next()?
            .chars()
            .count()
            .saturating_add(1);
        Some(format!("at {line}:{column}: "))
    });
    format!("in the expression, {}{message}", place.unwrap_or_default())
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match closest(name, known.iter().copied()) {
        Some(near) => format!("unknown {what} `{name}`, did you mean `{near}`?"),
        None => format!(
            "unknown {what} `{name}`, expected one of {}",
            known.join(", ")
        ),
    }
}

/// What is no range would have no address in it, which nobody means.
fn is_range(range: &Expr) -> Result<(), String> {
    let Expr::Literal(LiteralValue::String(range)) = range else {
        return Err("a range of `inRange` has to be a literal string".to_owned());
    };
    match range.inner().parse::<Cidr>() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "the range {:?} is not valid: {error}",
            range.inner()
        )),
    }
}

/// Asks the evaluator itself, so that what is accepted here is accepted there.
fn is_regex(pattern: &str) -> Result<(), String> {
    let mut context = cel::Context::with_env(std::sync::Arc::clone(super::environment()));
    context.add_variable_from_value("pattern", pattern);
    let probe = Parser::new()
        .parse("''.matches(pattern)")
        .map_err(|error| error.to_string())?;
    match context.resolve(&probe) {
        Ok(_) => Ok(()),
        Err(cel::ExecutionError::FunctionError { message, .. }) => {
            let reason = message.lines().last().unwrap_or_default().trim();
            Err(format!(
                "the regular expression is not valid: {}",
                reason.trim_start_matches("error: ")
            ))
        }
        Err(error) => Err(format!("the regular expression is not valid: {error}")),
    }
}
