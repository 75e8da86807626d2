//! `longhaul queue check`: the queue against itself, and against the files of an output folder of this machine.
//!
//! What is mended is mended in the way in which a run would have: a job whose process died is given back and charged a
//! loss, a file that is missing is fetched again by the next run. No file of the user is removed or overwritten: a damaged one is
//! renamed.

mod files;
mod leases;

use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use serde::Serialize;

use self::files::Files;
use crate::args::{CheckArgs, Format, Global};
use crate::exit::Exit;
use crate::output::{Console, count, number_of, print_data, printable};
use crate::store::Store;

/// How many findings are printed for people; programs get all.
const SHOWN: usize = 100;

/// Checks, and mends.
pub(crate) async fn check(
    global: &Global,
    args: CheckArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    let mut report = Report::default();
    queue_itself(&store, args.repair, &mut report).await?;
    leases::check(&store, &clock, args.repair, &mut report).await?;
    files::check(&store, &args, console, &mut report).await?;
    print_data(&match args.output.format {
        Format::Json | Format::Jsonl => serde_json::to_string(&report)?,
        Format::Table => report.text(),
    })?;
    let left = report.left();
    if left == 0 {
        return Ok(Exit::Success);
    }
    let problems = number_of(left as u64, "problem is", "problems are");
    console.error(&if args.repair {
        format!("{problems} left that cannot be mended here; what to do is said beside each")
    } else {
        format!("{problems} there; `longhaul queue check --repair` mends what can be mended")
    });
    Ok(Exit::Failure)
}

/// Counts, turns, holders, the file. Whether something was mended is found out by looking again.
async fn queue_itself(store: &Store, repair: bool, report: &mut Report) -> Result<()> {
    let found = store.admin.check(repair).await?;
    let left = if repair && !found.problems.is_empty() {
        store.admin.check(false).await?.problems
    } else {
        Vec::new()
    };
    for problem in found.problems {
        let mended = match repair {
            false => None,
            true if left.contains(&problem) => Some(Err("restore the queue from a backup".to_owned())),
            true => Some(Ok("set right".to_owned())),
        };
        report.findings.push(Finding::new(problem, mended));
    }
    Ok(())
}

/// What was found. Serialises as the documented JSON.
#[derive(Debug, Default, Serialize)]
struct Report {
    findings: Vec<Finding>,
    files: Option<Files>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    /// What, where, what it should be.
    problem: String,
    /// Whether it was mended.
    mended: bool,
    /// How it was mended, or what else has to be done.
    how: Option<String>,
}

impl Finding {
    /// `mended` is how it was mended, or why it was not; `None` if nobody asked for that.
    fn new(problem: String, mended: Option<Result<String, String>>) -> Self {
        let is_mended = matches!(mended, Some(Ok(_)));
        Self { problem, mended: is_mended, how: mended.map(|(Ok(how) | Err(how))| how) }
    }
}

impl Report {
    /// How much is wrong still.
    fn left(&self) -> usize {
        self.findings.iter().filter(|finding| !finding.mended).count()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in self.findings.iter().take(SHOWN) {
            let how = match (&finding.how, finding.mended) {
                (Some(how), true) => format!("; mended: {how}"),
                (Some(how), false) => format!("; not mended: {how}"),
                (None, _) => String::new(),
            };
            text.push_str(&printable(&format!("{}{how}", finding.problem)));
            text.push('\n');
        }
        if self.findings.len() > SHOWN {
            let more = count((self.findings.len() - SHOWN) as u64);
            text.extend(["… and ", &more, " more; --format json prints all\n"]);
        }
        if self.findings.is_empty() {
            text.push_str("counts, turns and leases are as they should be\n");
        }
        text.push_str(&match &self.files {
            None => {
                "no files were compared: the folder is no output folder of a run on this machine\n".to_owned()
            }
            Some(files) => files.text(),
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(mended: [Option<Result<String, String>>; 3]) -> Report {
        let problems = [
            "counts: 7 jobs are said to be queued, 2 are",
            "files: a.pdf of doi:10.1000/a is missing",
            "files: b.pdf of doi:10.1000/b is altered: it has 3 bytes instead of 4",
        ];
        let findings = problems.into_iter().zip(mended);
        Report {
            findings: findings.map(|(problem, mended)| Finding::new(problem.to_owned(), mended)).collect(),
            files: Some(Files { compared: 1_234, unpublished: 1, elsewhere: 2 }),
        }
    }

    #[test]
    fn what_was_found_and_what_became_of_it() {
        let found = report([None, None, None]);
        let mended = report([
            Some(Ok("set right".to_owned())),
            Some(Ok("job 1 is queued again".to_owned())),
            Some(Err("it was pruned".to_owned())),
        ]);
        assert_eq!((found.left(), mended.left()), (3, 1));
        let clean =
            Report { files: Some(Files { compared: 1, unpublished: 0, elsewhere: 0 }), ..Report::default() };
        let nowhere = Report::default();
        let all = [found.text(), mended.text(), clean.text(), nowhere.text()].join("----\n");
        insta::assert_snapshot!(all);
        insta::assert_snapshot!(serde_json::to_string_pretty(&mended).unwrap());
    }

    #[test]
    fn people_get_a_hundred_lines() {
        let mut report = Report::default();
        report.findings.extend((0..1_234).map(|number| Finding::new(format!("files: {number}"), None)));
        assert_eq!(report.text().lines().count(), 102);
        assert!(report.text().contains("… and 1,134 more"), "{}", report.text());
    }
}
