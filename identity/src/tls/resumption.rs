//! Sessions for resumption, forgotten when the identity that they rest on is replaced.
//!
//! This is not what makes resumption safe; that is verifying the peer after every handshake. It is
//! what makes it smooth: a session that carries an old certificate, or that the new bundle no
//! longer vouches for, is not even tried, and the handshake is a full one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use rustls_pki_types::ServerName;

use crate::store::IdentityStore;

/// How many sessions a client keeps: about as many as it has connections to one server.
const CLIENT_SESSIONS: usize = 8;
/// How many sessions a server keeps, of 1 to 2 KiB each.
const SERVER_SESSIONS: usize = 256;

/// The sessions of one client configuration, and so with servers of one expectation.
pub(super) struct ClientSessions {
    store: Arc<IdentityStore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    generation: u64,
    group: Option<NamedGroup>,
    sessions: VecDeque<Tls13ClientSessionValue>,
}

impl ClientSessions {
    pub(super) fn new(store: Arc<IdentityStore>) -> Self {
        Self {
            store,
            kept: Mutex::default(),
        }
    }

    /// What is kept, without what has become stale.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        let generation = self.store.generation();
        // Nothing below leaves it half changed, so that a panic elsewhere is no reason to stop.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            kept.generation = generation;
            kept.sessions.clear();
        }
        kept
    }
}

impl ClientSessionStore for ClientSessions {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _session: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, session: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        if kept.sessions.len() >= CLIENT_SESSIONS {
            kept.sessions.pop_front();
        }
        kept.sessions.push_back(session);
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        // The newest has the longest to live. Each is used once (RFC 8446 appendix C.4).
        self.kept().sessions.pop_back()
    }
}

impl fmt::Debug for ClientSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSessions")
    }
}

/// The sessions of one server configuration.
pub(super) struct ServerSessions {
    store: Arc<IdentityStore>,
    cache: Arc<ServerSessionMemoryCache>,
}

impl ServerSessions {
    pub(super) fn new(store: Arc<IdentityStore>) -> Self {
        Self {
            store,
            cache: ServerSessionMemoryCache::new(SERVER_SESSIONS),
        }
    }

    /// The session without the generation in front of it, if that is the current one.
    fn current(&self, stored: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let stored = stored?;
        let session = stored.strip_prefix(&self.store.generation().to_be_bytes())?;
        Some(session.to_vec())
    }
}

impl StoresServerSessions for ServerSessions {
    fn put(&self, key: Vec<u8>, session: Vec<u8>) -> bool {
        let mut stored = self.store.generation().to_be_bytes().to_vec();
        stored.extend_from_slice(&session);
        self.cache.put(key, stored)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current(self.cache.get(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current(self.cache.take(key))
    }

    fn can_cache(&self) -> bool {
        self.cache.can_cache()
    }
}

impl fmt::Debug for ServerSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSessions")
    }
}
