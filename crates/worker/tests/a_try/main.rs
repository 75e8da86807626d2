//! One try, from its lease to what the queue is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod admission;
mod support;
mod verdicts;
