//! Any text, as the path of a request and as a pattern of paths.
#![no_main]

use countersign_policy::laws::any_path;

libfuzzer_sys::fuzz_target!(|text: &str| any_path(text));
