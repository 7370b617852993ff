use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn refused(uri: &str) -> SpiffeIdError {
    SpiffeId::parse(uri).expect_err(uri)
}

#[test]
fn parts_of_a_workload_id() {
    let id = SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap();
    assert_eq!(id.as_str(), "spiffe://shop.example/ns/shop/sa/orders");
    assert_eq!(id.trust_domain().as_str(), "shop.example");
    assert_eq!(id.path(), "/ns/shop/sa/orders");
    let workload = id.workload().unwrap();
    assert_eq!(
        (workload.namespace, workload.service_account),
        ("shop", "orders")
    );
}

#[test]
fn an_id_without_a_path_names_the_trust_domain() {
    let id = SpiffeId::parse("spiffe://shop.example").unwrap();
    assert_eq!((id.path(), id.workload()), ("", None));
}

#[test]
fn every_allowed_character_is_allowed() {
    let id = SpiffeId::parse("spiffe://a-z.0_9/AZaz09.-_/...").unwrap();
    assert_eq!(id.path(), "/AZaz09.-_/...");
}

#[test]
fn the_scheme_is_spiffe_in_lower_case() {
    for uri in [
        "",
        "spiffe",
        "spiffe:",
        "spiffe:/td/a",
        "SPIFFE://td/a",
        "Spiffe://td/a",
        "http://td/a",
        " spiffe://td/a",
        "//td/a",
        "td/a",
    ] {
        assert_eq!(refused(uri), SpiffeIdError::Scheme, "{uri:?}");
    }
}

#[test]
fn the_trust_domain_is_not_empty() {
    for uri in [
        "spiffe://",
        "spiffe:///",
        "spiffe:///a",
        "spiffe://?a",
        "spiffe://#a",
    ] {
        assert_eq!(refused(uri), SpiffeIdError::EmptyTrustDomain, "{uri:?}");
    }
    assert_eq!(TrustDomain::parse(""), Err(SpiffeIdError::EmptyTrustDomain));
}

#[test]
fn the_authority_is_a_bare_host() {
    assert_eq!(refused("spiffe://user@td/a"), SpiffeIdError::UserInfo);
    assert_eq!(
        refused("spiffe://user:password@td/a"),
        SpiffeIdError::UserInfo
    );
    assert_eq!(refused("spiffe://@td/a"), SpiffeIdError::UserInfo);
    assert_eq!(refused("spiffe://td:443/a"), SpiffeIdError::Port);
    assert_eq!(refused("spiffe://td:/a"), SpiffeIdError::Port);
}

#[test]
fn trust_domain_characters() {
    for (name, character) in [
        ("Shop.example", 'S'),
        ("shop example", ' '),
        ("shöp", 'ö'),
        ("[::1]", '['),
        ("a\0b", '\0'),
        ("a\\b", '\\'),
        ("a~b", '~'),
    ] {
        let expected = SpiffeIdError::TrustDomainCharacter { character };
        assert_eq!(refused(&format!("spiffe://{name}/a")), expected, "{name:?}");
        assert_eq!(TrustDomain::parse(name), Err(expected), "{name:?}");
    }
    assert_eq!(refused("spiffe://t%64/a"), SpiffeIdError::PercentEncoding);
}

#[test]
fn a_trust_domain_has_no_scheme_and_no_path() {
    assert_eq!(TrustDomain::parse("spiffe://td"), Err(SpiffeIdError::Port));
    let slash = SpiffeIdError::TrustDomainCharacter { character: '/' };
    assert_eq!(TrustDomain::parse("td/a"), Err(slash));
}

#[test]
fn no_query_and_no_fragment() {
    for uri in [
        "spiffe://td?",
        "spiffe://td/a?",
        "spiffe://td/a?b=c",
        "spiffe://td/a?b#c",
    ] {
        assert_eq!(refused(uri), SpiffeIdError::Query, "{uri:?}");
    }
    for uri in ["spiffe://td#", "spiffe://td/a#", "spiffe://td/a#b?c"] {
        assert_eq!(refused(uri), SpiffeIdError::Fragment, "{uri:?}");
    }
}

