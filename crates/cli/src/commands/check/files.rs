//! The files of finished jobs, and parts that nobody needs any more.

use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use longhaul_pipeline::{FileState, Leftover, OutputFolder};
use longhaul_queue_core::{JobFilter, JobId, JobPage, JobRecord, JobState};
use longhaul_worker::ended_from_record;
use serde::Serialize;

use super::{Finding, Report};
use crate::args::CheckArgs;
use crate::output::{Console, bytes, count, number_of};
use crate::store::Store;

/// How many jobs are read at once.
const PAGE: usize = 500;

/// How many files there are.
#[derive(Debug, Default, Serialize)]
pub(super) struct Files {
    /// Compared with what was recorded.
    pub(super) compared: u64,
    /// Waiting for their final names; the next run gives them.
    pub(super) unpublished: u64,
    /// In other output folders, which are not looked at here.
    pub(super) elsewhere: u64,
}

impl Files {
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} compared", number_of(self.compared, "file", "files"));
        if self.unpublished > 0 {
            text = format!("{text}; {} not published yet, which the next run does", count(self.unpublished));
        }
        if self.elsewhere > 0 {
            let folders = "in other folders; check them with --output-dir";
            text = format!("{text}; {} {folders}", count(self.elsewhere));
        }
        text + "\n"
    }
}

/// Compares files with what was recorded of them, and looks for parts that were left over.
pub(super) async fn check(
    store: &Store,
    args: &CheckArgs,
    console: &Console,
    report: &mut Report,
) -> Result<()> {
    let folder = OutputFolder::look(&args.output_dir)
        .with_context(|| format!("the output folder {} cannot be read", args.output_dir.display()))?;
    let Some(folder) = folder.map(Arc::new) else {
        // Not to look is fine only if there is nothing to look at.
        if has_files(store).await? {
            let folder = args.output_dir.display();
            let problem = format!(
                "files: none was compared, because {folder} is no output folder of a run on this machine; name the right one \
                 with --output-dir"
            );
            report.findings.push(Finding::new(problem, None));
        }
        return Ok(());
    };
    let bar = (console.is_terminal() && !console.is_quiet()).then(ProgressBar::new_spinner);
    if let Some(bar) = &bar {
        console.show_bar(bar.clone());
    }
    let mut files = Files::default();
    let filter = JobFilter { state: Some(JobState::Done), ..JobFilter::default() };
    let mut after = None;
    loop {
        let jobs = store.admin.list(&filter, JobPage { after, limit: PAGE }).await?;
        let Some(last) = jobs.last() else { break };
        after = Some(last.id);
        for (job, state) in compare(&folder, jobs, args.fast, &mut files).await? {
            damaged(store, &folder, args.repair, &job, &state, report).await?;
        }
        if let Some(bar) = &bar {
            bar.set_message(format!("{} files compared", count(files.compared)));
            bar.tick();
        }
    }
    console.hide_bar();
    leftovers(store, &folder, args.repair, report).await?;
    report.files = Some(files);
    Ok(())
}

/// Whether any job has recorded a file.
async fn has_files(store: &Store) -> Result<bool> {
    let filter = JobFilter { state: Some(JobState::Done), ..JobFilter::default() };
    let mut after = None;
    loop {
        let jobs = store.admin.list(&filter, JobPage { after, limit: PAGE }).await?;
        let Some(last) = jobs.last() else { return Ok(false) };
        after = Some(last.id);
        if jobs.iter().any(|job| job.path.is_some()) {
            return Ok(true);
        }
    }
}

/// Compares a page of files off the runtime's threads. Returns those that are not what they should be.
async fn compare(
    folder: &Arc<OutputFolder>,
    jobs: Vec<JobRecord>,
    fast: bool,
    files: &mut Files,
) -> Result<Vec<(JobRecord, FileState)>> {
    let mut ours = Vec::new();
    for job in jobs.into_iter().filter(|job| job.path.is_some()) {
        match &job.store {
            Some(store) if store.0 != folder.id() => files.elsewhere += 1,
            _ if !job.published => files.unpublished += 1,
            _ => ours.push(job),
        }
    }
    files.compared += ours.len() as u64;
    let folder = Arc::clone(folder);
    let compared = tokio::task::spawn_blocking(move || {
        let mut damaged = Vec::new();
        for job in ours {
            let length =
                ended_from_record(&job).ok().and_then(|ended| ended.fetched?.file).map(|file| file.bytes);
            let digest = job.sha256.as_deref().filter(|_| !fast);
            let path = job.path.as_deref().unwrap_or_default();
            let state = match folder.compare(path, length, digest) {
                Ok(state) => state,
                Err(error) => FileState::Altered(format!("it cannot be read: {error}")),
            };
            if state != FileState::Whole {
                damaged.push((job, state));
            }
        }
        damaged
    });
    Ok(compared.await?)
}

