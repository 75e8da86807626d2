//! The test origin as a process of its own, beside the tests that start it.
#![allow(clippy::unwrap_used, reason = "a test's process fails by panicking")]

fn main() {
    longhaul_origin::run_program(std::env::args().skip(1)).unwrap();
}
