//! `NAME=N`: how many jobs of a resolver may be at work at once.

/// A cap for a resolver, or for what records name as their source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolverCap {
    /// The resolver's name.
    pub(crate) name: String,
    /// How many at once.
    pub(crate) cap: u32,
}

pub(crate) fn parse(text: &str) -> Result<ResolverCap, String> {
    let wrong = |why: &str| format!("{why}; write NAME=N like unpaywall=2");
    let (name, cap) = text.split_once(['=', ':']).ok_or_else(|| wrong("the `=` is missing"))?;
    let name = name.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(wrong(&format!("{name:?} is not the name of a resolver")));
    }
    let cap: u32 =
        cap.trim().parse().map_err(|_| wrong(&format!("{:?} is not a whole number", cap.trim())))?;
    if !(1..=1000).contains(&cap) {
        return Err(format!("{cap} is not in 1..=1000"));
    }
    Ok(ResolverCap { name: name.to_owned(), cap })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_of_resolvers_are_read_in_both_forms() {
        for text in ["europe_pmc=2", " europe_pmc : 2 ", "europe_pmc:2"] {
            let read = parse(text).unwrap();
            assert_eq!((read.name.as_str(), read.cap), ("europe_pmc", 2), "{text}");
        }
        for bad in ["", "a", "a=", "=2", "a=0", "a=1001", "a=-1", "a b=2", "a=2=3", "a=two"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
