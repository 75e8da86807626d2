//! A lane that bounds the run is not starved by the turns of many others.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{LaneLimits, LaneRules, Paces};

use crate::support::{Bench, admit, done, lane};

/// Turns alone would serve the slow lane once in five seconds.
#[tokio::test(start_paused = true)]
async fn inv_fair_a_slow_lane_starts_whenever_its_pace_allows() {
    let mut bench = Bench::new(|job, context| {
        Box::pin(async {
            let name = job.artifact_id.trim_end_matches(|c: char| c.is_ascii_digit());
            if let Err(refused) = admit(context, name).await {
                return refused;
            }
            context.clock().sleep(Duration::from_millis(200)).await;
            done()
        })
    });
    let slow = LaneLimits { cap: None, paces: Paces::Shared("1/s".parse().unwrap()) };
    let any = LaneLimits { cap: Some(2), ..LaneLimits::NONE };
    let hosts = [(lane("slow.example"), slow)].into();
    bench.config.rules = Arc::new(LaneRules { any, hosts, ..LaneRules::unlimited() });
    bench.config.workers = 8;
    for host in 0..200 {
        bench.enqueue(&format!("h{host}.example"), 8).await;
    }
    bench.enqueue("slow.example", 40).await;
    let summary = bench.run().await;
    assert_eq!(summary.count("done"), 1_640);
    // The workers need 41 s, the slow lane 39 intervals of 1.1 s.
    assert!(summary.elapsed < Duration::from_secs(44), "{:?}", summary.elapsed);
    bench.assert_tidy().await;
}
