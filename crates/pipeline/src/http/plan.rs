//! A plan: one URL where the artifact may be.

use longhaul_limiter::Role;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Expect;

/// One candidate, as a resolver proposed it. Serialises into checkpoints, so that the next try need not ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Where.
    pub(super) url: Url,
    /// Who proposed it.
    pub(super) resolver: String,
    /// The resolver's place in the order, from 0.
    pub(super) order: u32,
    /// What its requests are for.
    pub(super) role: Role,
    /// The page that linked to it.
    pub(super) referer: Option<Url>,
    /// What may come.
    #[serde(with = "expect_word")]
    pub(super) expect: Expect,
}

/// An [`Expect`] as the word that stands in records.
mod expect_word {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Expect;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(expect: &Expect, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(expect.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Expect, D::Error> {
        let word = String::deserialize(deserializer)?;
        Expect::parse(&word).ok_or_else(|| D::Error::custom(format!("{word:?} is nothing to expect")))
    }
}
