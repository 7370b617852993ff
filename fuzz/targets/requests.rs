//! Any bytes, as the certification request of a stranger.
#![no_main]

use countersign_ca::laws::any_request;

libfuzzer_sys::fuzz_target!(|der: &[u8]| any_request(der));
