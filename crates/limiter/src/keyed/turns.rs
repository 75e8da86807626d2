//! Who may start: the bookkeeping under `KeyedLimiter`. No lock and no future: every method is one step, at the
//! end of which nobody waits who could start.
//!
//! A waiter stands in one line of each of its keys:
//! - *patient*: its patience with being overtaken has not ended;
//! - *overtaken*: the first in this line of a key has one permit of that key set aside. The first overtaken one
//!   of all is first under each of its keys, so it starts once each had a permit come free; by induction so does
//!   everyone. One permit a key, and not the whole key, because a waiter for a slow key that also needs a
//!   wide one would otherwise stop everything under the wide one;
//! - *parked*: one of its keys has cap 0, so that it cannot start whatever the others do.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::task::Waker;

use super::Key;

/// A place in the order of arrival.
pub(super) type Ticket = u64;

#[derive(Debug)]
pub(super) struct Turns {
    default_cap: Option<u32>,
    /// How often a waiter is overtaken before permits are set aside for it.
    patience: u32,
    caps: HashMap<Key, Option<u32>>,
    /// Only keys that are held or waited for.
    entries: HashMap<Key, Entry>,
    waiters: HashMap<Ticket, Waiter>,
    next_ticket: Ticket,
    /// Whom the caller is to wake once it has let go of the lock.
    woken: Vec<Waker>,
}

#[derive(Debug, Default)]
struct Entry {
    held: u64,
    patient: BTreeSet<Ticket>,
    overtaken: BTreeSet<Ticket>,
    parked: BTreeSet<Ticket>,
}

#[derive(Debug)]
struct Waiter {
    keys: Arc<[Key]>,
    overtakings: u32,
    standing: Standing,
    /// Gone once granted.
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Patient,
    Overtaken,
    Parked,
    /// In no line; its permits are counted, and its future has not picked them up.
    Granted,
}

impl Entry {
    fn line(&mut self, standing: Standing) -> Option<&mut BTreeSet<Ticket>> {
        match standing {
            Standing::Patient => Some(&mut self.patient),
            Standing::Overtaken => Some(&mut self.overtaken),
            Standing::Parked => Some(&mut self.parked),
            Standing::Granted => None,
        }
    }

    /// For whom a permit of this key is set aside.
    fn reserver(&self) -> Option<Ticket> {
        self.overtaken.first().copied()
    }

    /// Whether one more may be held, by this waiter (`None`: by someone without a ticket).
    fn has_room(&self, cap: Option<u32>, asking: Option<Ticket>) -> bool {
        let set_aside = self.reserver().is_some_and(|reserver| Some(reserver) != asking);
        cap.is_none_or(|cap| self.held + u64::from(set_aside) < u64::from(cap))
    }

    fn overtaken_after(&self, ticket: Option<Ticket>) -> Option<Ticket> {
        first_after(&self.overtaken, ticket)
    }

    fn patient_after(&self, ticket: Option<Ticket>) -> Option<Ticket> {
        first_after(&self.patient, ticket)
    }

    fn is_idle(&self) -> bool {
        self.held == 0 && self.patient.is_empty() && self.overtaken.is_empty() && self.parked.is_empty()
    }
}

impl Turns {
    pub(super) fn new(default_cap: Option<u32>, patience: u32) -> Self {
        Self {
            default_cap,
            patience,
            caps: HashMap::new(),
            entries: HashMap::new(),
            waiters: HashMap::new(),
            next_ticket: 0,
            woken: Vec::new(),
        }
    }

    pub(super) fn cap(&self, key: &Key) -> Option<u32> {
        self.caps.get(key).copied().unwrap_or(self.default_cap)
    }

    pub(super) fn held(&self, key: &Key) -> u64 {
        self.entries.get(key).map_or(0, |entry| entry.held)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiters.values().filter(|waiter| waiter.standing != Standing::Granted).count()
    }

