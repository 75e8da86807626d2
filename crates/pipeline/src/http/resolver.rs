//! Resolvers: how an artifact becomes plans.

mod direct;

use std::fmt::Debug;

use async_trait::async_trait;

use super::error::SetupError;
use super::plan::Plan;
use crate::{Context, Record};

use direct::Direct;

/// All resolvers, in the order in which they are asked.
pub(super) const NAMES: &[&str] = &["direct"];

/// The resolvers of these names, in their order.
pub(super) fn named(names: &[String]) -> Result<Vec<Box<dyn Resolver>>, SetupError> {
    let unknown =
        |name: &str| SetupError::new(format!("there is no resolver {name:?}; there is {}", NAMES.join(", ")));
    let one = |name: &String| -> Result<Box<dyn Resolver>, SetupError> {
        match name.as_str() {
            "direct" => Ok(Box::new(Direct)),
            other => Err(unknown(other)),
        }
    };
    let mut resolvers = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(SetupError::new(format!("the resolver {name:?} is named twice; name each once")));
        }
        resolvers.push(one(name)?);
    }
    if resolvers.is_empty() {
        return Err(SetupError::new(format!("no resolver is named; there is {}", NAMES.join(", "))));
    }
    Ok(resolvers)
}

/// The name of [`Direct`].
pub(super) const DIRECT: &str = "direct";

/// Turns an artifact into plans, best first.
///
/// # Contract
/// No plan is no failure: the next resolver is asked. Requests are admitted through the context like all others.
#[async_trait]
pub(super) trait Resolver: Debug + Send + Sync + 'static {
    /// Where the artifact may be, as far as this resolver knows. `order` is its own place among the resolvers.
    async fn plans(&self, record: &Record, context: &dyn Context, order: u32) -> Vec<Plan>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_name_is_a_resolver_and_no_other_is() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(named(&names(NAMES)).unwrap().len(), NAMES.len());
        let said = |list: &[&str]| named(&names(list)).unwrap_err().to_string();
        assert_eq!(said(&["direct", "indirect"]), "there is no resolver \"indirect\"; there is direct");
        assert_eq!(said(&["direct", "direct"]), "the resolver \"direct\" is named twice; name each once");
        assert!(said(&[]).contains("no resolver is named"));
    }
}
