//! The known key that somebody may have meant.

/// Below this likeness (0 to 1) two words have nothing to do with each other.
const ALIKE: f64 = 0.65;

/// How alike two names are: the share of letters that need not be changed (Damerau-Levenshtein), but none where they have as
/// many words and two of these have little in common: `max_per_resolver` is not a slip for `max_per_host`.
fn likeness(one: &str, other: &str) -> f64 {
    let words = |name: &str| name.split(['_', '-']).map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (words(one), words(other));
    let differs =
        |(ours, theirs): (&String, &String)| strsim::normalized_damerau_levenshtein(ours, theirs) < 0.5;
    if ours.len() == theirs.len() && ours.iter().zip(&theirs).any(differs) {
        return 0.0;
    }
    strsim::normalized_damerau_levenshtein(one, other)
}

/// Whether somebody who wrote one word may have meant the other.
pub(crate) fn is_near(one: &str, other: &str) -> bool {
    likeness(one, other) >= ALIKE
}

/// What to say of an unknown key, given the known ones as (table, key, flag).
pub(super) fn advice(known: &[(String, String, String)], table: &str, name: &str) -> String {
    let has_table = known.iter().any(|(one, ..)| one == table);
    let score = |(of, key, flag): &&(String, String, String)| {
        let word = if name.is_empty() { table } else { name };
        let word = likeness(word, key).max(likeness(word, flag));
        let place = if name.is_empty() { 0.5 } else { likeness(table, of) };
        // The word counts most; the table decides between equals.
        0.9 * word + 0.1 * place
    };
    let best = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    match best.filter(|one| score(one) >= ALIKE) {
        // A table that belongs to a flag as a whole.
        Some((of, key, _)) if key.is_empty() => {
            return format!("there is no such key; did you mean the table [{of}]?");
        }
        Some((of, key, _)) => return format!("there is no such key; did you mean {of}.{key}?"),
        None => {}
    }
    let mut names: Vec<&str> = if has_table {
        known.iter().filter(|(of, ..)| of == table).map(|(_, key, _)| key.as_str()).collect()
    } else {
        known.iter().map(|(of, ..)| of.as_str()).collect()
    };
    names.sort_unstable();
    names.dedup();
    if has_table {
        return format!("there is no such key; [{table}] has {}", names.join(", "));
    }
    let near = names.iter().map(|name| (likeness(name, table), *name));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(alike, _)| *alike >= ALIKE) {
        Some((_, name)) => format!("there is no such key; did you mean [{name}]?"),
        None => format!("there is no such key; the tables are {}", names.join(", ")),
    }
}

/// `; did you mean …?`, if one of the words is near.
pub(super) fn did_you_mean(known: &[String], word: &str) -> String {
    // All of them begin alike, which makes none of them alike.
    let rest = |word: &str| word.strip_prefix("LONGHAUL_").unwrap_or(word).to_owned();
    let near = known.iter().map(|one| (likeness(&rest(one), &rest(word)), one));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(alike, _)| *alike >= ALIKE) {
        Some((_, one)) => format!("; did you mean {one}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_in_whatever_table_it_is() {
        let known = [
            ("orchestrator", "max_workers", "workers"),
            ("orchestrator", "max_per_host", "max_per_host"),
            ("queue", "path", "queue"),
            ("rate", "", "rate"),
            ("http", "contact", "contact"),
            ("headers", "", "header"),
        ]
        .map(|(table, key, flag)| (table.to_owned(), key.to_owned(), flag.to_owned()));
        let check = |table: &str, name: &str, said: &str| {
            let advice = advice(&known, table, name);
            assert!(advice.ends_with(said), "{table}.{name}: {advice}");
        };
        check("orchestrator", "max_worker", "did you mean orchestrator.max_workers?");
        check("queue", "max_workers", "did you mean orchestrator.max_workers?");
        check("orchestrater", "max_per_hosts", "did you mean orchestrator.max_per_host?");
        check("workers", "", "did you mean orchestrator.max_workers?");
        check("orchestrator", "zzz", "[orchestrator] has max_per_host, max_workers");
        check("rates", "zzz", "did you mean [rate]?");
        check("rates", "", "did you mean the table [rate]?");
        check("http", "header", "did you mean the table [headers]?");
        check("orchestrator", "max_per_resolver", "[orchestrator] has max_per_host, max_workers");
        check("zzz", "zzz", "the tables are headers, http, orchestrator, queue, rate");
    }
}
