//! What a person sees while a run goes on: a bar on a terminal, otherwise a line every few seconds, and at once what
//! should not wait.

mod notice;
mod screen;
mod speed;
mod tally;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longhaul_events::{Event, Observer};
use longhaul_limiter::Clock;
use longhaul_queue_core::StateCounts;
use tokio::sync::mpsc;

use self::notice::Notices;
pub(crate) use self::notice::{Notice, Waits};
use self::screen::Screen;
use self::speed::Speed;
pub(crate) use self::tally::{Group, LaneTally, Tally};
use crate::output::{Console, bytes, count, cut, duration, printable};

/// How many hosts that cool down are named.
const NAMED_HOSTS: usize = 3;

/// Where nothing happens, a line is written so often, so that whoever reads the log later sees that the run was there.
const SIGN_OF_LIFE: Duration = Duration::from_mins(1);

/// How wide the bar itself is, as its template says.
const BAR_WIDTH: usize = 20;

/// So many columns at the end of each line stay empty: behind the last one the terminal shows `^C`.
const KEPT_FREE: usize = 4;

/// What the queue says of the work of all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outlook {
    /// Its counts.
    pub(crate) counts: StateCounts,
    /// When something can start next, if the clock alone decides that.
    pub(crate) starts_at: Option<Duration>,
    /// Whether all that is queued waits for slots that requests hold.
    pub(crate) is_full: bool,
}

/// What a line said, as far as it counts as news.
type News = (u64, u64, usize, u64, u64);

/// Hears what happens in a run and keeps what people want to know of it, in bounded memory.
#[derive(Debug)]
pub(crate) struct RunObserver {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    sender: mpsc::Sender<Notice>,
}

#[derive(Debug)]
struct Kept {
    tally: Tally,
    notices: Notices,
}

impl RunObserver {
    /// An observer, and what it finds worth saying at once. What nobody fetches in time is dropped.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> (Arc<Self>, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(64);
        let kept = Kept { tally: Tally::default(), notices: Notices::default() };
        (Arc::new(Self { clock, kept: Mutex::new(kept), sender }), receiver)
    }

    /// What has happened so far.
    pub(crate) fn with_tally<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&self.lock().tally)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A tally that a panic interrupted is at worst off by one.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for RunObserver {
    fn on_event(&self, event: &Event) {
        let now = self.clock.monotonic();
        let notice = {
            let mut kept = self.lock();
            kept.tally.take(event, now);
            kept.notices.of(event, now)
        };
        if let Some(notice) = notice {
            // Full: there is more news than a person could read.
            let _ = self.sender.try_send(notice);
        }
    }
}

/// Draws.
#[derive(Debug)]
pub(crate) struct Progress {
    console: Console,
    bar: Option<ProgressBar>,
    speed: Speed,
    problems_said: u64,
    /// The last line, and when it was written.
    said: Option<(News, Duration)>,
}

impl Progress {
    /// A bar where there is a terminal to draw it on. The run begins now.
    pub(crate) fn start(console: &Console, now: Duration) -> Self {
        let bar = (console.is_terminal() && !console.is_quiet()).then(|| {
            let screen = Box::new(Screen::new(Term::buffered_stderr()));
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like_with_hz(screen, 20));
            // The template is a constant; should it ever be wrong, the default style serves.
            if let Ok(style) =
                ProgressStyle::with_template("{bar:20} {human_pos}/{human_len}  {prefix}\n{msg}")
            {
                bar.set_style(style.progress_chars("█▉ "));
            }
            console.show_bar(bar.clone());
            bar
        });
        Self { console: console.clone(), bar, speed: Speed::since(now), problems_said: 0, said: None }
    }

    /// How often [`Progress::show`] is to be called.
    pub(crate) fn interval(&self) -> Duration {
        if self.bar.is_some() { Duration::from_millis(500) } else { Duration::from_secs(5) }
    }

    /// Shows where the run is.
    pub(crate) fn show(&mut self, tally: &Tally, outlook: &Outlook, now: Duration) {
        let counts = &outlook.counts;
        let ended = counts.done + counts.skipped + counts.error;
        self.speed.add(now, tally.ended(), tally.received);
        let pace = pace(tally, counts, &self.speed);
        let mut troubles = troubles(tally, outlook, now);
        if let Some(bar) = &self.bar {
            bar.set_length(counts.total());
            bar.set_position(ended);
            troubles.extend(tally.problems.back().map(|last| format!("last: {last}")));
            let room = self.console.width().map(|width| width.saturating_sub(KEPT_FREE));
            let fitting = |text: &str, taken: usize| {
                room.map_or_else(|| text.to_owned(), |room| cut(text, room.saturating_sub(taken)))
            };
            let before_pace = BAR_WIDTH + format!(" {}/{}  ", count(ended), count(counts.total())).len();
            bar.set_prefix(fitting(&pace, before_pace));
            bar.set_message(fitting(&printable(&troubles.join("; ")), 0));
            return;
        }
        let said = (ended, counts.total(), tally.running.len(), tally.received, tally.problems_seen);
        if self.said.is_some_and(|(before, at)| before == said && now < at + SIGN_OF_LIFE) {
            return;
        }
        self.said = Some((said, now));
        troubles.insert(0, pace);
        let news = troubles.join("; ");
        self.console.note(&format!("{}/{} ended, {news}", count(ended), count(counts.total())));
        let unsaid = tally.problems_seen - self.problems_said;
        self.problems_said = tally.problems_seen;
        let shown = unsaid.min(tally.problems.len() as u64);
        let first = tally.problems.len() - shown as usize;
        for problem in tally.problems.range(first..) {
            self.console.note(&format!("  {problem}"));
        }
        if unsaid > shown {
            self.console.note(&format!("  and {} more problems", count(unsaid - shown)));
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.console.hide_bar();
    }
}

