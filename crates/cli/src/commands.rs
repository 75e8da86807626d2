//! One module a command. A command opens what it needs, does its work, prints its result, and says how it ended.

mod enqueue;
mod import;
mod run;
mod stats;

pub(crate) use enqueue::enqueue;
pub(crate) use import::import;
pub(crate) use run::run;
pub(crate) use stats::stats;
