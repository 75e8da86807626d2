//! Resolvers: how an artifact becomes plans.

mod direct;

use std::fmt::Debug;

use async_trait::async_trait;

use super::plan::Plan;
use crate::{Context, Record};

pub(super) use direct::Direct;

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
