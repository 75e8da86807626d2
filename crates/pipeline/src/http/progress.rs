//! What a try leaves for the next one: the checkpoint.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::range::Validator;
use super::redirect::Hop;
use crate::Reason;

/// The form of the checkpoint. One of another form is not read: the job then begins afresh, which is always right.
const VERSION: u32 = 1;

/// How far a job has got, over its tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    version: u32,
    /// What the resolvers proposed.
    pub(super) plans: Vec<Planned>,
    /// Where the next request goes, if that is not the beginning of a plan.
    pub(super) at: Option<Hop>,
    /// Moves since the last request that was answered.
    pub(super) moves: u32,
    /// Requests of this try, moves included.
    pub(super) requests: u32,
    /// A part that may be continued.
    pub(super) partial: Option<Partial>,
}

/// A plan and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// Set when it will not work next time either.
    pub(super) fate: Option<Fate>,
    /// Whether this try has gone back to its beginning, which it does once.
    pub(super) restarted: bool,
    /// Whether this try has followed it in vain.
    #[serde(skip)]
    pub(super) tried: bool,
}

/// Why a plan is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fate {
    pub(super) end: PlanEnd,
    pub(super) reason: Reason,
    pub(super) detail: String,
}

/// How a plan ended, if not with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PlanEnd {
    /// The host says that it does not exist.
    Gone,
    /// Policy forbids it.
    Refused,
    /// What came is not what was asked for.
    Failed,
}

/// The first bytes of a file on this machine's disk, and what is needed to ask for the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partial {
    /// The store that the part is in; another machine has no use for it.
    pub(super) store: String,
    /// The part's name there.
    pub(super) part: String,
    /// How many of its bytes were on the disk when this was written.
    pub(super) bytes: u64,
    /// Which version they are of.
    pub(super) validator: Validator,
    /// Where they came from.
    pub(super) hop: Hop,
}

impl Progress {
    /// The beginning of a job.
    pub(super) fn new(plans: Vec<Plan>) -> Self {
        let planned = |plan| Planned { plan, fate: None, restarted: false, tried: false };
        let plans = plans.into_iter().map(planned).collect();
        Self { version: VERSION, plans, at: None, moves: 0, requests: 0, partial: None }
    }

    /// Reads a checkpoint; `None` if it is not one of ours.
    pub(super) fn read(checkpoint: &str) -> Option<Self> {
        let progress: Self = serde_json::from_str(checkpoint).ok()?;
        let known = |hop: &Hop| hop.plan < progress.plans.len();
        let whole = progress.version == VERSION
            && progress.at.as_ref().is_none_or(known)
            && progress.partial.as_ref().is_none_or(|partial| known(&partial.hop));
        whole.then_some(progress)
    }

    /// What the same try goes on with when it has moved.
    pub(super) fn write(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// What the next try begins with: its counts start again, and it goes on where the part came from, if there is
    /// one, or at `at`.
    pub(super) fn write_for_next_try(&self, at: Option<Hop>) -> Option<String> {
        let at = self.partial.as_ref().map(|partial| partial.hop.clone()).or(at).map(Hop::aged);
        let mut next = Self { at, moves: 0, requests: 0, ..self.clone() };
        next.plans.iter_mut().for_each(|planned| planned.restarted = false);
        next.write()
    }

    /// The next plan that may still work and has not been followed in this try.
    pub(super) fn next_plan(&self) -> Option<(usize, &Plan)> {
        let open = |planned: &&Planned| planned.fate.is_none() && !planned.tried;
        let index = self.plans.iter().position(|planned| open(&planned))?;
        Some((index, &self.plans[index].plan))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use longhaul_limiter::Role;
    use url::Url;

    use super::*;
    use crate::Expect;

    fn plan(url: &str) -> Plan {
        Plan {
            url: Url::parse(url).unwrap(),
            resolver: "direct".to_owned(),
            order: 0,
            role: Role::Artifact,
            referer: None,
            expect: Expect::Pdf,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut progress = Progress::new(vec![plan("https://a.example/"), plan("https://b.example/")]);
        progress.plans[0].fate =
            Some(Fate { end: PlanEnd::Gone, reason: Reason::Gone, detail: "404".to_owned() });
        let hop = Hop::start(1, &progress.plans[1].plan);
        progress.at = Some(hop.redirected(Some("/x"), 10).unwrap());
        (progress.moves, progress.requests) = (3, 5);
        progress.partial = Some(Partial {
            store: "s".to_owned(),
            part: "1.part".to_owned(),
            bytes: 70_000,
            validator: Validator::Etag("\"x\"".to_owned()),
            hop,
        });
        assert_eq!(Progress::read(&progress.write().unwrap()), Some(progress.clone()));
        assert_eq!(progress.next_plan().unwrap().0, 1);

        let next = Progress::read(&progress.write_for_next_try(None).unwrap()).unwrap();
        assert_eq!((next.moves, next.requests), (0, 0));
        assert_eq!(next.at.unwrap().url.as_str(), "https://b.example/");
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let other = |change: fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(Progress::new(vec![plan("https://a.example/")])).unwrap();
            change(&mut value);
            Progress::read(&value.to_string())
        };
        assert!(other(|_| {}).is_some());
        assert_eq!(other(|value| value["version"] = 2.into()), None);
        let stray = serde_json::to_value(Hop::start(7, &plan("https://a.example/"))).unwrap();
        let text = serde_json::json!({
            "version": 1, "plans": [], "at": stray, "moves": 0, "requests": 0, "partial": null,
        });
        assert_eq!(Progress::read(&text.to_string()), None);
        assert_eq!(Progress::read("not json"), None);
    }
}
