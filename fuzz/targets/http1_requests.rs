//! Any stream of requests, cut anyhow; the first two bytes say where.
#![no_main]

use countersign_proxy::http1::check::any_requests;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(([first, second], stream)) = input.split_first_chunk() {
        any_requests(stream, &[usize::from(*first), usize::from(*second)]);
    }
});
