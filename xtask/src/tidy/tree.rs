//! The files that tidy looks at: what git tracks or would track, or else everything below the root that is not made
//! by a build.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// What a build or a run leaves behind, for a tree without git.
const MADE: [&str; 4] = [".git", "target", "downloads", "state"];

/// A text file.
#[derive(Debug)]
pub(super) struct File {
    /// From the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    /// The lines, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The part after the last dot of the file's name; none for a name that only begins with a dot.
    pub(super) fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }
}

/// Every file of the repository; the text of those that are text.
#[derive(Debug)]
pub(super) struct Tree {
    paths: BTreeSet<String>,
    files: Vec<File>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut paths = BTreeSet::new();
        match git_files(root) {
            Some(listed) => paths = listed,
            None => walk(root, "", &mut paths)?,
        }
        // A file that is deleted but not yet committed is still listed.
        paths.retain(|path| root.join(path).is_file());
        let mut files = Vec::new();
        for path in &paths {
            let bytes = fs::read(root.join(path)).with_context(|| format!("{path} could not be read"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path: path.clone(), text });
            }
        }
        Ok(Self { paths, files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| File { path: path.to_owned(), text: text.to_owned() };
        Self {
            paths: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
            files: files.iter().map(file).collect(),
        }
    }

    pub(super) fn paths(&self) -> &BTreeSet<String> {
        &self.paths
    }

    /// Whether a file or folder of this name is in the repository.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.paths.contains(path)
            || self.paths.iter().any(|file| file.starts_with(&folder))
    }

    /// The text files.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// The text files whose extension is one of these.
    pub(super) fn with_extension(&self, extensions: &[&str]) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| extensions.contains(&file.extension()))
    }
}

/// What git tracks, and what it would track if it were added; `None` where there is no git or no repository.
fn git_files(root: &Path) -> Option<BTreeSet<String>> {
    let mut git = Command::new("git");
    let output = git.args(["ls-files", "-co", "--exclude-standard", "-z"]).current_dir(root).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    Some(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walk(root: &Path, below: &str, paths: &mut BTreeSet<String>) -> Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("{} could not be read", folder.display()))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !MADE.contains(&name.as_str()) {
            walk(root, &path, paths)?;
        } else if kind.is_file() {
            paths.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_the_folders_are_walked_and_builds_are_left_out() {
        let root = tempfile::tempdir().expect("a folder");
        for (path, bytes) in [("a/b.rs", &b"//! b"[..]), ("target/debug/x", b"x"), ("c.bin", b"\xff\xfe")] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
        let mut paths = BTreeSet::new();
        walk(root.path(), "", &mut paths).expect("walked");
        assert_eq!(paths.into_iter().collect::<Vec<_>>(), ["a/b.rs", "c.bin"]);
    }

    #[test]
    fn files_and_their_folders_are_there_and_others_are_not() {
        let tree = Tree::of(&[("docs/src/guide.md", "")]);
        assert!(tree.has("docs/src/guide.md") && tree.has("docs/src") && tree.has(""));
        assert!(!tree.has("docs/sr") && !tree.has("guide.md"));
    }
}