#[test]
fn no_empty_segment() {
    for uri in [
        "spiffe://td//",
        "spiffe://td//a",
        "spiffe://td/a//b",
        "spiffe://td/a//",
    ] {
        assert_eq!(refused(uri), SpiffeIdError::EmptySegment, "{uri:?}");
    }
}

#[test]
fn no_relative_segment() {
    for uri in [
        "spiffe://td/.",
        "spiffe://td/..",
        "spiffe://td/a/../b",
        "spiffe://td/a/./b",
        "spiffe://td/../",
    ] {
        assert_eq!(refused(uri), SpiffeIdError::DotSegment, "{uri:?}");
    }
}

#[test]
fn no_trailing_slash() {
    for uri in ["spiffe://td/", "spiffe://td/a/", "spiffe://td/a/b/"] {
        assert_eq!(refused(uri), SpiffeIdError::TrailingSlash, "{uri:?}");
    }
}

#[test]
fn path_characters() {
    for (uri, character) in [
        ("spiffe://td/a b", ' '),
        ("spiffe://td/ä", 'ä'),
        ("spiffe://td/a:b", ':'),
        ("spiffe://td/a@b", '@'),
        ("spiffe://td/a;b", ';'),
        ("spiffe://td/a~b", '~'),
        ("spiffe://td/a*", '*'),
        ("spiffe://td/a\n", '\n'),
        ("spiffe://td/a\\b", '\\'),
    ] {
        assert_eq!(
            refused(uri),
            SpiffeIdError::PathCharacter { character },
            "{uri:?}"
        );
    }
    assert_eq!(refused("spiffe://td/%61"), SpiffeIdError::PercentEncoding);
    assert_eq!(refused("spiffe://td/a%2fb"), SpiffeIdError::PercentEncoding);
}

#[test]
fn lengths_have_limits_and_reach_them() {
    let longest = format!("spiffe://td/{}", "a".repeat(2048 - "spiffe://td/".len()));
    assert!(SpiffeId::parse(&longest).is_ok());
    assert_eq!(
        refused(&format!("{longest}a")),
        SpiffeIdError::TooLong { length: 2049 }
    );

    let longest = "d".repeat(255);
    assert!(TrustDomain::parse(&longest).is_ok());
    assert!(SpiffeId::parse(&format!("spiffe://{longest}/a")).is_ok());
    let too_long = SpiffeIdError::TrustDomainTooLong { length: 256 };
    assert_eq!(
        TrustDomain::parse(&format!("{longest}d")),
        Err(too_long.clone())
    );
    assert_eq!(refused(&format!("spiffe://{longest}d/a")), too_long);
}

#[test]
fn a_workload_id_is_made_of_valid_segments() {
    let td = TrustDomain::parse("td").unwrap();
    let id = SpiffeId::for_workload(&td, "shop", "orders").unwrap();
    assert_eq!(
        id,
        SpiffeId::parse("spiffe://td/ns/shop/sa/orders").unwrap()
    );
    let slash = SpiffeIdError::PathCharacter { character: '/' };
    assert_eq!(
        SpiffeId::for_workload(&td, "a/sa/b", "c"),
        Err(slash.clone())
    );
    assert_eq!(SpiffeId::for_workload(&td, "a", "b/c"), Err(slash));
    assert_eq!(
        SpiffeId::for_workload(&td, "", "b"),
        Err(SpiffeIdError::EmptySegment)
    );
    assert_eq!(
        SpiffeId::for_workload(&td, "a", ".."),
        Err(SpiffeIdError::DotSegment)
    );
    let long = SpiffeId::for_workload(&td, "a", &"b".repeat(2048));
    assert!(matches!(long, Err(SpiffeIdError::TooLong { .. })));
}

