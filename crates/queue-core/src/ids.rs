//! Identities and times, each a type of its own, validated where it is made.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, QueueError};

/// The idempotence key of an artifact, normalised by whoever made it: `doi:10.1/x`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactId(String);

impl ArtifactId {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 2048;

    /// A key of 1 to [`ArtifactId::MAX_BYTES`] bytes without control characters or surrounding white space.
    pub fn new(key: impl Into<String>) -> Result<Self, QueueError> {
        let key = key.into();
        let wrong =
            |why: &str| Err(QueueError::new(ErrorKind::Invalid, format!("artifact id {key:.80?} {why}")));
        if key.is_empty() {
            return wrong("is empty");
        }
        if key.len() > Self::MAX_BYTES {
            return wrong("is longer than 2048 bytes");
        }
        if key.trim() != key || key.chars().any(char::is_control) {
            return wrong("holds control characters or surrounding white space");
        }
        Ok(Self(key))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ArtifactId {
    type Error = QueueError;
    fn try_from(key: String) -> Result<Self, QueueError> {
        Self::new(key)
    }
}

impl From<ArtifactId> for String {
    fn from(id: ArtifactId) -> Self {
        id.0
    }
}

/// A job's number in its queue. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A worker process: random for each start, so that a restarted process is never taken for the one that died.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(String);

impl WorkerId {
    /// A fresh random id of 16 hexadecimal digits.
    pub fn random() -> Self {
        Self(format!("{:016x}", fastrand::u64(..)))
    }

    /// An id as [`WorkerId::as_str`] gave it; also for tests that want names.
    pub fn from_text(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A claim on a job: the fence only ever grows, and every write names it (INV-FENCE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseToken {
    /// The job that is claimed.
    pub job: JobId,
    /// Which claim of this job it is: one more at each lease.
    pub fence: i64,
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.job, self.fence)
    }
}

/// The number of a lease request, never reused by its process: repeating one returns the same batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestNumber(pub i64);

/// Where files belong to: the machine and output folder that wrote them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub String);

/// A priority class, 0 to 9; 9 goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Class(u8);

impl Class {
    /// The highest class.
    pub const HIGHEST: Class = Class(9);

    /// A class of 0 to 9.
    pub fn new(class: u8) -> Result<Self, QueueError> {
        if class > 9 {
            return Err(QueueError::new(
                ErrorKind::Invalid,
                format!("priority {class} is not one of 0 to 9"),
            ));
        }
        Ok(Self(class))
    }

    /// The class as a number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Class {
    type Error = QueueError;
    fn try_from(class: u8) -> Result<Self, QueueError> {
        Self::new(class)
    }
}

impl From<Class> for u8 {
    fn from(class: Class) -> Self {
        class.0
    }
}

/// How often the queue has changed in a way that could make something leasable, as this handle saw it. Only
/// compared with what the same handle gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// A time of the store's own clock, in milliseconds. It starts near the Unix time of the queue's creation and
/// never goes back; what people see is converted to wall time first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Later than everything: a lane that opens only when something happens to it.
    pub const NEVER: Timestamp = Timestamp(i64::MAX);

    /// The time since the store's epoch, for the pure arithmetic of paces.
    pub fn since_epoch(self) -> Duration {
        Duration::from_millis(self.0.max(0).unsigned_abs())
    }

    /// The first whole millisecond that is not before `time` since the store's epoch.
    pub fn at_least(time: Duration) -> Self {
        Self(i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX))
    }

    /// This time and `duration` more; never past [`Timestamp::NEVER`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long from `now` until this time; zero if it has passed.
    pub fn after(self, now: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0).max(0).unsigned_abs())
    }
}
