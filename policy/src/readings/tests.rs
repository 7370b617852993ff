use proptest::prelude::*;

use super::*;
use crate::pattern::PathPattern;

fn all(path: &str, ambiguous: AmbiguousPaths) -> Result<Vec<String>, AmbiguousPath> {
    let readings = Readings::of(path, ambiguous)?;
    let told = readings
        .iter()
        .map(|reading| reading.unwrap_or("unknown").to_owned());
    Ok(told.collect())
}

/// Where ambiguous paths are accepted.
fn readings(path: &str) -> Vec<String> {
    all(path, AmbiguousPaths::Accept).unwrap()
}

#[test]
fn a_normal_path_is_read_in_one_way_and_is_not_copied() {
    for path in [
        "/",
        "/orders/7",
        "/a.b/c-d_e~f/",
        "/.well-known",
        "/ö?x=../%2f;",
    ] {
        let plain = path.split('?').next().unwrap();
        for ambiguous in [AmbiguousPaths::Accept, AmbiguousPaths::Refuse] {
            assert_eq!(all(path, ambiguous).unwrap(), [plain], "{path}");
        }
    }
    assert!(matches!(
        Readings::of("/orders/7?a=/../b", AmbiguousPaths::Refuse),
        Ok(Readings::One(Some("/orders/7")))
    ));
}

#[test]
fn what_is_unusual_and_unambiguous_is_read_in_one_way() {
    for (path, expected) in [
        ("/%6frders", "/orders"),
        ("/a%20b", "/a b"),
        ("/a//b", "/a/b"),
        ("/a/./b?c", "/a/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/%ff", "/%FF"),
        ("/%252e%252e", "/%2e%2e"),
    ] {
        for ambiguous in [AmbiguousPaths::Accept, AmbiguousPaths::Refuse] {
            assert_eq!(all(path, ambiguous).unwrap(), [expected], "{path}");
        }
    }
}

#[test]
fn an_ambiguous_path_is_read_in_every_way() {
    for (path, expected) in [
        ("/a%2fb", vec!["/a%2Fb", "/a/b"]),
        ("/a\\b", vec!["/a\\b", "/a/b"]),
        ("/a;v=1/b", vec!["/a;v=1/b", "/a/b"]),
    ] {
        assert_eq!(readings(path), expected, "{path}");
    }
    let every = readings("/public/..;x/%2e%2e%5cadmin//./");
    assert!(every.contains(&"/admin/".to_owned()), "{every:?}");
    // Parameters are never refused: they are in use.
    let parameters = all("/public/..;x/admin", AmbiguousPaths::Refuse).unwrap();
    assert!(parameters.contains(&"/admin".to_owned()), "{parameters:?}");
    assert_eq!(
        all("/a%2fb", AmbiguousPaths::Refuse),
        Err(AmbiguousPath::EncodedSlash)
    );
}

#[test]
fn what_costs_too_much_or_names_nothing_is_unknown() {
    assert_eq!(readings("*"), ["unknown"]);
    assert_eq!(readings(&format!("/{}", "%20".repeat(4000))), ["unknown"]);
}

/// One way to disguise a path, undone by an application that reads it in some usual way.
fn disguised(segments: &[String], choices: &[u8]) -> String {
    let mut path = String::new();
    for (segment, choice) in segments.iter().zip(choices.iter().cycle()) {
        path.push_str(match choice % 9 {
            0 => "//",
            1 => "/./",
            2 => "/x/../",
            3 => "/%2e/",
            4 => "/x/%2E%2e/",
            5 => "%2f",
            6 => "%2F.%2f",
            7 => "\\",
            _ => "/",
        });
        for (character, turn) in segment.chars().zip(0_u8..) {
            match choice.wrapping_mul(31).wrapping_add(turn) % 3 {
                0 => path.push_str(&format!("%{:02x}", u32::from(character))),
                1 => path.push_str(&format!("%{:02X}", u32::from(character))),
                _ => path.push(character),
            }
        }
        if choice % 5 == 0 {
            path.push_str(";v=1");
        }
    }
    // The first slash is always plain: without it, it is not a path.
    if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    }
}

proptest! {
    #[test]
    fn no_disguise_hides_a_path_from_a_deny_rule(
        segments in prop::collection::vec("[a-d]{1,4}", 1..5),
        choices in prop::collection::vec(any::<u8>(), 1..6),
        kind in 0..3,
    ) {
        let plain = format!("/{}", segments.join("/"));
        let pattern = match kind {
            0 => plain.clone(),
            1 => format!("/{}/**", segments[0]),
            _ => format!("/{}", vec!["*"; segments.len()].join("/")),
        };
        let pattern: PathPattern = pattern.parse().unwrap();
        prop_assert!(pattern.matches(&plain));
        let path = disguised(&segments, &choices);
        let readings_of = Readings::of(&path, AmbiguousPaths::Accept).unwrap();
        let denied = readings_of.iter().any(|r| r.is_none_or(|r| pattern.matches(r)));
        prop_assert!(denied, "{} hides from {}: {:?}", path, pattern, readings(&path));
    }

    #[test]
    fn the_normal_form_of_a_path_is_among_its_readings(path in "/?[-a%2efF05c./\\\\;?]{0,40}") {
        for ambiguous in [AmbiguousPaths::Accept, AmbiguousPaths::Refuse] {
            if let Ok(normal) = normal_path(&path, ambiguous) {
                prop_assert_eq!(all(&normal, ambiguous).unwrap(), all(&path, ambiguous).unwrap());
            }
        }
    }

    #[test]
    fn any_path_has_a_bounded_number_of_readings(path in "/?[-a%2efF05c./\\\\;?#\u{0}é]{0,40}") {
        if let Ok(all) = all(&path, AmbiguousPaths::Accept) {
            prop_assert!(!all.is_empty() && all.len() <= 48);
        }
    }
}
