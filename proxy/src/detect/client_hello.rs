//! The server name that a TLS client asks for, read from its ClientHello without taking part in the handshake.

use std::time::Duration;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::ROOM;

/// The content type of a handshake record, which a ClientHello begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// As much is read of a ClientHello. With post-quantum key shares, tickets and GREASE they come to some 2 kB.
const ENOUGH_BYTES: usize = 16 * 1024;

/// The server name (RFC 6066 §3), in lower case, that the TLS client at the beginning of a connection asks for. `buffered`
/// is what was read of the connection; what is missing of the ClientHello is read from `io` and added to it, for at most
/// `patience`.
///
/// `None`: it is no TLS, names no server, or is not understood; also if it takes too long or is too large. With Encrypted
/// Client Hello, the name is the outer one.
pub async fn server_name<R: AsyncRead + Unpin>(
    io: &mut R,
    buffered: &mut BytesMut,
    patience: Duration,
) -> Option<String> {
    if buffered.first() != Some(&HANDSHAKE) {
        return None;
    }
    timeout(patience, read_server_name(io, buffered))
        .await
        .ok()?
}

async fn read_server_name<R: AsyncRead + Unpin>(
    io: &mut R,
    buffered: &mut BytesMut,
) -> Option<String> {
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    loop {
        let mut unseen = buffered.get(seen..)?;
        while !unseen.is_empty() {
            // Takes as much as it has room for, and makes room when it looks at what it has.
            acceptor.read_tls(&mut unseen).ok()?;
            if let Some(accepted) = acceptor.accept().ok()? {
                return accepted.client_hello().server_name().map(str::to_owned);
            }
        }
        seen = buffered.len();
        if seen >= ENOUGH_BYTES {
            return None;
        }
        buffered.reserve(ROOM);
        // Whoever reads on meets the same end or error.
        if io.read_buf(buffered).await.ok()? == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::client::{EchGreaseConfig, EchMode};
    use rustls::crypto::aws_lc_rs::{self, hpke::ALL_SUPPORTED_SUITES};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::time::Instant;

    use super::*;
    use crate::detect::DEFAULT_TIMEOUT;
    use crate::http1::check::Parts;

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(aws_lc_rs::default_provider())
    }

    fn client_config() -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    }

    /// The first flight of a client that asks for `name`.
    fn hello(config: ClientConfig, name: &'static str) -> Vec<u8> {
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake message in records of at most `length` bytes.
    fn fragmented(hello: &[u8], length: usize) -> Vec<u8> {
        let (header, message) = hello.split_at(5);
        let fragments = message.chunks(length).flat_map(|fragment| {
            let length = u16::try_from(fragment.len()).unwrap().to_be_bytes();
            [&header[..3], &length, fragment].concat()
        });
        fragments.collect()
    }

    /// A ClientHello with these extensions.
    fn hello_with(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let sized = |bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            [&length, bytes].concat()
        };
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &sized(data)].concat())
            .collect();
        // Version, random, no session, one cipher suite, no compression.
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &sized(&[0x13, 0x01]),
            &[1, 0],
            &sized(&extensions),
        ]
        .concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        [&[22, 3, 1][..], &sized(&message)].concat()
    }

    /// `server_name` with one host name (RFC 6066 §3).
    fn names(names: &[&str]) -> Vec<u8> {
        let sized = |bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            [&length, bytes].concat()
        };
        let list: Vec<u8> = names
            .iter()
            .flat_map(|name| [&[0][..], &sized(name.as_bytes())].concat())
            .collect();
        sized(&list)
    }

    const ALGORITHMS: (u16, &[u8]) = (13, &[0, 2, 4, 3]);

    async fn read(stream: &[u8], cut: usize) -> Option<String> {
        let (first, rest) = stream.split_at(cut.min(stream.len()));
        let mut buffered = BytesMut::from(first);
        let mut io = Parts::cut(rest, &[cut.max(1)]);
        let name = server_name(&mut io, &mut buffered, DEFAULT_TIMEOUT).await;
        let mut replayed = buffered.to_vec();
        io.read_to_end(&mut replayed).await.unwrap();
        assert!(replayed == stream, "the connection is not as it was");
        name
    }

    #[tokio::test]
    async fn the_name_is_found_however_the_hello_arrives() {
        let hello = hello(client_config(), "Orders.Shop");
        let early_data = [&hello[..], &[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 3, 1, 2, 3]].concat();
        for stream in [
            hello.clone(),
            fragmented(&hello, 100),
            fragmented(&hello, 1),
            early_data,
        ] {
            for cut in [1, 2, 5, 6, 100, 1000, stream.len()] {
                let name = read(&stream, cut).await;
                assert_eq!(name.as_deref(), Some("orders.shop"), "{cut}");
            }
        }
    }

    #[tokio::test]
    async fn grease_is_passed_over_and_of_ech_the_outer_name_counts() {
        let [suite, ..] = ALL_SUPPORTED_SUITES else {
            panic!("a suite");
        };
        let (key, _) = suite.generate_key_pair().unwrap();
        let ech = EchMode::Grease(EchGreaseConfig::new(*suite, key));
        let config = ClientConfig::builder_with_provider(provider())
            .with_ech(ech)
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let outer = hello(config, "outer.shop");
        assert_eq!(read(&outer, 3).await.as_deref(), Some("outer.shop"));

        let name = names(&["orders.shop"]);
        let grease = hello_with(&[(0x0a0a, &[]), (0, &name), ALGORITHMS, (0xfafa, &[0])]);
        assert_eq!(read(&grease, 3).await.as_deref(), Some("orders.shop"));
    }

    #[tokio::test]
    async fn what_names_no_server_in_one_way_names_none() {
        let one = names(&["orders.shop"]);
        for (what, stream) in [
            ("no name", hello_with(&[ALGORITHMS])),
            ("an address", hello(client_config(), "10.0.0.1")),
            (
                "two names",
                hello_with(&[(0, &names(&["a.shop", "b.shop"])), ALGORITHMS]),
            ),
            (
                "two extensions",
                hello_with(&[(0, &one), (0, &one), ALGORITHMS]),
            ),
            (
                "no host name",
                hello_with(&[(0, &names(&["a/b"])), ALGORITHMS]),
            ),
            (
                "another message",
                [&[22, 3, 1, 0, 4, 2, 0, 0, 0][..], &[0; 50]].concat(),
            ),
            ("another record", vec![21, 3, 1, 0, 2, 1, 0]),
            ("another protocol", b"\x16\x00\x01 hello".to_vec()),
            (
                "half of it",
                hello_with(&[(0, &one), ALGORITHMS])[..30].to_vec(),
            ),
            (
                "no end",
                fragmented(
                    &[&[22, 3, 1, 0, 0, 1, 0, 255, 255][..], &[0; 30_000]].concat(),
                    9000,
                ),
            ),
        ] {
            assert_eq!(read(&stream, 7).await, None, "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_dawdles_is_waited_for_no_longer_than_patience() {
        let hello = hello(client_config(), "orders.shop");
        let (mut client, mut server) = tokio::io::duplex(64);
        let dripping = tokio::spawn(async move {
            for byte in hello {
                if tokio::io::AsyncWriteExt::write_all(&mut client, &[byte])
                    .await
                    .is_err()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut buffered = BytesMut::new();
        server.read_buf(&mut buffered).await.unwrap();
        let start = Instant::now();
        assert_eq!(
            server_name(&mut server, &mut buffered, DEFAULT_TIMEOUT).await,
            None
        );
        assert_eq!(start.elapsed(), DEFAULT_TIMEOUT);
        assert_eq!(buffered.first(), Some(&HANDSHAKE));
        dripping.abort();
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_replayed(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..300),
            mangled in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
            real in any::<bool>(),
            cut in 1_usize..400,
        ) {
            if real {
                bytes = hello_with(&[(0, &names(&["orders.shop"])), ALGORITHMS]);
                for (at, byte) in mangled {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes[0] = HANDSHAKE;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _ = runtime.block_on(read(&bytes, cut));
        }
    }
}
