//! Any text, as what a trust domain or an issuer has published: a SPIFFE bundle and a JSON Web Key Set.
#![no_main]

use countersign_identity::laws::any_bundle;

libfuzzer_sys::fuzz_target!(|text: &str| any_bundle(text));
