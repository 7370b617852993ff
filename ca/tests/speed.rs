//! How long a CA takes to start: `make bench-ca`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a measurement that fails should fail where it stands, and show what it found"
)]

mod support;

use std::time::Instant;

use serde_json::json;
use support::client::{ask, jwt, request};
use support::{Ca, Home, Issuer};

const ROUNDS: usize = 15;

#[tokio::test]
#[ignore = "measures: make bench-ca"]
async fn from_start_to_first_issuance() {
    let issuer = Issuer::start();
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let home = Home::new(&issuer.config());
        for times in [&mut first, &mut later] {
            let start = Instant::now();
            let ca = Ca::start(&home);
            ask(&ca, &home, request(jwt(issuer.token(&json!({})))))
                .await
                .unwrap();
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            ca.kill();
        }
    }
    for (name, mut times) in [("first", first), ("later", later)] {
        times.sort_by(f64::total_cmp);
        println!(
            "{name} start to first certificate: median {:.0} ms, most {:.0} ms of {ROUNDS}",
            times[ROUNDS / 2],
            times[ROUNDS - 1]
        );
    }
}
