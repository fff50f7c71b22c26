//! House rules as tests: `cargo xtask tidy`.

fn main() {}
