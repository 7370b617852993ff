//! When a child is ready.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::http_client;
use crate::output::printable;
use crate::up::process::{Ending, Process};

/// How often is looked whether a child is ready.
const GLANCE: Duration = Duration::from_millis(25);

/// What makes a child ready.
#[derive(Clone, Debug)]
pub(crate) enum ReadyWhen {
    /// `GET /ready` at its operator endpoint is answered with 200.
    Says(SocketAddr),
    /// It listens on all of these.
    Listens(Vec<SocketAddr>),
}

/// What came of waiting.
pub(super) enum Outcome {
    Ready,
    Ended(Ending),
    /// The time is over.
    Late {
        missing: String,
    },
}

/// Waits until a child is ready, has ended, or has used up its time.
pub(super) async fn wait_until_ready(
    process: &mut Process,
    ready: &ReadyWhen,
    limit: Duration,
) -> Outcome {
    let mut missing = String::new();
    tokio::select! {
        // A child that has ended is not ready, whoever answers at its address.
        biased;
        ending = process.ended() => return Outcome::Ended(ending),
        () = until_nothing_is_missing(ready, &mut missing) => return Outcome::Ready,
        () = tokio::time::sleep(limit) => {}
    }
    Outcome::Late { missing }
}

async fn until_nothing_is_missing(ready: &ReadyWhen, missing: &mut String) {
    let mut glances = tokio::time::interval(GLANCE);
    glances.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        glances.tick().await;
        match ready.missing().await {
            None => return,
            Some(now) => *missing = now,
        }
    }
}

impl ReadyWhen {
    /// What is missing, for people.
    async fn missing(&self) -> Option<String> {
        match self {
            Self::Says(address) => match http_client::get(*address, "/ready").await {
                Ok(answer) if answer.status.is_success() => None,
                Ok(answer) => {
                    let text = String::from_utf8_lossy(&answer.body);
                    Some(printable(text.trim()).into_owned())
                }
                Err(_) => Some(format!("its operator endpoint {address} does not answer")),
            },
            Self::Listens(addresses) => {
                for address in addresses {
                    if TcpStream::connect(address).await.is_err() {
                        return Some(format!("nobody listens on {address}"));
                    }
                }
                None
            }
        }
    }
}
