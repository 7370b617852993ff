//! Any text, read as documents of Istio.
#![no_main]

use countersign_policy::istio::laws::any_text;

libfuzzer_sys::fuzz_target!(|text: &str| any_text(text));