/// `cooling down: a.example 41s`, `3 failed`.
fn troubles(tally: &Tally, outlook: &Outlook, now: Duration) -> Vec<String> {
    let mut parts = Vec::new();
    if tally.is_at_fault {
        parts.push("this machine cannot work".to_owned());
    }
    let cooling = tally.cooling(now);
    let counts = &outlook.counts;
    let wait = outlook.starts_at.map(|at| at.saturating_sub(now)).unwrap_or_default();
    if !cooling.is_empty() {
        let mut hosts: Vec<String> = cooling
            .iter()
            .take(NAMED_HOSTS)
            .map(|(lane, left)| format!("{lane} {}", duration(*left)))
            .collect();
        if cooling.len() > NAMED_HOSTS {
            hosts.push(format!("{} more", cooling.len() - NAMED_HOSTS));
        }
        parts.push(format!("cooling down: {}", hosts.join(", ")));
    } else if !wait.is_zero() && counts.queued > 0 && tally.running.is_empty() {
        parts.push(format!("nothing can start for {}", duration(wait)));
    } else if outlook.is_full && tally.running.is_empty() {
        parts.push("other runs' requests fill the hosts".to_owned());
    }
    if counts.error > 0 {
        parts.push(format!("{} failed", count(counts.error)));
    }
    parts
}

/// `8 running, 2.0/s, 3.4 MiB/s, about 7m left`.
fn pace(tally: &Tally, counts: &StateCounts, speed: &Speed) -> String {
    let mut parts = vec![format!("{} running", count(tally.running.len() as u64))];
    if let Some((jobs, received)) = speed.now() {
        let per_minute = jobs * 60.0;
        parts.push(if jobs >= 1.0 { format!("{jobs:.1}/s") } else { format!("{per_minute:.1}/min") });
        parts.push(format!("{}/s", bytes(received as u64)));
        let left = (counts.queued + counts.in_progress) as f64;
        if jobs > 0.0 && left > 0.0 {
            let eta = Duration::try_from_secs_f64(left / jobs).unwrap_or(Duration::MAX);
            parts.push(format!("about {} left", duration(eta)));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use longhaul_limiter::{Lane, ManualClock};

    use super::*;

    #[test]
    fn the_line_says_what_runs_how_fast_and_what_cools_down() {
        let clock = ManualClock::new();
        let (observer, _notices) = RunObserver::new(Arc::new(clock.clone()));
        let mut counts = StateCounts { queued: 98, in_progress: 2, ..StateCounts::default() };
        let outlook = |counts: &StateCounts| Outlook { counts: *counts, ..Outlook::default() };
        let mut speed = Speed::since(clock.monotonic());
        let show = |speed: &Speed, counts: &StateCounts| {
            let now = clock.monotonic();
            observer.with_tally(|tally| {
                (pace(tally, counts, speed), troubles(tally, &outlook(counts), now).join("; "))
            })
        };
        for job in 1..=2 {
            let lane = Lane::new("a.example").unwrap();
            observer.on_event(&Event::JobStarted { job, artifact_id: job.to_string(), attempt: 1, lane });
        }
        assert_eq!(show(&speed, &counts), ("2 running".to_owned(), String::new()));
        clock.advance(Duration::from_secs(10));
        counts = StateCounts { queued: 78, in_progress: 2, done: 19, error: 1, skipped: 0 };
        speed.add(clock.monotonic(), 20, 20 << 20);
        observer.on_event(&Event::LaneClosed {
            lane: Lane::new("b.example").unwrap(),
            retry_after: Some(Duration::from_mins(1)),
            cause: "429".to_owned(),
        });
        clock.advance(Duration::from_secs(19));
        assert_eq!(
            show(&speed, &counts),
            (
                "2 running, 2.0/s, 2.0 MiB/s, about 40s left".to_owned(),
                "cooling down: b.example 41s; 1 failed".to_owned()
            )
        );
    }

    #[test]
    fn a_run_that_waits_says_for_what() {
        let tally = Tally::default();
        let counts = StateCounts { queued: 3, in_progress: 1, ..StateCounts::default() };
        let now = Duration::from_secs(10);
        let said = |outlook: Outlook| troubles(&tally, &outlook, now).join("; ");
        let later = Outlook { counts, starts_at: Some(Duration::from_secs(100)), is_full: false };
        assert_eq!(said(later), "nothing can start for 1m 30s");
        let full = Outlook { counts, starts_at: None, is_full: true };
        assert_eq!(said(full), "other runs' requests fill the hosts");
        assert_eq!(said(Outlook { counts, ..Outlook::default() }), "");
    }

    #[test]
    fn a_line_that_is_no_news_is_written_once_a_minute() {
        let mut progress = Progress::start(&Console::new(true), Duration::ZERO);
        let (mut tally, outlook) = (Tally::default(), Outlook::default());
        let mut written = |tally: &Tally, second: u64| {
            progress.show(tally, &outlook, Duration::from_secs(second));
            progress.said.map(|(_, at)| at.as_secs()) == Some(second)
        };
        assert!(written(&tally, 5));
        assert!((10..65).step_by(5).all(|second| !written(&tally, second)));
        assert!(written(&tally, 65));
        tally.received += 1;
        assert!(written(&tally, 70), "something has arrived");
        assert!(!written(&tally, 75));
    }
}
