//! Links in Markdown to files of this repository lead somewhere. Links to the web are not followed.

use super::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension(&["md"]) {
        let mut in_code = false;
        for (number, line) in file.lines() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if in_code {
                continue;
            }
            for target in targets(&without_code(line)) {
                let is_there = resolved(&file.path, &target).is_some_and(|path| tree.has(&path));
                if !is_there {
                    let what = format!("the link to `{target}` leads nowhere");
                    findings.push(Finding::new(
                        &file.path,
                        number,
                        what,
                        "correct it, or add the file to git",
                    ));
                }
            }
        }
    }
    findings
}

/// The local targets of a line's links: `[text](target "title")` and `[name]: target`.
fn targets(line: &str) -> Vec<String> {
    let inline = line.match_indices("](").map(|(at, _)| {
        let rest = &line[at + 2..];
        rest.split(')').next().unwrap_or(rest)
    });
    let defined = line.trim_start().starts_with('[').then(|| line.split_once("]: ")).flatten();
    let all = inline.chain(defined.map(|(_, target)| target));
    let words = all.filter_map(|target| target.split_whitespace().next());
    let without_anchors = words.map(|target| {
        let target = target.trim_matches(['<', '>']);
        target.split(['#', '?']).next().unwrap_or(target)
    });
    without_anchors.filter(|target| is_local(target)).map(str::to_owned).collect()
}

fn is_local(target: &str) -> bool {
    !target.is_empty()
        && !target.contains("://")
        && !target.starts_with("mailto:")
        && !target.starts_with("//")
}

/// The path from the repository's root; `None` if it leads out of it.
fn resolved(from: &str, target: &str) -> Option<String> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let guide = "[a](../README.md) [b](missing.md)\n\n[c]: ./gone.md\n![d](../../outside.svg)\n";
        let findings = found(check, &[("README.md", ""), ("docs/guide.md", guide)]);
        assert_eq!(
            findings,
            [
                "docs/guide.md:1: the link to `missing.md` leads nowhere",
                "docs/guide.md:3: the link to `./gone.md` leads nowhere",
                "docs/guide.md:4: the link to `../../outside.svg` leads nowhere",
            ]
        );
    }

    #[test]
    fn folders_anchors_and_titles_are_understood() {
        let text = "[a](docs) [b](docs/guide.md#part \"Title\") [c](#here) [d](<docs/guide.md>)\n[![e](docs/)](docs)\n";
        assert_eq!(found(check, &[("README.md", text), ("docs/guide.md", "")]), [""; 0]);
    }

    #[test]
    fn the_web_and_code_are_left_alone() {
        let text =
            "[a](https://example.org/x.md) [b](mailto:a@example.org) `[c](no.md)`\n```\n[d](no.md)\n```\n";
        assert_eq!(found(check, &[("README.md", text)]), [""; 0]);
    }
}
