//! One running host: what it is told to do and the books it keeps.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::behaviour::Behaviour;
use crate::body::Document;
use crate::config::{HostConfig, OriginConfig};
use crate::counts::Tally;

/// A host as its connections share it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) seed: u64,
    pub(crate) send_buffer_bytes: u32,
    behaviour: Mutex<Arc<Behaviour>>,
    tally: Mutex<Tally>,
    changed: watch::Sender<()>,
}

impl Host {
    pub(crate) fn new(
        config: &HostConfig,
        address: Ipv4Addr,
        started: Instant,
        bounds: &OriginConfig,
    ) -> Self {
        let tally = Tally::new(
            started,
            &config.windows_ms,
            Duration::from_millis(config.closing_grace_ms),
            bounds.log_capacity,
            bounds.path_capacity,
        );
        Self {
            name: config.name.clone(),
            address,
            seed: config.seed,
            send_buffer_bytes: config.send_buffer_bytes,
            behaviour: Mutex::new(Arc::new(config.behaviour.clone())),
            tally: Mutex::new(tally),
            changed: watch::Sender::new(()),
        }
    }

    pub(crate) fn behaviour(&self) -> Arc<Behaviour> {
        Arc::clone(&self.behaviour.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(behaviour);
    }

    /// Reads the books.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&Tally) -> R) -> R {
        read(&self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes in the books, and wakes whoever waits for a change of them.
    pub(crate) fn record<R>(&self, write: impl FnOnce(&mut Tally) -> R) -> R {
        let result = write(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        result
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The document that an honest answer on this path has now.
    pub(crate) fn document(&self, path: &str) -> Document {
        let behaviour = self.behaviour();
        let (answer, _) = behaviour.answer_for(path);
        Document::new(self.seed, &self.name, path, answer.revision, answer.body)
    }
}

/// Where the hosts are.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) port: u16,
    pub(crate) addresses: HashMap<String, Ipv4Addr>,
}

impl Directory {
    /// The base URL of a host, without a slash at its end.
    pub(crate) fn base(&self, name: &str) -> Option<String> {
        self.addresses.get(name).map(|address| format!("http://{address}:{}", self.port))
    }

    /// Replaces `{origin:NAME}` by base URLs. Unknown names stay as they are, for a reader to see.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{origin:") {
            filled.push_str(before);
            let known = after.split_once('}').and_then(|(name, behind)| Some((self.base(name)?, behind)));
            if let Some((base, behind)) = known {
                filled.push_str(&base);
                rest = behind;
            } else {
                filled.push_str("{origin:");
                rest = after;
            }
        }
        filled + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_unknown_ones_are_left() {
        let addresses = HashMap::from([("a".to_owned(), Ipv4Addr::new(127, 0, 1, 1))]);
        let directory = Directory { port: 80, addresses };
        assert_eq!(
            directory.fill_in("x {origin:a}/y {origin:b} {origin:a"),
            "x http://127.0.1.1:80/y {origin:b} {origin:a"
        );
    }
}
