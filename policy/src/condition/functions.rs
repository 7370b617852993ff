//! Functions that CEL does not have. None of them fails: what they cannot read is like nothing, found nowhere and in no
//! range, so that a condition made of them can always be evaluated.

use cel::common::types::{CelBool, CelList, CelNull, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use crate::pattern::{Cidr, TextPattern};

/// Adds the functions.
pub(super) fn add_to(env: &mut Env) -> Result<(), DeclarationError> {
    let two = || vec![DYN_TYPE, DYN_TYPE];
    env.add_overload("like", "like_dyn_dyn", two(), like)?;
    env.add_overload("lookup", "lookup_dyn_dyn", two(), lookup)?;
    env.add_overload("inRange", "in_range_dyn_dyn", two(), in_range)?;
    env.add_overload("join", "join_dyn_dyn", two(), join)?;
    env.add_overload("words", "words_dyn", vec![DYN_TYPE], words)
}

type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;

fn two<'b, 'v>(
    name: &str,
    arguments: Arguments<'b, 'v>,
) -> Result<[CowVal<'b, 'v>; 2], ExecutionError> {
    arguments
        .try_into()
        .map_err(|arguments: Arguments<'_, '_>| {
            ExecutionError::function_error(name, format!("{} arguments", arguments.len()))
        })
}

fn text<'a>(value: &'a (dyn Val + '_)) -> Option<&'a str> {
    value.downcast_ref::<CelString>().map(CelString::inner)
}

/// The texts of a list; a text alone is a list of one.
fn texts<'a>(value: &'a (dyn Val + '_)) -> Vec<&'a str> {
    match value.downcast_ref::<CelList>() {
        Some(list) => list
            .inner()
            .iter()
            .filter_map(|item| text(item.as_ref()))
            .collect(),
        None => text(value).into_iter().collect(),
    }
}

/// `like(x, patterns)`: the text, or one of a list of texts, is a pattern's.
fn like<'b, 'v>(arguments: Arguments<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [value, patterns] = two("like", arguments)?;
    let values = texts(&*value);
    let is_like = texts(&*patterns).iter().any(|pattern| {
        values
            .iter()
            .any(|value| TextPattern::accepts(pattern, value))
    });
    Ok(CowVal::owned(CelBool::from(is_like)))
}

/// `lookup(x, names)`: what is in x under the first name, in that under the second, and so on; or null.
fn lookup<'b, 'v>(arguments: Arguments<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [value, names] = two("lookup", arguments)?;
    let names = texts(&*names);
    let found = match value {
        CowVal::Borrowed(value) => walk(CowVal::Borrowed(value), &names),
        CowVal::Owned(value) => walk(CowVal::Borrowed(value.as_ref()), &names)
            .map(|found| CowVal::Owned(found.into_owned())),
    };
    Ok(found.unwrap_or_else(|| CowVal::owned(CelNull)))
}

fn walk<'b, 'v>(value: CowVal<'b, 'v>, names: &[&str]) -> Option<CowVal<'b, 'v>> {
    let Some((name, rest)) = names.split_first() else {
        return Some(value);
    };
    let key = CelString::from(*name);
    let inner = match value {
        CowVal::Borrowed(value) => value.as_indexer()?.get(&key).ok()?,
        CowVal::Owned(value) => CowVal::Owned(value.as_indexer()?.get(&key).ok()?.into_owned()),
    };
    walk(inner, rest)
}

/// `join(texts, separator)`: the texts in one; null if one of them is empty or no text.
fn join<'b, 'v>(arguments: Arguments<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [parts, separator] = two("join", arguments)?;
    let whole = || {
        let parts = parts.downcast_ref::<CelList>()?.inner().iter();
        let parts: Option<Vec<&str>> = parts
            .map(|part| text(part.as_ref()).filter(|part| !part.is_empty()))
            .collect();
        Some(parts?.join(text(&*separator)?))
    };
    Ok(match whole() {
        Some(whole) => CowVal::owned(CelString::from(whole)),
        None => CowVal::owned(CelNull),
    })
}

/// `words(x)`: the words of a text, as OAuth writes scopes (RFC 8693 §4.2); anything else as it is.
fn words<'b, 'v>(mut arguments: Arguments<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let Some(value) = arguments.pop() else {
        return Err(ExecutionError::function_error("words", "no argument"));
    };
    let Some(text) = text(&*value) else {
        return Ok(value);
    };
    let words: Vec<Box<dyn Val>> = text
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| -> Box<dyn Val> { Box::new(CelString::from(word.to_owned())) })
        .collect();
    Ok(CowVal::owned(CelList::from(words)))
}

/// `inRange(address, ranges)`: the address is in one of the ranges.
fn in_range<'b, 'v>(arguments: Arguments<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [address, ranges] = two("inRange", arguments)?;
    let is_within = text(&*address)
        .and_then(|address| address.parse().ok())
        .is_some_and(|address| {
            texts(&*ranges)
                .iter()
                .filter_map(|range| range.parse::<Cidr>().ok())
                .any(|range| range.contains(address))
        });
    Ok(CowVal::owned(CelBool::from(is_within)))
}
