//! Identifiers in the many forms in which people write them. What is not recognised is `None`, never an error:
//! the record may have a URL that works.

/// A DOI without any prefix, in its own letter case: `10.1000/ABC`.
pub(super) fn doi(text: &str) -> Option<&str> {
    let mut text = text.trim();
    if let Some(rest) = without_scheme(text) {
        let host = ["doi.org/", "dx.doi.org/", "www.doi.org/"];
        text = host.iter().find_map(|host| strip_prefix_ci(rest, host))?;
    }
    let text = strip_prefix_ci(text, "doi:").unwrap_or(text).trim_start();
    let (registrant, suffix) = text.split_once('/')?;
    let number = registrant.strip_prefix("10.")?;
    let numbers = number.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let whole = !suffix.is_empty() && !suffix.chars().any(|c| c.is_whitespace() || c.is_control());
    (numbers && whole).then_some(text)
}

/// The idempotence key of a DOI: DOIs do not tell letter cases apart.
pub(super) fn doi_key(doi: &str) -> String {
    format!("doi:{}", doi.to_ascii_lowercase())
}

/// A PubMed id: digits alone.
pub(super) fn pmid(text: &str) -> Option<String> {
    let digits = last_segment(text);
    let digits = strip_prefix_ci(digits, "pmid:").unwrap_or(digits).trim();
    is_number(digits).then(|| digits.to_owned())
}

/// A PubMed Central id: `PMC` and digits.
pub(super) fn pmcid(text: &str) -> Option<String> {
    let number = last_segment(text);
    let number = strip_prefix_ci(number, "pmcid:").unwrap_or(number).trim();
    let number = strip_prefix_ci(number, "pmc").unwrap_or(number);
    // A version (`PMC123.2`) names an edition of the same article.
    let number = number.split('.').next().unwrap_or(number);
    is_number(number).then(|| format!("PMC{number}"))
}

/// An arXiv id, with its version if it has one: `1706.03762v7`, `math/0211159`.
pub(super) fn arxiv(text: &str) -> Option<String> {
    let mut text = text.trim();
    if let Some(rest) = without_scheme(text) {
        let host = ["arxiv.org/", "www.arxiv.org/", "export.arxiv.org/"];
        let path = host.iter().find_map(|host| strip_prefix_ci(rest, host))?;
        text = path.strip_prefix("abs/").or_else(|| path.strip_prefix("pdf/"))?;
        text = text.strip_suffix(".pdf").unwrap_or(text);
    }
    let id = strip_prefix_ci(text, "arxiv:").unwrap_or(text).trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "./-".contains(c);
    (id.bytes().any(|b| b.is_ascii_digit()) && id.chars().all(plain)).then(|| id.to_owned())
}

/// The id of an OpenAlex work: `W2741809807`.
pub(super) fn openalex_work(text: &str) -> Option<&str> {
    let rest = without_scheme(text.trim())?;
    let id = strip_prefix_ci(rest, "openalex.org/").or_else(|| strip_prefix_ci(rest, "api.openalex.org/"))?;
    let id = strip_prefix_ci(id, "works/").unwrap_or(id);
    is_number(strip_prefix_ci(id, "w")?).then_some(id)
}

fn without_scheme(text: &str) -> Option<&str> {
    strip_prefix_ci(text, "https://").or_else(|| strip_prefix_ci(text, "http://"))
}

fn last_segment(text: &str) -> &str {
    let text = text.trim().trim_end_matches('/');
    text.rsplit('/').next().unwrap_or(text)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// As `strip_prefix`, letter case aside.
pub(super) fn strip_prefix_ci<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doi_is_found_in_each_of_its_forms() {
        for form in [
            "10.1000/aBc",
            "doi:10.1000/aBc",
            "DOI: 10.1000/aBc",
            "https://doi.org/10.1000/aBc",
            "http://dx.doi.org/10.1000/aBc",
            " HTTPS://DOI.ORG/10.1000/aBc ",
        ] {
            assert_eq!(doi(form), Some("10.1000/aBc"), "{form}");
        }
        assert_eq!(doi_key("10.1000/aBc"), "doi:10.1000/abc");
        assert_eq!(doi("10.1000.10/x/y"), Some("10.1000.10/x/y"));
    }

    #[test]
    fn what_is_no_doi_is_none() {
        for text in
            ["", "10.1000", "10.1000/", "10./x", "10.a/x", "11.1000/x", "https://example.org/10.1000/x"]
        {
            assert_eq!(doi(text), None, "{text}");
        }
        assert_eq!(doi("10.1000/a b"), None);
    }

    #[test]
    fn other_identifiers_lose_their_wrapping() {
        assert_eq!(pmid("https://pubmed.ncbi.nlm.nih.gov/12345/").as_deref(), Some("12345"));
        assert_eq!(pmid("PMID: 12345").as_deref(), Some("12345"));
        assert_eq!(pmid("x12"), None);
        for form in
            ["PMC123", "pmc123", "123", "PMC123.2", "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC123/"]
        {
            assert_eq!(pmcid(form).as_deref(), Some("PMC123"), "{form}");
        }
        assert_eq!(pmcid("PMC"), None);
        for form in [
            "1706.03762v7",
            "arXiv:1706.03762v7",
            "https://arxiv.org/abs/1706.03762v7",
            "https://arxiv.org/pdf/1706.03762v7.pdf",
        ] {
            assert_eq!(arxiv(form).as_deref(), Some("1706.03762v7"), "{form}");
        }
        assert_eq!(arxiv("math/0211159").as_deref(), Some("math/0211159"));
        assert_eq!(arxiv("https://example.org/abs/1706.03762"), None);
        assert_eq!(openalex_work("https://openalex.org/W27"), Some("W27"));
        assert_eq!(openalex_work("https://openalex.org/A27"), None);
    }
}
