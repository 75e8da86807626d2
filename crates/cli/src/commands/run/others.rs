//! Says when another process on the queue has other limits than this one. It changes nothing: each goes by its own.

use std::collections::BTreeSet;

use longhaul_queue_core::{StatedLimits, WorkerId, WorkerRow};

use crate::output::{Console, number_of};

/// So many differences are named.
const NAMED: usize = 3;

/// The other processes as far as they were looked at.
#[derive(Debug)]
pub(super) struct Others {
    own: WorkerId,
    limits: StatedLimits,
    /// The log is for programs: what is said to people is not in it by itself.
    log_apart: bool,
    /// What the living others were found to have. Each is said once, whoever has it.
    told: BTreeSet<StatedLimits>,
}

/// That a process has other limits.
#[derive(Debug, PartialEq, Eq)]
struct Differs {
    host: String,
    pid: u32,
    /// So many more have the same as that one.
    more: u64,
    what: String,
}

impl Others {
    /// Those beside the process `own`, which has these limits.
    pub(super) fn new(own: WorkerId, limits: StatedLimits, log_apart: bool) -> Self {
        Self { own, limits, log_apart, told: BTreeSet::new() }
    }

    /// Warns of those whose limits differ in a way that was not said yet. `rows` are all worker processes.
    pub(super) fn look(&mut self, rows: &[WorkerRow], console: &Console) {
        for differs in self.news(rows) {
            let Differs { host, pid, more, what } = &differs;
            // Where the log is for people too it is this very stream, and twice would be once too often.
            if self.log_apart {
                tracing::warn!(%host, pid, more, differs = %what, "another process on this queue has other limits");
            }
            console.warn(&differs.sentence());
        }
    }

    fn news(&mut self, rows: &[WorkerRow]) -> Vec<Differs> {
        let others: Vec<(&WorkerRow, &StatedLimits)> = rows
            .iter()
            .filter(|row| row.alive && row.id != self.own)
            .filter_map(|row| Some((row, row.limits.as_ref()?)))
            .filter(|(_, limits)| **limits != self.limits)
            .collect();
        // What nobody has any more would be news again, and memory does not grow with all who ever came.
        self.told.retain(|told| others.iter().any(|(_, limits)| told == *limits));
        let mut news = Vec::new();
        for (row, limits) in &others {
            if !self.told.insert((*limits).clone()) {
                continue;
            }
            let same = others.iter().filter(|(_, one)| one == limits).count() as u64;
            news.push(Differs {
                host: row.host.clone(),
                pid: row.pid,
                more: same - 1,
                what: differences(&self.limits, limits),
            });
        }
        news
    }
}

impl Differs {
    fn sentence(&self) -> String {
        let Self { host, pid, more, what } = self;
        let (have, more) = match more {
            0 => ("has", String::new()),
            more => ("have", format!(" and {} like it", number_of(*more, "more", "more"))),
        };
        format!(
            "process {pid} on {host}{more} {have} other limits than this run: {what}. The stricter pace holds for \
             both, but each keeps its own caps, so a host may get more at once than the stricter run allows; give all the same \
             --max-per-host, --rate and --contact"
        )
    }
}

/// `cap of any host: 4 there, 1 here`, several with semicolons.
fn differences(ours: &StatedLimits, theirs: &StatedLimits) -> String {
    let all = ours.differences(theirs);
    let named = all.iter().take(NAMED);
    let mut parts: Vec<String> =
        named.map(|one| format!("{}: {} there, {} here", one.what, one.theirs, one.ours)).collect();
    if all.len() > NAMED {
        parts.push(format!("and {} more (`longhaul queue workers` shows them)", all.len() - NAMED));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::super::workers::samples::workers;
    use super::*;

    fn row(pid: u32, limits: &str) -> WorkerRow {
        WorkerRow {
            id: WorkerId::from_text(pid.to_string()),
            pid,
            limits: Some(StatedLimits::from_text(limits)),
            ..workers().remove(0)
        }
    }

    fn others() -> Others {
        Others::new(WorkerId::from_text("1"), StatedLimits::from_text("* cap=1 pace=off"), false)
    }

    fn pids(news: &[Differs]) -> Vec<(u32, u64)> {
        news.iter().map(|differs| (differs.pid, differs.more)).collect()
    }

    #[test]
    fn what_differs_is_said_with_both_sides_and_what_it_means() {
        let news = others().news(&[row(1, "* cap=1 pace=off"), row(2, "* cap=4 pace=off")]);
        insta::assert_snapshot!(news[0].sentence());
        let many = "* cap=4 pace=1/s; a.example pace=1/s; b.example pace=1/s; c.example pace=1/s";
        let news = others().news(&[row(2, many), row(3, many), row(4, many)]);
        insta::assert_snapshot!(news[0].sentence());
    }

    #[test]
    fn who_has_the_same_or_says_nothing_or_is_dead_is_no_news() {
        let mut others = others();
        let dead = WorkerRow { alive: false, ..row(3, "* cap=4 pace=off") };
        let silent = WorkerRow { limits: None, ..row(4, "") };
        let us = row(1, "* cap=9 pace=off");
        assert_eq!(others.news(&[us, row(2, "* cap=1 pace=off"), dead, silent]), []);
    }

    #[test]
    fn a_difference_is_said_once_while_somebody_has_it() {
        let mut others = others();
        let (two, three, four) =
            (row(2, "* cap=4 pace=off"), row(3, "* cap=4 pace=off"), row(4, "* cap=8 pace=off"));
        assert_eq!(pids(&others.news(&[two.clone(), three.clone()])), [(2, 1)]);
        assert_eq!(others.news(&[two.clone(), three.clone()]), []);
        assert_eq!(pids(&others.news(&[three.clone(), four.clone()])), [(4, 0)]);
        assert_eq!(pids(&others.news(&[three, four.clone()])), []);
        assert_eq!(pids(&others.news(std::slice::from_ref(&four))), []);
        assert_eq!(pids(&others.news(&[two, four])), [(2, 0)], "it had gone, and is back");
    }
}
