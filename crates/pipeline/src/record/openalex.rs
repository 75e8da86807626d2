//! What an OpenAlex work knows of an artifact. Its data comes from many hands: whatever is not as documented is
//! passed over, never an error.

use serde_json::Value;
use url::Url;

use super::fields::Fields;

/// The parts of an OpenAlex work that a record has no field of the same name for.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) doi: Option<String>,
    pub(super) pmid: Option<String>,
    pub(super) pmcid: Option<String>,
    pub(super) title: Option<String>,
    pub(super) pdf_urls: Vec<Url>,
    pub(super) landing_urls: Vec<Url>,
    pub(super) open_access_url: Option<Url>,
}

/// Reads an object whose `id` is that of an OpenAlex work.
pub(super) fn work(fields: Fields<'_>) -> Work {
    let id = |name: &str| match fields.get("ids")?.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut work = Work {
        doi: id("doi"),
        pmid: id("pmid"),
        pmcid: id("pmcid"),
        title: fields.get("display_name").and_then(Value::as_str).map(str::to_owned),
        open_access_url: fields.get("open_access").and_then(|access| url(access, "oa_url")),
        ..Work::default()
    };
    let best = fields.get("best_oa_location").into_iter().chain(fields.get("primary_location"));
    let all = fields.get("locations").and_then(Value::as_array).into_iter().flatten();
    for location in best.chain(all) {
        for (list, name) in [(&mut work.pdf_urls, "pdf_url"), (&mut work.landing_urls, "landing_page_url")] {
            if let Some(url) = url(location, name).filter(|url| !list.contains(url)) {
                list.push(url);
            }
        }
    }
    work
}

fn url(object: &Value, name: &str) -> Option<Url> {
    Url::parse(object.get(name)?.as_str()?).ok()
}
