//! Over real sockets: what is replaced in the store concerns the next handshake, and no connection
//! that exists.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream as ClientStream;
use tokio_rustls::server::TlsStream as ServerStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

struct Live {
    client: ClientStream<TcpStream>,
    server: ServerStream<TcpStream>,
}

impl Live {
    async fn connect(pair: &Pair) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accept = async {
            let (tcp, _) = listener.accept().await?;
            TlsAcceptor::from(Arc::clone(&pair.server))
                .accept(tcp)
                .await
        };
        let connect = async {
            let tcp = TcpStream::connect(address).await?;
            TlsConnector::from(Arc::clone(&pair.client))
                .connect(server_name(), tcp)
                .await
        };
        let (server, client) = tokio::join!(accept, connect);
        Ok(Self {
            client: client?,
            server: server?,
        })
    }

    async fn say_something(&mut self) {
        let mut heard = [0; 5];
        self.client.write_all(b"hello").await.unwrap();
        self.server.read_exact(&mut heard).await.unwrap();
        self.server.write_all(&heard).await.unwrap();
        self.client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }

    fn serials(&self, pair: &Pair) -> [String; 2] {
        let expected = ExpectedPeer::TrustDomainMember;
        let now = pair.clock.now();
        let server =
            peer_of_connected(self.client.get_ref().1, &pair.client_store, &expected, now).unwrap();
        let client = peer_of_accepted(self.server.get_ref().1, &pair.server_store, now)
            .unwrap()
            .unwrap();
        [client.serial().to_owned(), server.serial().to_owned()]
    }
}

fn renew(pair: &Pair, authority: &TestAuthority, store: &IdentityStore) -> String {
    let id = store.svid().unwrap().id().clone();
    let now = pair.clock.now();
    let (svid, key) = authority.svid(&id, now - HOUR..=now + HOUR).unwrap();
    let serial = svid.serial().to_owned();
    store.set_svid(svid, key).unwrap();
    serial
}

#[tokio::test]
async fn new_svids_are_presented_while_old_connections_go_on() {
    let pair = Pair::new();
    let mut before = Live::connect(&pair).await.unwrap();
    before.say_something().await;

    let client = renew(&pair, &pair.authority, &pair.client_store);
    let server = renew(&pair, &pair.authority, &pair.server_store);
    let mut after = Live::connect(&pair).await.unwrap();

    assert_eq!(after.serials(&pair), [client, server]);
    assert_ne!(before.serials(&pair), after.serials(&pair));
    after.say_something().await;
    before.say_something().await;
}

#[tokio::test]
async fn a_root_is_replaced_without_a_failed_handshake_or_a_lost_connection() {
    let pair = Pair::new();
    let old = &pair.authority;
    let new = TestAuthority::new(&td()).unwrap();
    let stores = [&pair.client_store, &pair.server_store];
    let mut connections = vec![Live::connect(&pair).await.unwrap()];
    let bundles = [
        vec![old.root().clone(), new.root().clone()],
        vec![new.root().clone()],
    ];

    // Both roots are believed first, by one side and then by the other; then the new one issues;
    // then the old one goes.
    for (sequence, roots) in (2..).zip(bundles) {
        for store in stores {
            let bundle = Bundle::new(td(), roots.clone(), sequence).unwrap();
            assert_eq!(store.set_bundle(bundle), Ok(true));
            connections.push(Live::connect(&pair).await.unwrap());
        }
        if sequence == 2 {
            for store in stores {
                renew(&pair, &new, store);
                connections.push(Live::connect(&pair).await.unwrap());
            }
        }
    }
    for connection in &mut connections {
        connection.say_something().await;
    }
    // What the old root has signed is believed no more.
    renew(&pair, old, &pair.client_store);
    let refused = Live::connect(&pair).await;
    assert!(refused.is_err());
}