#[test]
fn other_paths_name_no_workload() {
    for path in [
        "/a",
        "/ns/a",
        "/ns/a/sa",
        "/ns/a/sa/b/c",
        "/ns/a/b/sa/c",
        "/x/ns/a/sa/b",
        "/NS/a/sa/b",
        "/ns/a/xsa/b",
    ] {
        let id = SpiffeId::parse(&format!("spiffe://td{path}")).unwrap();
        assert_eq!(id.workload(), None, "{path}");
    }
}

#[test]
fn the_system_ids_obey_the_rules_in_the_longest_trust_domain() {
    let td = TrustDomain::parse(&"d".repeat(255)).unwrap();
    for id in [system::ca(&td), system::control(&td)] {
        assert_eq!(SpiffeId::parse(id.as_str()).unwrap(), id);
        assert_eq!(id.workload().unwrap().namespace, system::NAMESPACE);
    }
    assert_ne!(system::ca(&td), system::control(&td));
}

#[test]
fn json_is_the_text_and_obeys_the_rules() {
    let id: SpiffeId = serde_json::from_str(r#""spiffe://td/a""#).unwrap();
    assert_eq!(serde_json::to_string(&id).unwrap(), r#""spiffe://td/a""#);
    let error = serde_json::from_str::<SpiffeId>(r#""spiffe://td/a/""#).unwrap_err();
    assert!(error.to_string().contains("ends with a '/'"), "{error}");
    assert!(serde_json::from_str::<TrustDomain>(r#""TD""#).is_err());
}

prop_compose! {
    fn valid_id()(
        trust_domain in "[a-z0-9._-]{1,64}",
        segments in prop::collection::vec("[a-zA-Z0-9._-]{1,16}", 0..6),
    ) -> String {
        let mut uri = format!("spiffe://{trust_domain}");
        for segment in segments.iter().filter(|segment| !matches!(segment.as_str(), "." | "..")) {
            uri.push('/');
            uri.push_str(segment);
        }
        uri
    }
}

proptest! {
    #[test]
    fn what_is_valid_stays_as_it_is(uri in valid_id()) {
        let id = SpiffeId::parse(&uri).unwrap();
        prop_assert_eq!(id.as_str(), &uri);
        prop_assert_eq!(id.to_string(), uri.clone());
        prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), uri.clone());
        let trust_domain = TrustDomain::parse(id.trust_domain().as_str()).unwrap();
        prop_assert_eq!(&trust_domain, id.trust_domain());
        prop_assert_eq!(HashSet::from([id.clone(), uri.parse().unwrap()]).len(), 1);
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
    }

    #[test]
    fn anything_is_either_refused_or_canonical(text in any::<String>()) {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
        }
        let _ = TrustDomain::parse(&text);
    }

    #[test]
    fn what_looks_like_an_id_is_either_refused_or_canonical(tail in "[a-zA-Z0-9./%?#:@_ -]{0,40}") {
        let text = format!("spiffe://{tail}");
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert!(!tail.contains(['%', '?', '#', ':', '@', ' ']));
            prop_assert!(!text.ends_with('/') && !tail.contains("//"));
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        }
    }

    #[test]
    fn a_forbidden_character_anywhere_is_refused(
        uri in valid_id(),
        position in any::<prop::sample::Index>(),
        bad in prop::sample::select(vec!['%', '?', '#', ':', '@', ' ', '\\', '~', '+', '\u{e9}', '\u{0}', '\u{ff0e}']),
    ) {
        let mut mutated = uri.clone();
        mutated.insert(position.index(uri.len() + 1), bad);
        prop_assert!(SpiffeId::parse(&mutated).is_err(), "{:?}", mutated);
    }

    #[test]
    fn an_upper_case_trust_domain_is_refused(name in "[a-z0-9.-]{0,8}[A-Z][a-z0-9.-]{0,8}") {
        let refused = matches!(
            SpiffeId::parse(&format!("spiffe://{name}/a")),
            Err(SpiffeIdError::TrustDomainCharacter { .. })
        );
        prop_assert!(refused);
    }
}