    pub(super) fn active_keys(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    /// Takes all of `keys` if they can be had now. Whoever waits for one of them was overtaken by this.
    pub(super) fn try_start(&mut self, keys: &[Key]) -> bool {
        if !self.is_able(keys, None) {
            return false;
        }
        self.take(keys);
        let dirty = self.count_overtakings(keys, self.next_ticket);
        self.settle(dirty);
        true
    }

    /// Joins the lines. Only after [`Turns::try_start`] said no, in the same step.
    pub(super) fn wait(&mut self, keys: &Arc<[Key]>, waker: Waker) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let waiter = Waiter {
            keys: Arc::clone(keys),
            overtakings: 0,
            standing: Standing::Granted,
            waker: Some(waker),
        };
        self.waiters.insert(ticket, waiter);
        self.line_up(ticket);
        ticket
    }

    /// Whether the ticket was granted; it is spent then. Otherwise its waker and `waker` are exchanged.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: &mut Waker) -> bool {
        match self.waiters.get_mut(&ticket).map(|waiter| (waiter.standing, &mut waiter.waker)) {
            None | Some((Standing::Granted, _)) => self.waiters.remove(&ticket).is_some(),
            Some((_, stored)) => {
                if let Some(stored) = stored {
                    std::mem::swap(stored, waker);
                }
                false
            }
        }
    }

    /// Leaves the lines, or gives back what was granted and not picked up. The waker is for the caller to drop.
    pub(super) fn abandon(&mut self, ticket: Ticket) -> Option<Waker> {
        let standing = self.waiters.get(&ticket)?.standing;
        self.stand(ticket, Standing::Granted);
        let waiter = self.waiters.remove(&ticket)?;
        match standing {
            Standing::Granted => self.release(&waiter.keys),
            // What was set aside for it is for others now.
            Standing::Overtaken => self.settle(waiter.keys.iter().cloned().collect()),
            Standing::Patient | Standing::Parked => {}
        }
        self.evict(&waiter.keys);
        waiter.waker
    }

    /// Gives back one permit of each of `keys`.
    pub(super) fn release(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                debug_assert!(entry.held > 0, "a permit of {key} was given back twice");
                entry.held = entry.held.saturating_sub(1);
            }
        }
        self.settle(keys.iter().cloned().collect());
        self.evict(keys);
    }

    /// Sets a key's cap.
    pub(super) fn set_cap(&mut self, key: Key, cap: Option<u32>) {
        self.caps.insert(key.clone(), cap);
        self.cap_changed(key);
    }

    /// Returns a key to the default cap.
    pub(super) fn clear_cap(&mut self, key: Key) {
        self.caps.remove(&key);
        self.cap_changed(key);
    }

    fn cap_changed(&mut self, key: Key) {
        let mut dirty = BTreeSet::new();
        for ticket in self.entries.get(&key).map(waiting_for).unwrap_or_default() {
            let before = self.standing(ticket);
            self.line_up(ticket);
            if before == Some(Standing::Overtaken) && self.standing(ticket) == Some(Standing::Parked) {
                dirty.extend(self.waiters.get(&ticket).iter().flat_map(|waiter| waiter.keys.iter().cloned()));
            }
        }
        dirty.insert(key);
        self.settle(dirty);
    }

    /// Whether all of `keys` have room for one more.
    fn is_able(&self, keys: &[Key], asking: Option<Ticket>) -> bool {
        keys.iter().all(|key| match (self.entries.get(key), self.cap(key)) {
            (Some(entry), cap) => entry.has_room(cap, asking),
            (None, cap) => cap != Some(0),
        })
    }

    fn take(&mut self, keys: &[Key]) {
        for key in keys {
            self.entries.entry(key.clone()).or_default().held += 1;
        }
    }

    fn standing(&self, ticket: Ticket) -> Option<Standing> {
        self.waiters.get(&ticket).map(|waiter| waiter.standing)
    }

    /// Puts a waiter into the lines where it belongs by its overtakings and the caps of its keys.
    fn line_up(&mut self, ticket: Ticket) {
        let Some(waiter) = self.waiters.get(&ticket) else { return };
        let standing = if waiter.keys.iter().any(|key| self.cap(key) == Some(0)) {
            Standing::Parked
        } else if waiter.overtakings >= self.patience {
            Standing::Overtaken
        } else {
            Standing::Patient
        };
        self.stand(ticket, standing);
    }

    fn stand(&mut self, ticket: Ticket, standing: Standing) {
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
        let before = std::mem::replace(&mut waiter.standing, standing);
        for key in waiter.keys.iter() {
            let entry = self.entries.entry(key.clone()).or_default();
            if let Some(line) = entry.line(before) {
                line.remove(&ticket);
            }
            if let Some(line) = entry.line(standing) {
                line.insert(ticket);
            }
        }
    }

    /// Lets start whoever can, one after the other, after something changed under the `dirty` keys.
    fn settle(&mut self, mut dirty: BTreeSet<Key>) {
        while let Some(ticket) = self.first_able(&dirty) {
            self.stand(ticket, Standing::Granted);
            let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
            self.woken.extend(waiter.waker.take());
            let keys = Arc::clone(&waiter.keys);
            self.take(&keys);
            dirty.extend(self.count_overtakings(&keys, ticket));
        }
    }

    /// The first of those waiting for a `dirty` key who could start: the overtaken before the patient, and each line
    /// by arrival. Costs as many looks as there are waiters before it who still need another key.
    fn first_able(&self, dirty: &BTreeSet<Key>) -> Option<Ticket> {
        let able = |ticket| self.waiters.get(&ticket).is_some_and(|w| self.is_able(&w.keys, Some(ticket)));
        let entries: Vec<(bool, &Entry)> = dirty
            .iter()
            .filter_map(|key| self.entries.get(key).map(|entry| (entry.has_room(self.cap(key), None), entry)))
            .collect();
        for line in [Entry::overtaken_after, Entry::patient_after] {
            let mut looked_at = None;
            loop {
                // Where there is room at most for the one for whom it is set aside, nobody else needs a look.
                let worth_a_look = |(open, entry): &(bool, &Entry)| {
                    line(entry, looked_at).filter(|ticket| *open || Some(*ticket) == entry.reserver())
                };
                match entries.iter().filter_map(worth_a_look).min() {
                    Some(ticket) if able(ticket) => return Some(ticket),
                    Some(ticket) => looked_at = Some(ticket),
                    None => break,
                }
            }
        }
        None
    }

    /// Someone who came at `arrival` started under `keys`: counts it once for each patient waiter that came before and
    /// needs one of them that has a cap. Returns the keys of those who ran out of patience; they may be able to start
    /// now.
    fn count_overtakings(&mut self, keys: &[Key], arrival: Ticket) -> BTreeSet<Key> {
        let overtaken: BTreeSet<Ticket> = keys
            .iter()
            .filter(|key| self.cap(key).is_some())
            .filter_map(|key| self.entries.get(key))
            .flat_map(|entry| entry.patient.range(..arrival).copied())
            .collect();
        let mut dirty = BTreeSet::new();
        for ticket in overtaken {
            let Some(waiter) = self.waiters.get_mut(&ticket) else { continue };
            waiter.overtakings += 1;
            if waiter.overtakings == self.patience {
                dirty.extend(waiter.keys.iter().cloned());
                self.stand(ticket, Standing::Overtaken);
            }
        }
        dirty
    }

    /// Forgets those of `keys` that nobody holds or waits for.
    fn evict(&mut self, keys: &[Key]) {
        for key in keys {
            if self.entries.get(key).is_some_and(Entry::is_idle) {
                self.entries.remove(key);
            }
        }
    }
}

fn first_after(line: &BTreeSet<Ticket>, ticket: Option<Ticket>) -> Option<Ticket> {
    let from = ticket.map_or(Bound::Unbounded, Bound::Excluded);
    line.range((from, Bound::Unbounded)).next().copied()
}

/// Everyone in a line of the entry.
fn waiting_for(entry: &Entry) -> Vec<Ticket> {
    entry.patient.iter().chain(&entry.overtaken).chain(&entry.parked).copied().collect()
}
