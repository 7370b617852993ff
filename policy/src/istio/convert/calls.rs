//! What is called: the terms of an operation as `to` and conditions.

use super::cel::{self, Part};
use super::{Context, product};
use crate::document::{Action, Operation, OperationFields};
use crate::istio::budget::{TooMany, Weigh};
use crate::istio::path::PathTest;
use crate::istio::term::{Term, Values};
use crate::pattern::{Cidr, HeaderName, Method, PathPattern, TextPattern};

/// One way for an operation to hold: all of it has to.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    /// Empty fields are any call.
    pub(super) to: Operation,
    pub(super) conditions: Vec<Part>,
}

/// The ways in which all terms hold.
pub(super) fn calls(terms: &[&Term], context: &Context<'_>) -> Result<Vec<Calls>, TooMany> {
    let mut ways = vec![Calls::default()];
    for term in terms {
        let alternatives = alternatives(term, context);
        ways = product(context.budget, ways, &alternatives, |way, add| {
            add.apply(way)
        })?;
    }
    Ok(ways)
}

/// What a term adds to a way.
#[derive(Clone)]
struct Add {
    positive: Positive,
    not: Not,
    conditions: Vec<Part>,
}

/// Where there is a second value, it is the condition that says the same, for where another term has the field.
#[derive(Clone)]
enum Positive {
    Nothing,
    Ports(Vec<u16>),
    Methods(Vec<Method>, String),
    Paths(Vec<PathPattern>),
    Header(HeaderName, Vec<String>, String),
}

#[derive(Clone)]
enum Not {
    Nothing,
    Ports(Vec<u16>),
    Methods(Vec<Method>),
    Paths(Vec<PathPattern>),
    /// With the condition that says the same: of several headers under `not`, all would have to be there.
    Header(HeaderName, Vec<String>, String),
}

impl Weigh for Calls {
    fn weight(&self) -> usize {
        weight(&self.to).saturating_add(self.conditions.len())
    }
}

impl Weigh for Add {
    fn weight(&self) -> usize {
        let positive = match &self.positive {
            Positive::Nothing => 1,
            Positive::Ports(ports) => ports.len(),
            Positive::Methods(methods, _) => methods.len(),
            Positive::Paths(paths) => paths.len(),
            Positive::Header(_, values, _) => values.len(),
        };
        let not = match &self.not {
            Not::Nothing => 0,
            Not::Ports(ports) => ports.len(),
            Not::Methods(methods) => methods.len(),
            Not::Paths(paths) => paths.len(),
            Not::Header(_, values, _) => values.len(),
        };
        positive
            .saturating_add(not)
            .saturating_add(self.conditions.len())
    }
}

/// The size of an operation in pieces.
pub(super) fn weight(operation: &Operation) -> usize {
    let of = |fields: &OperationFields| {
        let headers = fields
            .headers
            .values()
            .map(Vec::len)
            .fold(0, usize::saturating_add);
        [fields.ports.len(), fields.methods.len(), fields.paths.len()]
            .into_iter()
            .fold(headers, usize::saturating_add)
    };
    of(&operation.is)
        .saturating_add(of(&operation.not))
        .saturating_add(1)
}

impl Add {
    /// `None` if the term cannot hold together with what is there.
    fn apply(&self, mut way: Calls) -> Option<Calls> {
        let Operation { is, not } = &mut way.to;
        match self.positive.clone() {
            Positive::Nothing => {}
            Positive::Ports(ports) if is.ports.is_empty() => is.ports = ports.into(),
            Positive::Ports(ports) => {
                is.ports.retain(|port| ports.contains(port));
                if is.ports.is_empty() {
                    return None;
                }
            }
            Positive::Methods(methods, _) if is.methods.is_empty() => is.methods = methods.into(),
            Positive::Methods(_, condition) => way.conditions.push(http(condition)),
            // There is one term about the path at most.
            Positive::Paths(paths) => is.paths = paths.into(),
            Positive::Header(name, _, condition) if is.headers.contains_key(&name) => {
                way.conditions.push(http(condition));
            }
            Positive::Header(name, values, _) => {
                is.headers.insert(name, values);
            }
        }
        match self.not.clone() {
            Not::Nothing => {}
            Not::Ports(ports) => not.ports.extend(ports),
            Not::Methods(methods) => append(&mut not.methods, methods),
            Not::Paths(paths) => append(&mut not.paths, paths),
            Not::Header(name, values, _) if not.headers.is_empty() => {
                not.headers.insert(name, values);
            }
            Not::Header(_, _, condition) => way.conditions.push(http(format!("!{condition}"))),
        }
        way.conditions.extend(self.conditions.iter().cloned());
        Some(way)
    }
}

