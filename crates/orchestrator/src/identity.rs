//! Who this process is to the queue.

use longhaul_queue_core::{LaneRules, StatedLimits, StoreId, WorkerId, WorkerInfo};

/// A process with a fresh random id, whose files belong to `store` and whose requests carry `rules`.
pub(crate) fn this_process(store: Option<StoreId>, rules: &LaneRules) -> WorkerInfo {
    WorkerInfo {
        id: WorkerId::random(),
        host: host_name(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store,
        limits: Some(StatedLimits::from(rules)),
    }
}

/// The machine's name, for people; nothing is decided by it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
