//! What a try learned about hosts although its lease was lost.
//!
//! The job is somebody else's and stays as it is (INV-FENCE), and the store takes no reports of a lost settlement: it
//! cannot tell a late one from one that was reported already. A host that asked for quiet said so all the same, and
//! closing its lane twice does no harm.

use std::sync::Arc;
use std::time::Duration;

use longhaul_events::Event;
use longhaul_queue_core::LaneReport;

use crate::shared::Shared;

/// The closure by a host that did not say for how long: the penalty box' first.
const UNSAID: Duration = Duration::from_mins(1);
/// No host closes its lane for longer.
const LONGEST: Duration = Duration::from_hours(24);

/// Closes the lanes of hosts that asked for quiet (INV-COOLDOWN).
pub(crate) async fn close_lanes(shared: Arc<Shared>, reports: Vec<LaneReport>) {
    for report in reports {
        let LaneReport::Throttled { lane, retry_after, cause } = report else { continue };
        if lane.is_none() {
            continue;
        }
        let length = retry_after.filter(|length| !length.is_zero()).unwrap_or(UNSAID).min(LONGEST);
        match shared.persist(|| shared.admin.close(&lane, length, &cause)).await {
            Ok(()) => shared.emit(&Event::LaneClosed { lane, retry_after: Some(length), cause }),
            Err(error) => {
                tracing::error!(%error, %lane, "the host asked for quiet, and its lane cannot be closed");
            }
        }
    }
}
