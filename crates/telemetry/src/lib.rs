//! Observers that write down what happened, for other programs and for people to read.
//!
//! [`AttemptsFile`] has one line for each request; [`RunReport`] becomes the report of a run. Nothing here can slow a
//! job down: what cannot be written in time is dropped and counted.

mod attempts;
pub mod human;
mod report;

pub use attempts::{AttemptsEnd, AttemptsFile, AttemptsOptions, Repair};
pub use report::{
    EndedRun, HostRow, Hosts, Jobs, Left, OtherHosts, OutcomeRow, Progress, ProgressBucket, Report,
    ReportFiles, ReportTarget, Requests, RunEnding, RunReport, Tries, Waited,
};
