//! Observers that write down what happened, for other programs to read.
//!
//! [`AttemptsFile`] has one line for each request. Nothing here can slow a job down: what cannot be written in time is
//! dropped and counted.

mod attempts;

pub use attempts::AttemptsFile;
