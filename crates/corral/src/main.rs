//! The one binary: `corral up` is the gateway, everything else its client.

fn main() {}
