//! Any text, read as policy, compiled, and asked.
#![no_main]

use countersign_policy::laws::any_policy;

libfuzzer_sys::fuzz_target!(|text: &str| any_policy(text));
