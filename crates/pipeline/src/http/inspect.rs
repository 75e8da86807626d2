//! Looking at an output folder without a run: are the files there that a queue says are, and which parts did nobody
//! take away? Nothing here makes or changes a file; [`OutputFolder::remove`] removes a leftover part, and
//! [`OutputFolder::set_aside`] renames what is damaged.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::part::{self, Lock};
use super::publish;
use super::sink::sha256_of;
use super::store::Store;

/// So many damaged files of one name are kept.
const MOST_SET_ASIDE: u32 = 100;

/// An output folder that some run of this machine has used. All calls block on the disk.
#[derive(Debug)]
pub struct OutputFolder {
    store: Store,
}

/// How a file compares with what was recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It is what was recorded.
    Whole,
    /// There is no file of that name.
    Missing,
    /// It is another file; how it differs, for people.
    Altered(String),
}

/// A part that nobody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The number of the job that it was for.
    pub job: i64,
    /// Where it is, relative to the folder.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

impl OutputFolder {
    /// The output folder at a path; `None` if there is none, or no run has used it yet.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn look(root: &Path) -> io::Result<Option<Self>> {
        Ok(Store::look(root)?.map(|store| Self { store }))
    }

    /// Its id: what outcomes and rows of a queue call it.
    pub fn id(&self) -> &str {
        self.store.id()
    }

    /// Compares a file, named relative to the folder, with what was recorded of it. Reads it whole if a digest is given
    /// and its length is right.
    ///
    /// # Errors
    /// If it is there and cannot be read, or the name leads out of the folder.
    pub fn compare(&self, path: &str, bytes: Option<u64>, sha256: Option<&str>) -> io::Result<FileState> {
        let full = self.store.full(Path::new(path))?;
        let found = match full.symlink_metadata() {
            Ok(found) if !found.is_file() => return Ok(FileState::Altered("it is not a file".to_owned())),
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(FileState::Missing);
            }
            Err(error) => return Err(error),
        };
        if let Some(bytes) = bytes.filter(|bytes| *bytes != found.len()) {
            return Ok(FileState::Altered(format!("it has {} bytes instead of {bytes}", found.len())));
        }
        match sha256 {
            Some(sha256) if sha256_of(&mut File::open(&full)?)? != sha256 => {
                Ok(FileState::Altered("its SHA-256 is another one".to_owned()))
            }
            _ => Ok(FileState::Whole),
        }
    }

    /// Gives a file another name beside its own, so that its name is free for a fresh copy and nothing of it is lost. Returns
    /// the new name; `None` if the file is gone. Replaces nothing: the name is the first free one of `NAME.damaged`,
    /// `NAME.damaged-2` and so on.
    ///
    /// # Errors
    /// If it cannot be renamed, or the name leads out of the folder.
    pub fn set_aside(&self, path: &str) -> io::Result<Option<String>> {
        let from = self.store.full(Path::new(path))?;
        for number in 1..=MOST_SET_ASIDE {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let name = format!("{path}.damaged{suffix}");
            match publish::rename_to_free(&from, &self.store.full(Path::new(&name))?) {
                Ok(true) => return Ok(Some(name)),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let message = format!("{MOST_SET_ASIDE} damaged files of this name lie there already; look at them");
        Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
    }

    /// The parts of a queue that no process holds, by path. Whether a job still needs its part is for the queue to say.
    ///
    /// # Errors
    /// If the folder of the parts cannot be read.
    pub fn leftovers(&self, queue: &str) -> io::Result<Vec<Leftover>> {
        let folder = self.store.parts_of(queue);
        let entries = match fs::read_dir(self.store.root().join(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some(job) = name.to_str().and_then(part::job_of) else { continue };
            let path = folder.join(name);
            if let Lock::Ours(file) = part::lock(&self.store.full(&path)?, false)? {
                found.push(Leftover { job, path, bytes: file.metadata()?.len() });
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Removes a leftover; false if somebody has taken it up meanwhile, or it is gone.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, leftover: &Leftover) -> io::Result<bool> {
        let path = self.store.full(&leftover.path)?;
        match part::lock(&path, false)? {
            Lock::Ours(_held_while_removed) => fs::remove_file(path).map(|()| true),
            Lock::Held | Lock::Missing => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn looking_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(OutputFolder::look(&folder.path().join("none")).unwrap().is_none());
        assert!(OutputFolder::look(folder.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let id = Store::open(folder.path(), None).unwrap().id().to_owned();
        let found = OutputFolder::look(folder.path()).unwrap().unwrap();
        assert_eq!(found.id(), id);
        assert_eq!(found.leftovers("a1").unwrap(), []);
    }

    #[test]
    fn a_file_is_compared_with_what_was_recorded() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path(), None).unwrap();
        fs::write(folder.path().join("a.pdf"), "abc").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let found = OutputFolder::look(folder.path()).unwrap().unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let check = |path: &str, bytes, sha256, state| {
            assert_eq!(found.compare(path, bytes, sha256).unwrap(), state, "{path} {bytes:?}");
        };
        let altered = |how: &str| FileState::Altered(how.to_owned());
        check("a.pdf", Some(3), Some(abc), FileState::Whole);
        check("a.pdf", None, None, FileState::Whole);
        check("b.pdf", Some(3), Some(abc), FileState::Missing);
        check("a.pdf/b", Some(3), Some(abc), FileState::Missing);
        check("a.pdf", Some(4), Some(abc), altered("it has 3 bytes instead of 4"));
        check("a.pdf", Some(3), Some("00"), altered("its SHA-256 is another one"));
        check("folder", Some(3), None, altered("it is not a file"));
        assert!(found.compare("../a.pdf", None, None).is_err());
    }

    #[test]
    fn what_is_damaged_is_kept_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path(), None).unwrap();
        let found = OutputFolder::look(folder.path()).unwrap().unwrap();
        for (text, name) in [("one", "a.pdf.damaged"), ("two", "a.pdf.damaged-2")] {
            fs::write(folder.path().join("a.pdf"), text).unwrap();
            assert_eq!(found.set_aside("a.pdf").unwrap().as_deref(), Some(name));
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), text);
            assert!(!folder.path().join("a.pdf").exists());
        }
        assert_eq!(found.set_aside("a.pdf").unwrap(), None, "it is gone");
        assert!(found.set_aside("../a.pdf").is_err());
    }

    #[test]
    fn only_parts_that_nobody_holds_are_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), None).unwrap().for_queue("a1").unwrap();
        let held = part::claim(&store, 7, 1).unwrap();
        for name in ["8.part", "9-2.part", "9.part.txt"] {
            fs::write(store.parts().join(name), "xx").unwrap();
        }
        let found = OutputFolder::look(folder.path()).unwrap().unwrap();
        let left = found.leftovers("a1").unwrap();
        let shown: Vec<_> = left.iter().map(|one| (one.job, one.bytes)).collect();
        assert_eq!(shown, [(8, 2), (9, 2)]);
        assert!(found.remove(&left[0]).unwrap());
        assert!(!found.remove(&left[0]).unwrap(), "it is gone");
        assert_eq!(found.leftovers("b2").unwrap(), [], "another queue's are its own affair");
        drop(held);
        assert_eq!(found.leftovers("a1").unwrap().len(), 2);
    }
}
