//! A pipeline made from a closure, for work that is not HTTP.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;

use crate::{Context, Ended, Job, Outcome, Pipeline, PublishError, RunResult};

/// What the closure returns.
type Work<'a> = Pin<Box<dyn Future<Output = RunResult> + Send + 'a>>;

/// Runs a closure for each job. There are no files, so publishing, discarding and renaming do nothing.
///
/// What the closure does presses on nobody that the queue knows of, unless it asks [`Context::admit`] itself.
///
/// ```
/// use longhaul_pipeline::{FnPipeline, Fetched, Outcome, Reason};
///
/// let pipeline = FnPipeline::new(|job, _context| {
///     Box::pin(async move {
///         let detail = format!("{} is not worth it", job.artifact_id);
///         Outcome::Skipped { reason: Reason::PolicyType, detail }.into()
///     })
/// });
/// # let _ = pipeline;
/// ```
pub struct FnPipeline<F> {
    work: F,
}

impl<F> FnPipeline<F>
where
    F: for<'a> Fn(&'a Job, &'a dyn Context) -> Work<'a> + Send + Sync + 'static,
{
    /// A pipeline that does this for each job. The future is boxed, because closures whose future borrows their
    /// arguments cannot be named otherwise.
    pub fn new(work: F) -> Self {
        Self { work }
    }
}

impl<F> fmt::Debug for FnPipeline<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnPipeline").finish_non_exhaustive()
    }
}

#[async_trait]
impl<F> Pipeline for FnPipeline<F>
where
    F: for<'a> Fn(&'a Job, &'a dyn Context) -> Work<'a> + Send + Sync + 'static,
{
    async fn run(&self, job: &Job, context: &dyn Context) -> RunResult {
        (self.work)(job, context).await
    }

    async fn publish(&self, ended: &[Ended]) -> Vec<Result<(), PublishError>> {
        ended.iter().map(|_| Ok(())).collect()
    }

    async fn discard(&self, _outcome: &Outcome) {}

    fn rename(&self, _job: &Job, _outcome: &Outcome) -> Option<Outcome> {
        None
    }
}
