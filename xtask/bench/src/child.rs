//! Another process on the queue: enqueues one job for each line of stdin and says when it called.

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use anyhow::Result;
use longhaul_queue_core::{ArtifactId, NewJob, WorkQueueExt as _};

use crate::{machine, ours};

pub(crate) async fn run(path: &Path) -> Result<()> {
    let queue = ours::open(path, true).await?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let id = ArtifactId::new(line?)?;
        let called = machine::now();
        queue.enqueue_one(NewJob::new(id, "{}")).await?;
        writeln!(out, "{}", called.as_nanos())?;
        out.flush()?;
    }
    Ok(())
}
