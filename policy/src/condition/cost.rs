//! What an evaluation can cost, known before it starts.
//!
//! The `cel` crate has no budget that ends an evaluation. So an expression is weighed when it is compiled, and before it runs
//! its weight is multiplied by the size of what its loops go through, which is the caller's to choose as far as it
//! chooses tokens and headers. An evaluation that could take more than [`MAX_STEPS`] is not started.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, operators};
use serde_json::{Map, Value};

use super::Facts;
use super::check::MAX_NESTED_LOOPS;

/// The most steps of one evaluation, of some 100 ns each.
pub(super) const MAX_STEPS: u64 = 100_000;
/// A regular expression is compiled by every evaluation.
const REGEX_STEPS: u64 = 500;
/// How many patterns a text is compared with in a step.
const PATTERNS_PER_STEP: u64 = 16;
/// How much of a text an operator gets through in a step, in bytes.
const TEXT_PER_STEP: u64 = 1024;

/// How many steps an evaluation takes: a polynomial in the length of what its loops go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Steps that are made once, as often as a list is long, and as often as its length squared.
    steps: [u64; MAX_NESTED_LOOPS + 1],
    /// How many lists could be put together to a longer one.
    joined: u64,
}

/// A loop could go through too much.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    pub(super) items: u64,
}

impl Weight {
    pub(super) fn of(expression: &IdedExpr) -> Self {
        let mut weight = Self {
            steps: [0; _],
            joined: 1,
        };
        weight.add(expression, 1, 0);
        weight
    }

    /// Adds an expression that is evaluated `times`, each as often as `depth` loops together turn.
    fn add(&mut self, expression: &IdedExpr, times: u64, depth: usize) {
        self.add_steps(times, depth);
        match &expression.expr {
            Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified | Expr::Struct(_) => {}
            Expr::Select(select) => self.add(&select.operand, times, depth),
            Expr::Call(call) => {
                match call.func_name.as_str() {
                    "matches" => self.add_steps(times.saturating_mul(REGEX_STEPS), depth),
                    // Every item of what may be a list is compared with every pattern.
                    "like" | "words" => {
                        let patterns = match call.args.last().map(|last| &last.expr) {
                            Some(Expr::List(list)) => count(list.elements.len()),
                            _ => 1,
                        };
                        let steps =
                            times.saturating_mul((patterns / PATTERNS_PER_STEP).saturating_add(1));
                        self.add_steps(steps, depth.saturating_add(1).min(MAX_NESTED_LOOPS));
                    }
                    operators::ADD => self.joined = self.joined.saturating_add(1),
                    _ => {}
                }
                for one in call.target.iter().map(|target| &**target).chain(&call.args) {
                    self.add(one, times, depth);
                }
            }
            Expr::List(list) => {
                for item in &list.elements {
                    self.add(item, times, depth);
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::StructField(field) => self.add(&field.value, times, depth),
                        EntryExpr::MapEntry(entry) => {
                            self.add(&entry.key, times, depth);
                            self.add(&entry.value, times, depth);
                        }
                    }
                }
            }
            Expr::Comprehension(comprehension) => {
                self.add(&comprehension.iter_range, times, depth);
                self.add(&comprehension.accu_init, times, depth);
                self.add(&comprehension.result, times, depth);
                // A list that is written out is as long as it is.
                let (times, depth) = match &comprehension.iter_range.expr {
                    Expr::List(list) => (times.saturating_mul(count(list.elements.len())), depth),
                    _ => (times, depth.saturating_add(1)),
                };
                self.add(&comprehension.loop_cond, times, depth);
                self.add(&comprehension.loop_step, times, depth);
            }
        }
    }

    fn add_steps(&mut self, steps: u64, depth: usize) {
        // The checker has refused deeper loops.
        if let Some(sum) = self.steps.get_mut(depth) {
            *sum = sum.saturating_add(steps);
        }
    }

    /// Whether an evaluation with these facts can be afforded.
    pub(super) fn afford(&self, facts: &Facts<'_>) -> Result<(), TooLong> {
        self.afford_size(|size| size.add_facts(facts))
    }

    /// Whether an evaluation with this object can be afforded.
    pub(super) fn afford_object(&self, object: &Map<String, Value>) -> Result<(), TooLong> {
        self.afford_size(|size| {
            size.add_items(object.len());
            object.values().for_each(|value| size.add(value));
        })
    }

    fn afford_size(&self, add: impl FnOnce(&mut Size)) -> Result<(), TooLong> {
        let [_, loops @ ..] = &self.steps;
        if loops.iter().all(|steps| *steps == 0) {
            return Ok(());
        }
        let mut size = Size::default();
        add(&mut size);
        let items = size.items.saturating_mul(self.joined);
        let text = (size.text / TEXT_PER_STEP).saturating_add(1);
        let turns = std::iter::successors(Some(1_u64), |turns| Some(turns.saturating_mul(items)));
        let steps = self
            .steps
            .iter()
            .zip(turns)
            .map(|(steps, turns)| steps.saturating_mul(turns))
            .fold(0, u64::saturating_add);
        if steps.saturating_mul(text) > MAX_STEPS {
            return Err(TooLong { items: size.items });
        }
        Ok(())
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The largest of its kind among the facts.
#[derive(Default)]
struct Size {
    /// Entries of a list or map.
    items: u64,
    /// Bytes of a text.
    text: u64,
}

impl Size {
    fn add_facts(&mut self, facts: &Facts<'_>) {
        if let Some(subject) = facts.subject {
            self.add_items(subject.claims.len());
            subject.claims.values().for_each(|claim| self.add(claim));
        }
        if let Some(intent) = facts.intent {
            self.add_items(intent.tctx.len().max(intent.scope.len()));
            intent.tctx.values().for_each(|value| self.add(value));
        }
        self.add_items(facts.destination.labels.len());
        if let Some(request) = facts.request {
            self.add_text(request.path.len());
            let mut headers = 0_usize;
            request.headers.for_each(&mut |_, value| {
                headers = headers.saturating_add(1);
                self.add_text(value.len());
            });
            self.add_items(headers);
        }
    }

    /// Depth is bounded by the JSON reader's limit of 128.
    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add_text(text.len()),
            Value::Array(items) => {
                self.add_items(items.len());
                items.iter().for_each(|item| self.add(item));
            }
            Value::Object(fields) => {
                self.add_items(fields.len());
                fields.values().for_each(|field| self.add(field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add_items(&mut self, items: usize) {
        self.items = self.items.max(count(items));
    }

    fn add_text(&mut self, bytes: usize) {
        self.text = self.text.max(count(bytes));
    }
}
