//! The order in which lanes give: a turn for each (lane, class) with queued jobs.
//!
//! `open_at` is a lower bound on when the turn may give. Too low costs one visit; too high would starve the lane,
//! so whatever could open a lane lowers it. Among turns that opened at the same millisecond the one that was
//! visited longest ago comes first; a new turn counts as visited now.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_limiter::Lane;

use crate::Timestamp;

/// The class of jobs that two processes have died with: they run alone.
pub(super) const ALONE: u8 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    open_at: Timestamp,
    visit: u64,
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    rows: BTreeMap<(Lane, u8), Turn>,
    order: BTreeSet<(u8, Timestamp, u64, Lane)>,
    visits: u64,
}

impl Turns {
    fn put(&mut self, lane: &Lane, class: u8, turn: Turn) {
        if let Some(old) = self.rows.insert((lane.clone(), class), turn) {
            self.order.remove(&(class, old.open_at, old.visit, lane.clone()));
        }
        self.order.insert((class, turn.open_at, turn.visit, lane.clone()));
    }

    /// Makes sure that there is a turn and that it opens at `at` or before.
    pub(super) fn lower(&mut self, lane: &Lane, class: u8, at: Timestamp) {
        match self.rows.get(&(lane.clone(), class)).copied() {
            None => self.visited(lane, class, at),
            Some(turn) if at < turn.open_at => self.put(lane, class, Turn { open_at: at, ..turn }),
            Some(_) => {}
        }
    }

    /// The turn was had: it goes behind the others that open at the same time.
    pub(super) fn visited(&mut self, lane: &Lane, class: u8, open_at: Timestamp) {
        self.visits += 1;
        self.put(lane, class, Turn { open_at, visit: self.visits });
    }

    /// Nothing is queued there any more.
    pub(super) fn end(&mut self, lane: &Lane, class: u8) {
        if let Some(old) = self.rows.remove(&(lane.clone(), class)) {
            self.order.remove(&(class, old.open_at, old.visit, lane.clone()));
        }
    }

    /// The first turns of a class that are open, longest open first.
    pub(super) fn open(&self, class: u8, now: Timestamp, most: usize) -> Vec<Lane> {
        let first = (class, Timestamp(i64::MIN), 0, Lane::NONE);
        let open = self.order.range(first..).take_while(|(c, open_at, ..)| *c == class && *open_at <= now);
        open.take(most).map(|(.., lane)| lane.clone()).collect()
    }

    /// The classes below [`ALONE`] that have an open turn, lowest first.
    pub(super) fn open_classes(&self, now: Timestamp) -> Vec<u8> {
        (0..ALONE).filter(|class| self.next(*class).is_some_and(|open_at| open_at <= now)).collect()
    }

    /// When the first turn of a class opens.
    pub(super) fn next(&self, class: u8) -> Option<Timestamp> {
        let first = (class, Timestamp(i64::MIN), 0, Lane::NONE);
        self.order.range(first..).next().filter(|(c, ..)| *c == class).map(|(_, open_at, ..)| *open_at)
    }

    /// The lanes that have a turn of a class.
    pub(super) fn lanes(&self, class: u8) -> impl Iterator<Item = &Lane> {
        let first = (class, Timestamp(i64::MIN), 0, Lane::NONE);
        self.order.range(first..).take_while(move |(c, ..)| *c == class).map(|(.., lane)| lane)
    }

    /// The turns of a lane: class and `open_at`.
    pub(super) fn of(&self, lane: &Lane) -> impl Iterator<Item = (u8, Timestamp)> {
        let range = (lane.clone(), 0)..=(lane.clone(), ALONE);
        self.rows.range(range).map(|((_, class), turn)| (*class, turn.open_at))
    }

    /// All turns.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Lane, u8, Timestamp)> {
        self.rows.iter().map(|((lane, class), turn)| (lane, *class, turn.open_at))
    }

    /// Whatever held this lane back may be over: its turns are worth a visit. True if that moved one.
    ///
    /// All that are put off, whatever for: one that waited for a slot has since been lowered to the time of a delayed
    /// job that came, and would sleep until then although a slot is free.
    pub(super) fn reopen(&mut self, lane: &Lane, now: Timestamp) -> bool {
        let closed: Vec<u8> = self.of(lane).filter(|(_, at)| *at > now).map(|(class, _)| class).collect();
        for class in &closed {
            self.lower(lane, *class, now);
        }
        !closed.is_empty()
    }
}
