//! Any text, as a condition.
#![no_main]

use countersign_policy::laws::any_condition;

libfuzzer_sys::fuzz_target!(|text: &str| any_condition(text));
