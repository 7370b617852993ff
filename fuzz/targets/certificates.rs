//! Any bytes, as the certificate of a peer.
#![no_main]

use countersign_identity::laws::any_certificate;

libfuzzer_sys::fuzz_target!(|der: &[u8]| any_certificate(der));