/// A file that is not what was recorded. Its job is queued again, if that is asked for and possible.
async fn damaged(
    store: &Store,
    folder: &Arc<OutputFolder>,
    repair: bool,
    job: &JobRecord,
    state: &FileState,
    report: &mut Report,
) -> Result<()> {
    // It may have been fetched anew while the files were compared.
    let now = store.admin.get(&job.artifact_id).await?;
    if now.is_none_or(|(now, _)| (now.state, now.fence) != (job.state, job.fence)) {
        return Ok(());
    }
    let path = job.path.as_deref().unwrap_or_default();
    let what = match state {
        FileState::Altered(how) => format!("is altered: {how}"),
        FileState::Missing | FileState::Whole => "is missing".to_owned(),
    };
    let problem = format!("files: {path} of {} {what}", job.artifact_id);
    let mended = match repair {
        false => None,
        true if job.slim => Some(Err("its job was pruned and cannot run again".to_owned())),
        true => Some(fetch_again(store, folder, job, state).await?),
    };
    report.findings.push(Finding::new(problem, mended));
    Ok(())
}

/// Puts the job of a damaged file back into the queue, and the file out of its way. Returns what was done, or why nothing was.
async fn fetch_again(
    store: &Store,
    folder: &Arc<OutputFolder>,
    job: &JobRecord,
    state: &FileState,
) -> Result<Result<String, String>> {
    if store.admin.requeue(std::slice::from_ref(&job.artifact_id)).await? == 0 {
        return Ok(Err("its job has changed meanwhile; check again".to_owned()));
    }
    let kept = match state {
        FileState::Altered(_) => set_aside(folder, job.path.as_deref().unwrap_or_default()).await?,
        FileState::Missing | FileState::Whole => String::new(),
    };
    Ok(Ok(format!("job {} is queued again, and the next run fetches it{kept}", job.id)))
}

/// Keeps what lies under the name, which the fresh copy needs. It may be what somebody has made of the file, so it is not
/// removed; what became of it is said.
async fn set_aside(folder: &Arc<OutputFolder>, path: &str) -> Result<String> {
    let (there, name) = (Arc::clone(folder), path.to_owned());
    let moved = tokio::task::spawn_blocking(move || there.set_aside(&name)).await?;
    Ok(match moved {
        Ok(Some(name)) => format!("; what lay there is kept as {name}"),
        Ok(None) => String::new(),
        Err(error) => {
            format!("; what lies there could not be renamed ({error}), so the fresh copy gets another name")
        }
    })
}

/// Parts that no process holds and no job needs.
async fn leftovers(
    store: &Store,
    folder: &Arc<OutputFolder>,
    repair: bool,
    report: &mut Report,
) -> Result<()> {
    let (there, queue) = (Arc::clone(folder), store.id.clone());
    let parts = tokio::task::spawn_blocking(move || there.leftovers(&queue)).await?;
    for part in parts.context("the folder of the parts cannot be read")? {
        if is_needed(store, &part).await? {
            continue;
        }
        let problem = format!("parts: {} ({}) was left over", part.path.display(), bytes(part.bytes));
        let mended = if repair {
            let there = Arc::clone(folder);
            Some(match tokio::task::spawn_blocking(move || there.remove(&part)).await? {
                Ok(true) => Ok("removed".to_owned()),
                Ok(false) => Ok("gone already".to_owned()),
                Err(error) => Err(format!("it cannot be removed: {error}")),
            })
        } else {
            None
        };
        report.findings.push(Finding::new(problem, mended));
    }
    Ok(())
}

/// Whether the part's job goes on with it, or has not given it its final name yet.
async fn is_needed(store: &Store, part: &Leftover) -> Result<bool> {
    let page = JobPage { after: Some(JobId(part.job - 1)), limit: 1 };
    let found = store.admin.list(&JobFilter::default(), page).await?;
    let Some(job) = found.first().filter(|job| job.id.0 == part.job) else { return Ok(false) };
    Ok(match job.state {
        JobState::InProgress => true,
        JobState::Queued => job.checkpoint.is_some(),
        JobState::Done | JobState::Skipped | JobState::Error => !job.published,
    })
}
