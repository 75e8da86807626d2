//! `longhaul queue retry-failed`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::{JobFilter, JobPage, JobState};
use serde::Serialize;

use super::list::filter;
use crate::args::{Format, Global, RetryFailedArgs};
use crate::exit::Exit;
use crate::output::{Console, count, number_of, print_data, table};
use crate::store::Store;

/// How many are read at once.
const PAGE: usize = 500;

/// Gives jobs in error another chance.
pub(crate) async fn retry_failed(
    global: &Global,
    args: RetryFailedArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, clock).await?;
    let filter = JobFilter { state: Some(JobState::Error), ..filter(&store, &args.filter)? };
    let limit = args.limit.unwrap_or(u64::MAX);
    let done = if args.dry_run {
        let reasons = in_error(&store, &filter, limit).await?;
        Done { jobs: reasons.values().sum(), dry_run: true, reasons: Some(reasons) }
    } else {
        let jobs = store.admin.retry_failed(&filter, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
        Done { jobs, dry_run: false, reasons: None }
    };
    print_data(&match args.output.format {
        Format::Json | Format::Jsonl => serde_json::to_string(&done)?,
        Format::Table => done.text(),
    })?;
    if done.jobs == 0 {
        let all = JobFilter { state: Some(JobState::Error), ..JobFilter::default() };
        let there = in_error(&store, &all, u64::MAX).await?;
        let reasons: Vec<String> =
            there.iter().map(|(reason, many)| format!("{reason} {}", count(*many))).collect();
        console.note(&if reasons.is_empty() {
            "no job that could be tried again is in error".to_owned()
        } else {
            format!("in error, by reason: {}", reasons.join(", "))
        });
    } else if !args.dry_run {
        console.note("they go on with `longhaul queue run`");
    }
    Ok(Exit::Success)
}

/// Jobs in error that can be tried again, by reason.
async fn in_error(store: &Store, filter: &JobFilter, limit: u64) -> Result<BTreeMap<String, u64>> {
    let mut reasons = BTreeMap::new();
    let (mut after, mut left) = (None, limit);
    loop {
        let jobs = store.admin.list(filter, JobPage { after, limit: PAGE }).await?;
        let Some(last) = jobs.last() else { return Ok(reasons) };
        after = Some(last.id);
        for job in jobs.iter().filter(|job| !job.slim) {
            if left == 0 {
                return Ok(reasons);
            }
            left -= 1;
            *reasons.entry(job.reason.clone().unwrap_or_default()).or_default() += 1;
        }
    }
}

/// The documented JSON. `reasons` is `null` unless it was a dry run.
#[derive(Debug, Serialize)]
struct Done {
    jobs: u64,
    dry_run: bool,
    reasons: Option<BTreeMap<String, u64>>,
}

impl Done {
    fn text(&self) -> String {
        let jobs = number_of(self.jobs, "job", "jobs");
        if !self.dry_run {
            return format!("{jobs} in error queued again, with fresh attempts");
        }
        let mut text = format!("{jobs} in error would be queued again; nothing was changed\n");
        let reasons = self.reasons.iter().flatten();
        let rows: Vec<(&str, String)> =
            reasons.map(|(reason, many)| (reason.as_str(), count(*many))).collect();
        text.push_str(&table(&rows));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_what_it_would_be() {
        let reasons = BTreeMap::from([("gone".to_owned(), 3), ("http-status".to_owned(), 1_200)]);
        let done = Done { jobs: 1_203, dry_run: true, reasons: Some(reasons) };
        insta::assert_snapshot!(done.text());
        insta::assert_snapshot!(serde_json::to_string(&done).unwrap());
        let done = Done { jobs: 1, dry_run: false, reasons: None };
        assert_eq!(done.text(), "1 job in error queued again, with fresh attempts");
    }
}
