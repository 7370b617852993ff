//! Any stream of responses, cut anyhow; the first three bytes say where, and to which requests.
#![no_main]

use countersign_proxy::http1::{RequestSummary, check::any_responses};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(([first, second, request], stream)) = input.split_first_chunk() {
        let request = RequestSummary {
            head: request & 1 == 1,
            upgrade: request & 2 == 2,
        };
        any_responses(
            stream,
            request,
            &[usize::from(*first), usize::from(*second)],
        );
    }
});
