//! How a queue is configured, as people write it down.

use std::path::PathBuf;

use longhaul_limiter::Keying;

use crate::{Durability, ErrorKind, QueueError, Result, SqliteOptions};

/// Which store keeps the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// A SQLite file on this machine, which several processes may share.
    #[default]
    Sqlite,
}

impl Backend {
    /// The name as it stands in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
        }
    }
}

impl std::str::FromStr for Backend {
    type Err = QueueError;

    /// # Errors
    /// `Invalid` for any name but `sqlite`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sqlite" => Ok(Backend::Sqlite),
            _ => Err(invalid("this build has no such backend; it must be sqlite")),
        }
    }
}

/// The configuration of a queue. [`QueueConfig::default`] is a good one; [`QueueConfig::validate`] says what cannot be.
///
/// ```
/// use longhaul_queue_core::{ErrorKind, QueueConfig};
///
/// let config = QueueConfig::default();
/// assert_eq!(config.path.to_str(), Some("state/workqueue.sqlite"));
/// config.validate()?;
/// let journal = QueueConfig { wal_mode: false, ..config };
/// assert_eq!(journal.validate().unwrap_err().kind(), ErrorKind::Invalid);
/// # Ok::<(), longhaul_queue_core::QueueError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Which store. Default: SQLite.
    pub backend: Backend,
    /// The file. Default: `state/workqueue.sqlite`.
    pub path: PathBuf,
    /// Whether the store writes ahead. Always true: without it readers and writers would block each other.
    pub wal_mode: bool,
    /// When a change counts. Default: when the disk has it.
    pub durability: Durability,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            backend: Backend::Sqlite,
            path: PathBuf::from("state/workqueue.sqlite"),
            wal_mode: true,
            durability: Durability::Full,
        }
    }
}

impl QueueConfig {
    /// Refuses what cannot be, naming the value and what it may be.
    ///
    /// # Errors
    /// `Invalid`. Nothing is opened or looked at.
    pub fn validate(&self) -> Result<()> {
        if self.path.as_os_str().is_empty() {
            return Err(invalid("path is empty; it must name a file"));
        }
        if !self.wal_mode {
            return Err(invalid(
                "wal_mode is false; it must be true: without the write-ahead log every reader would block the writer, and a heartbeat could come too late",
            ));
        }
        Ok(())
    }

    /// What [`crate::SqliteQueue::open`] is told, with a missing file being created or not.
    ///
    /// # Errors
    /// As [`QueueConfig::validate`].
    pub fn sqlite_options(&self, create: bool, keying: Keying) -> Result<SqliteOptions> {
        self.validate()?;
        Ok(SqliteOptions::new(&self.path).create(create).durability(self.durability).keying(keying))
    }
}

fn invalid(message: &str) -> QueueError {
    QueueError::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones_and_valid() {
        let config = QueueConfig::default();
        config.validate().unwrap();
        assert_eq!((config.backend.as_str(), config.wal_mode), ("sqlite", true));
        assert_eq!(
            (config.path.to_str(), config.durability),
            (Some("state/workqueue.sqlite"), Durability::Full)
        );
        assert_eq!("sqlite".parse::<Backend>().unwrap(), Backend::Sqlite);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let refused = |config: QueueConfig| config.validate().unwrap_err().to_string();
        let journal = QueueConfig { wal_mode: false, ..QueueConfig::default() };
        assert!(journal.sqlite_options(true, Keying::default()).is_err());
        assert!(refused(journal).contains("every reader would block the writer"));
        assert!(
            refused(QueueConfig { path: PathBuf::new(), ..QueueConfig::default() }).contains("path is empty")
        );
        assert!("mysql".parse::<Backend>().unwrap_err().to_string().contains("must be sqlite"));
    }
}
