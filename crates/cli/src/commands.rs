//! One module a command. A command opens what it needs, does its work, prints its result, and says how it ended.

mod check;
mod config;
mod counted;
mod enqueue;
mod explain;
mod import;
mod jobs;
mod lanes;
mod list;
mod manual;
mod pace_shown;
mod pause;
mod prune;
mod requeue;
mod retry_failed;
mod run;
mod show;
mod stats;
mod workers;

pub(crate) use check::check;
pub(crate) use config::{check as config_check, show as config_show};
pub(crate) use enqueue::enqueue;
pub(crate) use explain::explain;
pub(crate) use import::import;
pub(crate) use lanes::lanes;
pub(crate) use list::list;
pub(crate) use manual::{completions, man, reference};
pub(crate) use pause::{pause, resume};
pub(crate) use prune::prune;
pub(crate) use requeue::{cancel, requeue};
pub(crate) use retry_failed::retry_failed;
pub(crate) use run::run;
pub(crate) use show::show;
pub(crate) use stats::stats;
pub(crate) use workers::workers;
