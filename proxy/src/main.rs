//! `countersign-proxy`: the sidecar.

fn main() {}
