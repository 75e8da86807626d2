//! What is wrong with a configuration, and where.

use std::fmt;

use super::Origin;

/// One thing to mend. Holds no value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where it stands.
    pub(crate) place: Origin,
    /// The key that it is about, unless the file as a whole cannot be read.
    pub(crate) key: Option<String>,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            // A file that cannot be read has no lines.
            Origin::File { name, line: 0 } => name.clone(),
            place => place.place().unwrap_or_default(),
        };
        let parts = [Some(place.as_str()), self.key.as_deref(), Some(self.message.as_str())];
        let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(": "))
    }
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub(crate) struct ConfigError(pub(crate) Vec<Fault>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// A value that is wrong only together with others, named by its flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingError {
    /// The id of the flag.
    pub(crate) flag: &'static str,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SettingError {}
