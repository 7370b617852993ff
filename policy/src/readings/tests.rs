use proptest::prelude::*;

use super::*;
use crate::pattern::PathPattern;

fn readings(path: &str) -> Vec<String> {
    Readings::of(path)
        .iter()
        .map(|reading| reading.unwrap_or("unknown").to_owned())
        .collect()
}

#[test]
fn a_plain_path_is_read_in_one_way_and_is_not_copied() {
    for path in [
        "/",
        "/orders/7",
        "/a.b/c-d_e~f/",
        "/.well-known",
        "/ö?x=../%2f",
    ] {
        let plain = path.split('?').next().unwrap();
        assert_eq!(readings(path), [plain], "{path}");
    }
    assert!(matches!(
        Readings::of("/orders/7?a=/../b"),
        Readings::One(Some("/orders/7"))
    ));
}

#[test]
fn an_unusual_path_is_read_in_every_way() {
    for (path, expected) in [
        ("/%6frders", vec!["/orders"]),
        ("/a%20b", vec!["/a b"]),
        ("/a//b", vec!["/a//b", "/a/b"]),
        ("/a/./b", vec!["/a/./b", "/a/b"]),
        ("/a/%2E%2e/b", vec!["/a/../b", "/b"]),
        ("/a/..", vec!["/a/..", "/", "/"]),
        ("/a/b/.", vec!["/a/b/.", "/a/b", "/a/b/"]),
        ("/a%2fb", vec!["/a%2Fb", "/a/b"]),
        ("/a\\b", vec!["/a\\b", "/a/b"]),
        ("/a;v=1/b", vec!["/a;v=1/b", "/a/b"]),
        ("/%ff", vec!["/%FF"]),
        ("/%252e%252e", vec!["/%2e%2e"]),
    ] {
        let mut expected: Vec<&str> = expected;
        expected.dedup();
        assert_eq!(readings(path), expected, "{path}");
    }
    let all = readings("/public/..;x/%2e%2e%5cadmin//./");
    assert!(all.contains(&"/admin/".to_owned()), "{all:?}");
}

#[test]
fn what_cannot_be_read_is_unknown() {
    for path in [
        "",
        "*",
        "orders",
        "http://shop/x",
        "/%",
        "/%zz",
        "/%0",
        "/%00",
        "/a%0ab",
        "/a#b",
        "/a\u{7f}",
    ] {
        assert_eq!(readings(path), ["unknown"], "{path:?}");
    }
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
        let denied = Readings::of(&path).iter().any(|r| r.is_none_or(|r| pattern.matches(r)));
        prop_assert!(denied, "{} hides from {}: {:?}", path, pattern, readings(&path));
    }

    /// An allow rule has to match all readings: so what some application takes for another path is
    /// not let in by a rule that is not about that path, too.
    #[test]
    fn the_way_rfc_3986_reads_a_path_is_always_among_the_readings(
        parts in prop::collection::vec(prop::sample::select(vec!["a", "b", ".", "..", "%2e", "%2E%2e", "c%41"]), 1..7),
    ) {
        let path = format!("/{}", parts.join("/"));
        // RFC 3986 §6.2.2.2 (unreserved characters are decoded) and then §5.2.4.
        let decoded = path.replace("%2e", ".").replace("%2E", ".").replace("%41", "A");
        let mut output: Vec<&str> = Vec::new();
        let segments: Vec<&str> = decoded[1..].split('/').collect();
        for (at, segment) in segments.iter().enumerate() {
            match *segment {
                "." | ".." => {
                    if *segment == ".." {
                        output.pop();
                    }
                    if at + 1 == segments.len() {
                        output.push("");
                    }
                }
                other => output.push(other),
            }
        }
        let expected = format!("/{}", output.join("/"));
        let all = readings(&path);
        prop_assert!(all.contains(&expected), "{} is {} and not in {:?}", path, expected, all);
    }

    #[test]
    fn any_path_has_a_bounded_number_of_readings(path in "/?[-a%2efF05c./\\\\;?#\u{0}é]{0,40}") {
        let all = readings(&path);
        prop_assert!(!all.is_empty() && all.len() <= 48);
    }
}
