//! What this process remembers of robots.txt files.
//!
//! It is bounded by its bytes and not by the number of origins (INV-BOUNDED): most origins forbid nothing, and thousands
//! of those cost less than one long file. Were it smaller than the number of origins at work, every request would read
//! the queue's cache.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::Known;
use super::rules::Rules;

/// Bytes of all that is remembered.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// About how many bytes an origin takes beside its name and its rules: its places in both maps.
const SITE_BYTES: usize = 160;

/// The rules of all origins that forbid nothing.
static NONE: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::none()));

/// What is known of each origin, and until when that is believed.
#[derive(Debug, Default)]
pub(super) struct Memory {
    sites: HashMap<Arc<str>, Remembered>,
    /// The origins by the end of what is known of them; the serial number keeps equal ends apart.
    ends: BTreeMap<(Duration, u64), Arc<str>>,
    bytes: usize,
    serial: u64,
}

#[derive(Debug)]
struct Remembered {
    known: Known,
    end: (Duration, u64),
    weight: usize,
}

impl Memory {
    /// What is known of an origin, if that is still believed.
    pub(super) fn get(&mut self, origin: &str, now: Duration) -> Option<Known> {
        let remembered = self.sites.get(origin)?;
        if now < remembered.end.0 {
            return Some(remembered.known.clone());
        }
        self.forget(origin);
        None
    }

    /// Remembers it for so long. What ends soonest makes room.
    pub(super) fn put(&mut self, origin: &str, known: Known, now: Duration, length: Duration) {
        self.forget(origin);
        let (known, weight) = match known {
            Known::Rules(rules) if rules.are_none() => (Known::Rules(Arc::clone(&NONE)), 0),
            Known::Rules(rules) => {
                let weight = rules.weight();
                (Known::Rules(rules), weight)
            }
            Known::Moved(moved) => {
                let weight = moved.to.as_str().len();
                (Known::Moved(moved), weight)
            }
            Known::Unreadable(unreadable) => {
                let weight = unreadable.detail.len();
                (Known::Unreadable(unreadable), weight)
            }
        };
        let weight = weight + SITE_BYTES + origin.len();
        while self.bytes + weight > MOST_BYTES {
            let Some((_, soonest)) = self.ends.first_key_value() else { break };
            let soonest = Arc::clone(soonest);
            self.forget(&soonest);
        }
        self.serial += 1;
        let (origin, end) = (Arc::<str>::from(origin), (now + length, self.serial));
        self.bytes += weight;
        self.ends.insert(end, Arc::clone(&origin));
        self.sites.insert(origin, Remembered { known, end, weight });
    }

    fn forget(&mut self, origin: &str) {
        if let Some(forgotten) = self.sites.remove(origin) {
            self.ends.remove(&forgotten.end);
            self.bytes -= forgotten.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn rules(lines: usize) -> Known {
        let longer = |file: String, line| file + &format!("Disallow: /{line}/{}\n", "x".repeat(100));
        let file = (0..lines).fold("User-agent: *\n".to_owned(), longer);
        Known::Rules(Arc::new(Rules::read(file.as_bytes())))
    }

    fn host(number: u64) -> String {
        format!("https://h{number}.example")
    }

    #[test]
    fn inv_bounded_the_memory_has_an_end_whatever_hosts_are_seen() {
        let mut memory = Memory::default();
        for number in 0..50_000 {
            memory.put(&host(number), rules(1), Duration::ZERO, HOUR + Duration::from_secs(number));
            assert!(memory.bytes <= MOST_BYTES, "{}", memory.bytes);
        }
        assert!(memory.get(&host(49_999), Duration::ZERO).is_some(), "what ends last stays");
        assert!(memory.get(&host(0), Duration::ZERO).is_none(), "what ends first goes");
        for number in 0..20 {
            memory.put(&format!("https://long{number}.example"), rules(5_000), Duration::ZERO, 2 * HOUR);
            assert!(memory.bytes <= MOST_BYTES, "{}", memory.bytes);
        }
        assert_eq!(memory.sites.len(), memory.ends.len());
        for origin in memory.sites.keys().cloned().collect::<Vec<_>>() {
            memory.forget(&origin);
        }
        assert_eq!((memory.bytes, memory.ends.len()), (0, 0));
    }

    #[test]
    fn ten_thousand_origins_that_forbid_nothing_fit() {
        let mut memory = Memory::default();
        for number in 0..10_000 {
            memory.put(&host(number), rules(0), Duration::ZERO, HOUR);
        }
        assert!((0..10_000).all(|number| memory.get(&host(number), Duration::ZERO).is_some()));
        let shared = |known| matches!(known, Some(Known::Rules(rules)) if Arc::ptr_eq(&rules, &NONE));
        assert!(shared(memory.get(&host(0), Duration::ZERO)), "they share their rules");
    }

    #[test]
    fn what_is_remembered_has_its_time() {
        let mut memory = Memory::default();
        memory.put("https://a.example", rules(1), Duration::from_secs(5), Duration::from_mins(1));
        assert!(memory.get("https://a.example", Duration::from_secs(64)).is_some());
        assert!(memory.get("https://a.example", Duration::from_secs(65)).is_none());
        assert_eq!((memory.sites.len(), memory.ends.len(), memory.bytes), (0, 0, 0));
    }
}
