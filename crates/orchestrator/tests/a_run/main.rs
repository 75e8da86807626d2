//! Whole runs, on a queue in memory and on virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod alone;
mod budgets;
mod calendar;
mod critical;
mod draining;
mod faults;
mod flaky;
mod jobs;
mod leases;
mod observers;
mod publishing;
mod stopping;
mod store;
mod support;