fn append<T>(list: &mut Box<[T]>, more: Vec<T>) {
    let mut all = std::mem::take(list).into_vec();
    all.extend(more);
    *list = all.into();
}

fn http(expression: String) -> Part {
    Part {
        expression,
        is_http: true,
    }
}

fn opaque(expression: String) -> Part {
    Part {
        expression,
        is_http: false,
    }
}

fn nothing() -> Add {
    Add {
        positive: Positive::Nothing,
        not: Not::Nothing,
        conditions: Vec::new(),
    }
}

/// The ways in which a term holds.
fn alternatives(term: &Term, context: &Context<'_>) -> Vec<Add> {
    match term {
        Term::Port(values) => vec![Add {
            positive: match values.any_of.is_empty() {
                true => Positive::Nothing,
                false => Positive::Ports(values.any_of.clone()),
            },
            not: Not::Ports(values.none_of.clone()),
            conditions: Vec::new(),
        }],
        Term::Method(values) => methods(values),
        Term::Path(values) => paths(values),
        Term::Header(name, values) => header(name, values),
        Term::Host(values) => conditions(values, "request.authority", http),
        Term::Sni(values) => conditions(values, "connection.sni", opaque),
        Term::DestinationIp(values) => destination(values, context.action),
        // The others are about the caller.
        _ => vec![nothing()],
    }
}

/// Patterns of a fact that no field says exactly.
fn conditions(values: &Values<TextPattern>, fact: &str, part: impl Fn(String) -> Part) -> Vec<Add> {
    let not: Vec<Part> = cel::texts(&values.none_of)
        .iter()
        .map(|list| part(format!("!{}", cel::like(fact, list))))
        .collect();
    one_of(
        &cel::texts(&values.any_of),
        |list| part(cel::like(fact, list)),
        &not,
    )
}

/// A way for each list, or one without any; each with what has to hold besides.
fn one_of(lists: &[String], condition: impl Fn(&str) -> Part, besides: &[Part]) -> Vec<Add> {
    let add = |more: Option<Part>| Add {
        conditions: besides.iter().cloned().chain(more).collect(),
        ..nothing()
    };
    match lists {
        [] => vec![add(None)],
        _ => lists
            .iter()
            .map(|list| add(Some(condition(list))))
            .collect(),
    }
}

fn methods(values: &Values<TextPattern>) -> Vec<Add> {
    let fact = "request.method";
    let (not, unsaid) = split(&values.none_of, method);
    let not_conditions: Vec<Part> = cel::texts(unsaid)
        .iter()
        .map(|list| http(format!("!{}", cel::like(fact, list))))
        .collect();
    let (said, unsaid) = split(&values.any_of, method);
    let mut ways = Vec::new();
    if !said.is_empty() {
        let lists = cel::lists(said.iter().map(|method| cel::quoted(method.as_str())));
        let lists: Vec<String> = lists.iter().map(|list| cel::like(fact, list)).collect();
        ways.push(Add {
            positive: Positive::Methods(said, cel::any(&lists)),
            not: Not::Nothing,
            conditions: not_conditions.clone(),
        });
    }
    if !unsaid.is_empty() || ways.is_empty() {
        ways.extend(one_of(
            &cel::texts(unsaid),
            |list| http(cel::like(fact, list)),
            &not_conditions,
        ));
    }
    for way in &mut ways {
        way.not = Not::Methods(not.clone());
    }
    ways
}

fn method(pattern: &TextPattern) -> Option<Method> {
    pattern.exact()?.parse().ok()
}

/// What a field can say, and the rest.
fn split<T, U>(values: &[T], field: impl Fn(&T) -> Option<U>) -> (Vec<U>, Vec<&T>) {
    let mut said = Vec::new();
    let mut unsaid = Vec::new();
    for value in values {
        match field(value) {
            Some(one) => said.push(one),
            None => unsaid.push(value),
        }
    }
    (said, unsaid)
}

