//! Benchmarks; see `--help`.
fn main() {}
