//! `longhaul queue pause` and `longhaul queue resume`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::{JobFilter, JobPage, Lane, Timestamp};
use serde::Serialize;

use super::jobs::lane_of;
use crate::args::{Format, Global, PauseArgs, ResumeArgs};
use crate::exit::Exit;
use crate::output::{Console, pause as shown, print_data, printable, rfc3339, wall};
use crate::store::Store;

/// Lets nothing start any more.
pub(crate) async fn pause(
    global: &Global,
    args: PauseArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    let lane = args.lane.as_ref().map(|host| lane_of(&store, host)).transpose()?;
    let reason = who_and_why(&who(), args.reason.as_deref());
    let before = store.admin.pause(lane.as_ref(), args.length, &reason).await?;
    let done = Done::paused(lane.as_ref(), &reason, args.length, wall(clock.as_ref()));
    print_data(&done.shown(args.output.format)?)?;
    if let Some(before) = before {
        console.warn(&format!(
            "it was paused already, by {before}; that pause and its end are replaced by this one"
        ));
    }
    console
        .note("what is in flight goes on to its end; running processes start nothing more within a second");
    // Last: a long queue takes its time to look through, and the pause holds already.
    if let Some(lane) = &lane
        && !is_known(&store, lane).await?
    {
        console.warn(&format!(
            "no job of this queue belongs to {lane}; a port belongs to the name, and `longhaul queue lanes` shows all names"
        ));
    }
    Ok(Exit::Success)
}

/// Ends a pause.
pub(crate) async fn resume(
    global: &Global,
    args: ResumeArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, clock).await?;
    let lane = args.lane.as_ref().map(|host| lane_of(&store, host)).transpose()?;
    let was_paused = store.admin.resume(lane.as_ref()).await?;
    let done = Done::resumed(lane.as_ref(), was_paused);
    print_data(&done.shown(args.output.format)?)?;
    let stats = store.queue.stats().await?;
    if let Some(reason) = stats.paused.filter(|_| lane.is_some()) {
        console.warn(&format!("the whole queue is paused too, by {}", shown(&reason, stats.paused_for)));
    }
    if lane.is_none() && stats.lanes_paused > 0 {
        console.note("some hosts are paused by themselves; `longhaul queue lanes` shows which");
    }
    Ok(Exit::Success)
}

/// Whether anything is queued or in flight for a lane, or remembered of it.
async fn is_known(store: &Store, lane: &Lane) -> Result<bool> {
    let filter = JobFilter { lane: Some(lane.clone()), ..JobFilter::default() };
    Ok(!store.admin.list(&filter, JobPage { after: None, limit: 1 }).await?.is_empty())
}

/// What a pause keeps for whoever meets it: who made it and why.
fn who_and_why(who: &str, why: Option<&str>) -> String {
    match why.map(str::trim).filter(|why| !why.is_empty()) {
        Some(why) => format!("{who}: {why}"),
        None => who.to_owned(),
    }
}

/// Who asks, as this machine knows them.
fn who() -> String {
    let named = |variable: &str| std::env::var(variable).ok().filter(|name| !name.trim().is_empty());
    let user = named("SUDO_USER").or_else(|| named("USER")).or_else(|| named("LOGNAME"));
    let user = user.or_else(system_user);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| named("HOSTNAME"));
    let host = host.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    format!("{}@{}", user.as_deref().unwrap_or("somebody"), host.as_deref().unwrap_or("somewhere"))
}

/// Who this process runs as, by name if the machine has one for it. A job of cron has no variable that says so.
fn system_user() -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let id = std::fs::metadata("/proc/self").ok()?.uid();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(user_of(&users, id).map_or_else(|| format!("user {id}"), str::to_owned))
}

/// The name of a user in the text of `/etc/passwd`.
fn user_of(users: &str, id: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

/// The documented JSON of both commands. `lane` is `null` for everything, `until` for a pause without an end.
#[derive(Debug, Serialize)]
struct Done<'a> {
    paused: bool,
    lane: Option<&'a str>,
    reason: Option<&'a str>,
    until: Option<String>,
    /// Of `resume`: whether there was a pause.
    was_paused: Option<bool>,
    #[serde(skip)]
    length: Option<Duration>,
}

impl<'a> Done<'a> {
    fn paused(lane: Option<&'a Lane>, reason: &'a str, length: Option<Duration>, now: Timestamp) -> Self {
        Self {
            paused: true,
            lane: lane.map(Lane::as_str),
            reason: Some(reason),
            until: length.and_then(|length| rfc3339(now.plus(length))),
            was_paused: None,
            length,
        }
    }

    fn resumed(lane: Option<&'a Lane>, was_paused: bool) -> Self {
        Self {
            paused: false,
            lane: lane.map(Lane::as_str),
            reason: None,
            until: None,
            was_paused: Some(was_paused),
            length: None,
        }
    }

    fn shown(&self, format: Format) -> Result<String> {
        if format != Format::Table {
            return Ok(serde_json::to_string(self)?);
        }
        let what = self.lane.unwrap_or("the queue");
        let text = match (self.reason, self.was_paused) {
            (Some(reason), _) => {
                let how_long = match self.length {
                    Some(_) => shown(reason, self.length),
                    None => format!(
                        "{reason}; until `longhaul queue resume{}`",
                        self.lane.map_or_else(String::new, |lane| format!(" --lane {lane}"))
                    ),
                };
                format!("{what} is paused by {how_long}")
            }
            (None, Some(false)) => format!("{what} was not paused"),
            (None, _) => format!("{what} goes on"),
        };
        Ok(printable(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::samples::NOON;
    use super::*;

    #[test]
    fn a_user_has_the_name_that_the_system_gives() {
        let users = "root:x:0:0:root:/:/bin/sh\n\nbroken\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(
            (user_of(users, 0), user_of(users, 1000), user_of(users, 7)),
            (Some("root"), Some("ann"), None)
        );
        assert!(system_user().is_some());
    }

    #[test]
    fn a_pause_says_who_why_and_until_when() {
        let lane = Lane::new("example.org").unwrap();
        let two_hours = Some(Duration::from_hours(2));
        let reason = who_and_why("ann@box", Some(" they asked "));
        assert_eq!(reason, "ann@box: they asked");
        assert_eq!(who_and_why("ann@box", Some(" ")), "ann@box");
        let all = [
            Done::paused(None, &reason, two_hours, NOON),
            Done::paused(Some(&lane), &reason, None, NOON),
            Done::resumed(Some(&lane), true),
            Done::resumed(None, false),
        ];
        let shown = |format| all.iter().map(|done| done.shown(format).unwrap() + "\n").collect::<String>();
        insta::assert_snapshot!(shown(Format::Table) + &shown(Format::Json));
    }
}
