//! One module a command. A command opens what it needs, does its work, prints its result, and says how it ended.

mod config;
mod enqueue;
mod import;
mod manual;
mod run;
mod stats;

pub(crate) use config::{check as config_check, show as config_show};
pub(crate) use enqueue::enqueue;
pub(crate) use import::import;
pub(crate) use manual::{completions, man, reference};
pub(crate) use run::run;
pub(crate) use stats::stats;
