//! A resumed handshake is judged as a full one is.

use super::*;

#[test]
fn a_resumed_handshake_names_the_same_peers() {
    let pair = Pair::new();
    let resumed = pair.resumed();
    assert_eq!(
        *pair.client_seen(&resumed).unwrap().unwrap().id(),
        id("web")
    );
    let expected = ExpectedPeer::Id(id("orders"));
    assert_eq!(
        *pair.server_seen(&resumed, &expected).unwrap().id(),
        id("orders")
    );
}

#[test]
fn a_resumed_handshake_is_refused_after_the_root_has_left_the_bundle() {
    let pair = Pair::new();
    let resumed = pair.resumed();
    let other = TestAuthority::new(&td()).unwrap();
    let without = || Bundle::new(td(), vec![other.root().clone()], 2).unwrap();

    assert_eq!(pair.server_store.set_bundle(without()), Ok(true));
    let refused = pair.client_seen(&resumed);
    assert!(matches!(
        refused,
        Err(TlsError::Svid(SvidError::UnknownAuthority { .. }))
    ));

    assert_eq!(pair.client_store.set_bundle(without()), Ok(true));
    let refused = pair.server_seen(&resumed, &ExpectedPeer::Id(id("orders")));
    assert!(matches!(
        refused,
        Err(TlsError::Svid(SvidError::UnknownAuthority { .. }))
    ));
}

#[test]
fn a_resumed_handshake_is_refused_after_the_svid_has_expired() {
    let pair = Pair::new();
    assert_eq!(pair.handshake().unwrap().kinds(), [HandshakeKind::Full; 2]);
    pair.clock.advance(2 * HOUR);
    // The handshake itself succeeds: nobody shows a certificate, so nobody looks at one.
    let resumed = pair.handshake().unwrap();
    assert_eq!(resumed.kinds(), [HandshakeKind::Resumed; 2]);
    let not_after = start() + HOUR;
    let expired = TlsError::Svid(SvidError::Expired {
        id: id("web"),
        not_after,
    });
    assert_eq!(pair.client_seen(&resumed), Err(expired));
    let expired = TlsError::Svid(SvidError::Expired {
        id: id("orders"),
        not_after,
    });
    assert_eq!(
        pair.server_seen(&resumed, &ExpectedPeer::TrustDomainMember),
        Err(expired)
    );
}

#[test]
fn a_resumed_handshake_is_refused_where_another_id_is_expected() {
    let pair = Pair::new();
    let resumed = pair.resumed();
    let refused = pair.server_seen(&resumed, &ExpectedPeer::Id(id("payments")));
    let (presented, expected) = (id("orders"), id("payments").to_string());
    assert_eq!(
        refused,
        Err(TlsError::UnexpectedPeer {
            presented,
            expected
        })
    );
}

#[test]
fn sessions_of_different_expectations_do_not_mix() {
    let mut pair = Pair::new();
    pair.resumed();
    let other = client_config_at(
        &pair.client_store,
        ExpectedPeer::Id(id("payments")),
        &[b"h2"],
        Clock::shared(&pair.clock),
    );
    pair.client = other.unwrap();
    // Not resumed, but a full handshake, in which the verifier refuses.
    let error = pair.handshake().unwrap_err().client.unwrap();
    assert!(
        matches!(error, Error::InvalidCertificate(CertificateError::Other(_))),
        "{error}"
    );
}

#[test]
fn a_new_bundle_or_svid_on_either_side_makes_the_next_handshake_a_full_one() {
    type Replace = fn(&Pair, &IdentityStore);
    let bundle: Replace = |pair, store| {
        let other = TestAuthority::new(&td()).unwrap();
        let both = vec![pair.authority.root().clone(), other.root().clone()];
        assert_eq!(
            store.set_bundle(Bundle::new(td(), both, 2).unwrap()),
            Ok(true)
        );
    };
    let svid: Replace = |pair, store| {
        let id = store.svid().unwrap().id().clone();
        let (svid, key) = pair.authority.svid(&id, validity()).unwrap();
        store.set_svid(svid, key).unwrap();
    };
    for replace in [bundle, svid] {
        for side in ["client", "server"] {
            let pair = Pair::new();
            pair.resumed();
            replace(
                &pair,
                if side == "client" {
                    &pair.client_store
                } else {
                    &pair.server_store
                },
            );
            let connected = pair.handshake().unwrap();
            assert_eq!(connected.kinds(), [HandshakeKind::Full; 2], "{side}");
            // And from then on, sessions are of use again.
            assert_eq!(
                pair.handshake().unwrap().kinds(),
                [HandshakeKind::Resumed; 2],
                "{side}"
            );
        }
    }
}

#[test]
fn an_anonymous_client_that_has_got_its_svid_is_anonymous_no_more() {
    let authority = TestAuthority::new(&td()).unwrap();
    let client = IdentityStore::new(authority.bundle().unwrap());
    let server = store(&authority, "orders");
    let expected = ExpectedPeer::Id(id("orders"));
    let pair = Pair::of(authority, client, server, expected, ClientAuth::Optional);
    let connected = pair.resumed();
    assert_eq!(pair.client_seen(&connected), Ok(None));
    let (svid, key) = pair.authority.svid(&id("web"), validity()).unwrap();
    pair.client_store.set_svid(svid, key).unwrap();
    let connected = pair.handshake().unwrap();
    assert_eq!(
        *pair.client_seen(&connected).unwrap().unwrap().id(),
        id("web")
    );
}
