//! The URLs that the record itself names.

use async_trait::async_trait;
use longhaul_limiter::Role;

use super::Resolver;
use crate::http::plan::Plan;
use crate::{Context, Record};

/// Proposes the record's own URLs in their order. Asks nobody.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Direct;

#[async_trait]
impl Resolver for Direct {
    async fn plans(&self, record: &Record, _context: &dyn Context, order: u32) -> Vec<Plan> {
        let plan = |url| Plan {
            url,
            resolver: super::DIRECT.to_owned(),
            order,
            role: Role::Artifact,
            referer: None,
            expect: record.expect,
        };
        record.candidates().into_iter().map(plan).collect()
    }
}
