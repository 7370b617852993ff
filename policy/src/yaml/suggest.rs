//! "Did you mean …?"

/// The candidate that `name` is most likely a misspelling of, if any is near.
///
/// Near is an edit distance of at most a third of the name's length, and at least one.
#[must_use]
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    // A long name needs no comparison: no candidate is near, and the distance costs their product.
    if name.len() > 100 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(
                &name.to_ascii_lowercase(),
                &candidate.to_ascii_lowercase(),
            );
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown name: the nearest candidate, else the list of them.
pub(super) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    if let Some(near) = closest(name, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<String> = candidates.into_iter().map(|c| format!("`{c}`")).collect();
    match all.as_slice() {
        [] => "none is expected here".to_owned(),
        [only] => format!("expected {only}"),
        [first @ .., last] => format!("expected {} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_is_near_and_another_word_is_not() {
        let known = ["ports", "paths", "methods"];
        assert_eq!(closest("prots", known), Some("ports"));
        assert_eq!(closest("Methods", known), Some("methods"));
        assert_eq!(closest("frobnicate", known), None);
        assert_eq!(did_you_mean("x", ["a"]), "did you mean `a`?");
        assert_eq!(did_you_mean("zzz", ["ab", "cd"]), "expected `ab` or `cd`");
    }
}
