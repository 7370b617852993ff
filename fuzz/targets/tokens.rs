//! Any text, as a token.
#![no_main]

use countersign_identity::laws::any_token;

libfuzzer_sys::fuzz_target!(|text: &str| any_token(text));
