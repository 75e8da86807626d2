//! Where a plan's next request goes: redirects are followed here, hop by hop, because each presses on a host.

use serde::{Deserialize, Serialize};
use url::Url;

use super::plan::Plan;
use crate::Reason;

/// The place that a plan has got to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hop {
    /// Which plan it belongs to.
    pub(super) plan: usize,
    /// Where the next request goes.
    pub(super) url: Url,
    /// The page that it is said to come from.
    pub(super) referer: Option<Url>,
    /// The URLs that redirected here, oldest first.
    pub(super) visited: Vec<Url>,
    /// Whether an earlier try got here. Redirects age (signed URLs above all), so if a plan fails from here, it is
    /// followed from its beginning before it is given up.
    #[serde(default)]
    pub(super) aged: bool,
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotFollowed {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Hop {
    /// The beginning of a plan.
    pub(super) fn start(index: usize, plan: &Plan) -> Self {
        let url = without_fragment(plan.url.clone());
        Self { plan: index, url, referer: plan.referer.clone(), visited: Vec::new(), aged: false }
    }

    /// The same place, as a later try sees it.
    pub(super) fn aged(mut self) -> Self {
        self.aged = !self.visited.is_empty();
        self
    }

    /// The next place, as a `Location` names it. Its address is checked before it is asked, as every hop's is.
    pub(super) fn redirected(&self, location: Option<&str>, most: u32) -> Result<Self, NotFollowed> {
        let stop = |reason, detail: &str| Err(NotFollowed { reason, detail: detail.to_owned() });
        let Some(location) = location else {
            return stop(Reason::HttpStatus, "a redirect that does not say where to");
        };
        let Ok(url) = self.url.join(location) else {
            return stop(Reason::HttpStatus, "a redirect to what is no URL");
        };
        let url = without_fragment(url);
        if self.visited.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            return stop(Reason::RedirectLoop, "more redirects than are followed");
        }
        if url == self.url || self.visited.contains(&url) {
            return stop(Reason::RedirectLoop, "the redirects go in a circle");
        }
        let mut visited = self.visited.clone();
        visited.push(self.url.clone());
        // What came over https is not told to whoever listens to http.
        let downgraded = self.url.scheme() == "https" && url.scheme() != "https";
        let referer = self.referer.clone().filter(|_| !downgraded);
        Ok(Self { plan: self.plan, url, referer, visited, aged: self.aged })
    }
}

fn without_fragment(mut url: Url) -> Url {
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use longhaul_limiter::Role;

    use super::*;
    use crate::Expect;

    fn start(url: &str) -> Hop {
        let plan = Plan {
            url: Url::parse(url).unwrap(),
            resolver: "direct".to_owned(),
            order: 0,
            role: Role::Artifact,
            referer: Some(Url::parse("https://page.example/").unwrap()),
            expect: Expect::Pdf,
        };
        Hop::start(0, &plan)
    }

    #[test]
    fn a_redirect_is_relative_to_where_it_stands() {
        let hop = start("https://a.example/x/y?q#f");
        assert_eq!(hop.url.as_str(), "https://a.example/x/y?q");
        let next = |location| hop.redirected(Some(location), 10).unwrap().url.to_string();
        assert_eq!(next("z#g"), "https://a.example/x/z");
        assert_eq!(next("//b.example"), "https://b.example/");
        assert_eq!(next("file:///etc/passwd"), "file:///etc/passwd");
    }

    #[test]
    fn circles_and_long_chains_end() {
        let reason = |result: Result<Hop, NotFollowed>| result.unwrap_err().reason;
        let hop = start("https://a.example/0");
        assert_eq!(reason(hop.redirected(Some("/0#x"), 10)), Reason::RedirectLoop);
        let second = hop.redirected(Some("/1"), 10).unwrap();
        assert_eq!(reason(second.redirected(Some("/0"), 10)), Reason::RedirectLoop);
        let third = second.redirected(Some("/2"), 2).unwrap();
        assert_eq!(reason(third.redirected(Some("/3"), 2)), Reason::RedirectLoop);
        assert_eq!(reason(hop.redirected(None, 10)), Reason::HttpStatus);
        assert_eq!(reason(hop.redirected(Some("http://[x"), 10)), Reason::HttpStatus);
    }

    #[test]
    fn the_referer_is_not_told_over_http() {
        let hop = start("https://a.example/0");
        assert!(hop.redirected(Some("https://b.example/"), 10).unwrap().referer.is_some());
        assert!(hop.redirected(Some("http://b.example/"), 10).unwrap().referer.is_none());
    }
}
