//! Listening sockets.

use std::io;
use std::time::Duration;

/// After a failed `accept`: a connection that broke before it was taken needs no pause; a lack of descriptors or memory
/// does, or the loop would spin until it is over.
pub(crate) async fn pause_after(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections; trying again");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