fn paths(values: &Values<PathTest>) -> Vec<Add> {
    let patterns = |test: &PathTest| match test {
        PathTest::Patterns(patterns) => Some(patterns.clone()),
        PathTest::Text(_) | PathTest::Regex(_) => None,
    };
    let (not, unsaid) = split(&values.none_of, patterns);
    let not_conditions: Vec<Part> = path_conditions(&unsaid)
        .into_iter()
        .map(|condition| http(format!("!{condition}")))
        .collect();
    let (said, unsaid) = split(&values.any_of, patterns);
    let add = |positive, more: Option<Part>| Add {
        positive,
        not: Not::Paths(not.concat()),
        conditions: not_conditions.iter().cloned().chain(more).collect(),
    };
    if values.any_of.is_empty() {
        return vec![add(Positive::Nothing, None)];
    }
    let fields = (!said.is_empty()).then(|| add(Positive::Paths(said.concat()), None));
    let conditions = path_conditions(&unsaid).into_iter().map(http);
    let others = conditions.map(|condition| add(Positive::Nothing, Some(condition)));
    fields.into_iter().chain(others).collect()
}

/// Conditions of which one has to hold for a path to be one of these.
fn path_conditions(tests: &[&PathTest]) -> Vec<String> {
    let fact = "request.path";
    let texts = tests.iter().filter_map(|test| match test {
        PathTest::Text(pattern) => Some(pattern),
        PathTest::Patterns(_) | PathTest::Regex(_) => None,
    });
    let lists = cel::texts(texts);
    let expressions = tests.iter().filter_map(|test| match test {
        PathTest::Regex(regex) => Some(format!(
            "({fact} != null && {fact}.matches({}))",
            cel::quoted(regex)
        )),
        PathTest::Patterns(_) | PathTest::Text(_) => None,
    });
    lists
        .iter()
        .map(|list| cel::like(fact, list))
        .chain(expressions)
        .collect()
}

fn header(name: &HeaderName, values: &Values<TextPattern>) -> Vec<Add> {
    let fact = cel::lookup("request", &["headers".to_owned(), name.to_string()]);
    let exact = |pattern: &TextPattern| pattern.exact().map(str::to_owned);
    let same = |texts: &[String]| {
        let lists = cel::lists(texts.iter().map(|text| cel::quoted(text)));
        let lists: Vec<String> = lists.iter().map(|list| cel::like(&fact, list)).collect();
        cel::any(&lists)
    };
    let (not, unsaid) = split(&values.none_of, exact);
    let not_conditions: Vec<Part> = cel::texts(unsaid)
        .iter()
        .map(|list| http(format!("!{}", cel::like(&fact, list))))
        .collect();
    let not = match not.is_empty() {
        true => Not::Nothing,
        false => {
            let condition = same(&not);
            Not::Header(name.clone(), not, condition)
        }
    };
    let (said, unsaid) = split(&values.any_of, exact);
    let mut ways = Vec::new();
    if !said.is_empty() {
        let condition = same(&said);
        ways.push(Add {
            positive: Positive::Header(name.clone(), said, condition),
            not: Not::Nothing,
            conditions: not_conditions.clone(),
        });
    }
    if !unsaid.is_empty() || ways.is_empty() {
        ways.extend(one_of(
            &cel::texts(unsaid),
            |list| http(cel::like(&fact, list)),
            &not_conditions,
        ));
    }
    for way in &mut ways {
        way.not = not.clone();
    }
    ways
}

/// The called address is a fact of every call. Where it is not told, an allow rule does not match, and any other does.
fn destination(values: &Values<Cidr>, action: Action) -> Vec<Add> {
    let fact = "destination.address";
    let known = |condition: String| {
        opaque(match action {
            Action::Allow => format!("{fact} != null && {condition}"),
            Action::Deny | Action::Audit => format!("({fact} == null || {condition})"),
        })
    };
    let within = |list: &str| format!("inRange({fact}, {list})");
    let not: Vec<Part> = cel::ranges(&values.none_of)
        .iter()
        .map(|list| known(format!("!{}", within(list))))
        .collect();
    one_of(
        &cel::ranges(&values.any_of),
        |list| known(within(list)),
        &not,
    )
}

/// Whether an operation asks for nothing.
pub(super) fn is_any(operation: &Operation) -> bool {
    let nothing = OperationFields::default();
    operation.is == nothing && operation.not == nothing
}

/// Whether an opaque connection cannot be it, as an allow rule sees it.
pub(super) fn is_http(operation: &Operation) -> bool {
    operation.is.is_http() || operation.not.is_http()
}
