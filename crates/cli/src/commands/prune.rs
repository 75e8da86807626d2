//! `longhaul queue prune`.

use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::JobState;
use serde::Serialize;

use crate::args::{Format, Global, PruneArgs};
use crate::exit::Exit;
use crate::output::{Console, duration, number_of, print_data};
use crate::store::Store;

/// What is pruned if nobody says what: what failed may be tried again.
const USUAL: [JobState; 2] = [JobState::Done, JobState::Skipped];

/// Forgets the details of jobs that ended long ago.
pub(crate) async fn prune(
    global: &Global,
    args: PruneArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, clock).await?;
    let mut states = if args.state.is_empty() { USUAL.to_vec() } else { args.state };
    states.sort_unstable();
    states.dedup();
    let mut pruned = Pruned { done: 0, skipped: 0, error: 0, total: 0 };
    for state in states {
        let many = store.admin.prune(state, args.older_than).await?;
        pruned.total += many;
        match state {
            JobState::Done => pruned.done = many,
            JobState::Skipped => pruned.skipped = many,
            _ => pruned.error = many,
        }
    }
    print_data(&match args.output.format {
        Format::Json | Format::Jsonl => serde_json::to_string(&pruned)?,
        Format::Table => pruned.text(),
    })?;
    if pruned.total == 0 {
        console.note(&format!("nothing that is meant ended {} ago or earlier", duration(args.older_than)));
    }
    Ok(Exit::Success)
}

/// The documented JSON: how many were pruned.
#[derive(Debug, Serialize)]
struct Pruned {
    done: u64,
    skipped: u64,
    error: u64,
    total: u64,
}

impl Pruned {
    fn text(&self) -> String {
        format!(
            "{} pruned ({} done, {} skipped, {} in error)",
            number_of(self.total, "job", "jobs"),
            self.done,
            self.skipped,
            self.error
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pruned_is_said_by_state() {
        let pruned = Pruned { done: 3, skipped: 1, error: 0, total: 4 };
        assert_eq!(pruned.text(), "4 jobs pruned (3 done, 1 skipped, 0 in error)");
        assert_eq!(serde_json::to_string(&pruned).unwrap(), r#"{"done":3,"skipped":1,"error":0,"total":4}"#);
    }
}
