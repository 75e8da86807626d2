//! When jobs that have killed processes run: alone, so that they take nobody along (INV-ATTEMPTS).

use std::time::Duration;

/// What kind of lease is to be asked for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// As many jobs as there are workers free.
    Normal,
    /// None: the pool empties itself for a job that runs alone, or such a job is at work.
    Nothing,
    /// One job that runs alone.
    Alone,
}

/// Turns between the pool and the jobs that run alone.
///
/// A turn begins by letting the pool run empty; after it the pool gets at least as long as the turn took, so that a
/// few poisonous jobs cannot hold up all others for more than half of the time.
#[derive(Debug, Default)]
pub(crate) struct AloneTurns {
    waiting: bool,
    turn_since: Option<Duration>,
    active: bool,
    rest_until: Duration,
    refused_until: Duration,
}

impl AloneTurns {
    /// After the queue had none to give although it said that one waits, it is asked again no earlier than this.
    const REFUSED: Duration = Duration::from_secs(1);

    /// A lease's reply said whether such a job waits.
    pub(crate) fn observe(&mut self, waiting: bool) {
        self.waiting = waiting;
        if !waiting && !self.active {
            self.turn_since = None;
        }
    }

    /// What to ask for. `held` are the jobs that the process will hold when it asks; `idle` says that the last normal
    /// lease found nothing else to do.
    pub(crate) fn wish(&mut self, now: Duration, held: usize, idle: bool) -> Wish {
        if self.active {
            return Wish::Nothing;
        }
        let rests = now < self.rest_until && !(idle && held == 0);
        if !self.waiting || now < self.refused_until || rests {
            return Wish::Normal;
        }
        self.turn_since.get_or_insert(now);
        if held == 0 { Wish::Alone } else { Wish::Nothing }
    }

    /// An alone lease was answered.
    pub(crate) fn given(&mut self, now: Duration, given: bool) {
        self.active = given;
        if !given {
            self.refused_until = now + Self::REFUSED;
            self.turn_since = None;
        }
    }

    /// Nothing is at work any more: if a job ran alone, its turn is over.
    pub(crate) fn ended(&mut self, now: Duration) {
        if std::mem::take(&mut self.active) {
            let took = self.turn_since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
            self.rest_until = now + took;
        }
    }

    /// Whether such a job is known to wait.
    pub(crate) fn waits(&self) -> bool {
        self.waiting
    }

    /// When the wish may change by time alone.
    pub(crate) fn deadline(&self, now: Duration) -> Option<Duration> {
        let until = self.rest_until.max(self.refused_until);
        (self.waiting && !self.active && until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_pool_runs_empty_before_a_job_runs_alone() {
        let mut turns = AloneTurns::default();
        assert_eq!(turns.wish(at(10), 3, false), Wish::Normal);
        turns.observe(true);
        assert_eq!(turns.wish(at(10), 3, false), Wish::Nothing);
        assert_eq!(turns.wish(at(15), 0, false), Wish::Alone);
        turns.given(at(15), true);
        assert_eq!(turns.wish(at(16), 1, false), Wish::Nothing);
    }

    #[test]
    fn the_pool_then_gets_as_long_as_the_turn_took() {
        let mut turns = AloneTurns::default();
        turns.observe(true);
        assert_eq!(turns.wish(at(10), 1, false), Wish::Nothing);
        assert_eq!(turns.wish(at(12), 0, false), Wish::Alone);
        turns.given(at(12), true);
        turns.ended(at(30));
        turns.observe(true);
        assert_eq!(turns.wish(at(31), 0, false), Wish::Normal);
        assert_eq!(turns.wish(at(49), 4, false), Wish::Normal);
        assert_eq!(turns.deadline(at(49)), Some(at(50)));
        assert_eq!(turns.wish(at(50), 4, false), Wish::Nothing);
    }

    #[test]
    fn an_empty_pool_with_nothing_else_to_do_does_not_rest() {
        let mut turns = AloneTurns::default();
        turns.observe(true);
        assert_eq!(turns.wish(at(10), 0, true), Wish::Alone);
        turns.given(at(10), true);
        turns.ended(at(60));
        assert_eq!(turns.wish(at(60), 0, true), Wish::Alone);
    }

    #[test]
    fn a_refused_wish_is_not_repeated_at_once() {
        let mut turns = AloneTurns::default();
        turns.observe(true);
        assert_eq!(turns.wish(at(10), 0, true), Wish::Alone);
        turns.given(at(10), false);
        turns.observe(true);
        assert_eq!(turns.wish(at(10), 0, true), Wish::Normal);
        assert_eq!(turns.wish(at(11), 0, true), Wish::Alone);
    }
}
