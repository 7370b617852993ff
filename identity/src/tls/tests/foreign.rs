//! Peers of other trust domains: believed by their own bundle, and by no other.

use super::*;

/// A process of a trust domain, with an SVID of `issuer` for `id`.
fn process(own: &TestAuthority, issuer: &TestAuthority, id: &str) -> Arc<IdentityStore> {
    let store = IdentityStore::new(own.bundle().unwrap());
    let (svid, key) = issuer
        .svid(&SpiffeId::parse(id).unwrap(), validity())
        .unwrap();
    store.set_svid(svid, key).unwrap();
    store
}

/// The identities that client and server have proved to each other.
fn meet(
    client: &Arc<IdentityStore>,
    expected: ExpectedPeer,
    server: &Arc<IdentityStore>,
) -> Result<[String; 2], String> {
    let clock = Clock::new();
    let alpn: &[&[u8]] = &[b"h2"];
    let server_config =
        server_config_at(server, ClientAuth::Required, alpn, Clock::shared(&clock)).unwrap();
    let client_config =
        client_config_at(client, expected.clone(), alpn, Clock::shared(&clock)).unwrap();
    let mut accepting = ServerConnection::new(server_config).unwrap();
    let mut connecting = ClientConnection::new(client_config, server_name()).unwrap();
    let told = |error: Error| error.to_string();
    let mut bytes = Vec::new();
    while connecting.is_handshaking() || accepting.is_handshaking() {
        bytes.clear();
        connecting.write_tls(&mut bytes).unwrap();
        accepting.read_tls(&mut &*bytes).unwrap();
        accepting
            .process_new_packets()
            .map_err(|error| format!("server: {error}"))?;
        bytes.clear();
        accepting.write_tls(&mut bytes).unwrap();
        connecting.read_tls(&mut &*bytes).unwrap();
        connecting
            .process_new_packets()
            .map_err(|error| format!("client: {}", told(error)))?;
    }
    let now = clock.now();
    let peer = peer_of_connected(&connecting, client, &expected, now);
    let peer = peer.map_err(|error| error.to_string())?;
    let caller = peer_of_accepted(&accepting, server, now).map_err(|error| error.to_string())?;
    Ok([caller.unwrap(), peer].map(|peer| peer.id().to_string()))
}

struct Two {
    shop: TestAuthority,
    partner: TestAuthority,
}

const WEB: &str = "spiffe://shop.example/ns/shop/sa/web";
const BILLING: &str = "spiffe://partner.example/ns/shop/sa/billing";

impl Two {
    fn new() -> Self {
        let partner = TrustDomain::parse("partner.example").unwrap();
        Self {
            shop: TestAuthority::new(&td()).unwrap(),
            partner: TestAuthority::new(&partner).unwrap(),
        }
    }

    /// A client of the one and a server of the other, each with the other's bundle.
    fn processes(&self) -> [Arc<IdentityStore>; 2] {
        let web = process(&self.shop, &self.shop, WEB);
        let billing = process(&self.partner, &self.partner, BILLING);
        web.set_foreign_bundles([self.partner.bundle().unwrap()])
            .unwrap();
        billing
            .set_foreign_bundles([self.shop.bundle().unwrap()])
            .unwrap();
        [web, billing]
    }
}

fn billing() -> ExpectedPeer {
    ExpectedPeer::Id(SpiffeId::parse(BILLING).unwrap())
}

#[test]
fn two_trust_domains_meet_if_each_has_the_other_s_bundle() {
    let two = Two::new();
    let [web, server] = two.processes();
    assert_eq!(
        meet(&web, billing(), &server).unwrap(),
        [WEB, BILLING].map(str::to_owned)
    );
    // A foreign one is no member of the own trust domain.
    for expected in [
        ExpectedPeer::TrustDomainMember,
        ExpectedPeer::Matching(Arc::new(|_| true)),
    ] {
        let refused = meet(&web, expected, &server).unwrap_err();
        assert!(refused.contains("was expected"), "{refused}");
    }
    // Without the bundle of the one, the other does not believe it.
    server.set_foreign_bundles([]).unwrap();
    let refused = meet(&web, billing(), &server).unwrap_err();
    assert!(refused.starts_with("server: "), "{refused}");
    web.set_foreign_bundles([]).unwrap();
    let refused = meet(&web, billing(), &server).unwrap_err();
    assert!(refused.starts_with("client: "), "{refused}");
}

#[test]
fn an_authority_speaks_for_no_other_trust_domain_than_its_own() {
    let two = Two::new();
    let [web, server] = two.processes();
    // The partner's authority signs an ID of the shop, and the shop's one of the partner. Each is a known authority.
    let impostor = IdentityStore::new(two.shop.bundle().unwrap());
    impostor
        .set_foreign_bundles([two.partner.bundle().unwrap()])
        .unwrap();
    let (svid, key) = two.partner.svid(&id("web"), validity()).unwrap();
    impostor.set_svid(svid, key).unwrap();
    let refused = meet(&impostor, billing(), &server).unwrap_err();
    assert!(refused.starts_with("server: "), "{refused}");

    let impostor = IdentityStore::new(two.partner.bundle().unwrap());
    impostor
        .set_foreign_bundles([two.shop.bundle().unwrap()])
        .unwrap();
    let billing_id = SpiffeId::parse(BILLING).unwrap();
    let (svid, key) = two.shop.svid(&billing_id, validity()).unwrap();
    impostor.set_svid(svid, key).unwrap();
    let refused = meet(&web, billing(), &impostor).unwrap_err();
    assert!(refused.starts_with("client: "), "{refused}");

    // The store says the same of what it is shown.
    for (store, authority, id) in [
        (&web, &two.shop, BILLING),
        (&web, &two.partner, WEB),
        (&server, &two.shop, BILLING),
        (&server, &two.partner, WEB),
    ] {
        let id = SpiffeId::parse(id).unwrap();
        let (svid, _) = authority.svid(&id, validity()).unwrap();
        let refused = store.verify(&svid, start()).unwrap_err();
        assert!(
            matches!(refused, SvidError::UnknownAuthority { .. }),
            "{refused}"
        );
    }
}
