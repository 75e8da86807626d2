//! Part files: `OUTPUT/.longhaul/parts/<job>.part`, each under an OS lock while its writer is at work.
//!
//! The lock, and not the name, says whose a part is: two processes may work on one job when the first has lost its
//! claim without knowing it yet. The later one then takes a name of its own.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::store::Store;

/// What became of an attempt to take a file under lock.
#[derive(Debug)]
pub(super) enum Lock {
    /// It is ours until the file is closed.
    Ours(File),
    /// Somebody else has it.
    Held,
    /// There is no such file.
    Missing,
}

/// Takes a file under lock; makes it if `create`.
pub(super) fn lock(path: &Path, create: bool) -> io::Result<Lock> {
    loop {
        let file = match File::options().read(true).write(true).create(create).truncate(false).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(Lock::Missing),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Lock::Held),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between the opening and the lock its former owner may have renamed or removed it: then the lock is on a
        // file without that name.
        if is_at(&file, path)? {
            return Ok(Lock::Ours(file));
        }
    }
}

/// Whether an open file is the one that has this name now.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match path.symlink_metadata() {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A part that is ours.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) file: File,
    /// Its name in the folder of the parts.
    pub(super) name: String,
}

/// Takes an empty part for a try: the job's own, whatever is in it, or one of the claim's if that is held.
pub(super) fn claim(store: &Store, job: i64, fence: i64) -> io::Result<Claim> {
    let names = [format!("{job}.part"), format!("{job}-{fence}.part")];
    for name in names {
        let path = store.parts().join(&name);
        let taken = match lock(&path, true) {
            // The folder is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.restore()?;
                lock(&path, true)?
            }
            taken => taken?,
        };
        if let Lock::Ours(file) = taken {
            file.set_len(0)?;
            return Ok(Claim { file, name });
        }
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        format!("the parts of job {job} are held by another process"),
    ))
}

/// Takes a part that an earlier try left, as it is. `None` if it is gone, held by somebody, or no part's name.
pub(super) fn reclaim(store: &Store, name: &str) -> io::Result<Option<Claim>> {
    if job_of(name).is_none() {
        return Ok(None);
    }
    Ok(match lock(&store.parts().join(name), false)? {
        Lock::Ours(file) => Some(Claim { file, name: name.to_owned() }),
        Lock::Held | Lock::Missing => None,
    })
}

/// The job that a file in the folder of the parts belongs to, by its name.
pub(super) fn job_of(name: &str) -> Option<i64> {
    let stem = name.strip_suffix(".part")?;
    let (job, fence) = stem.split_once('-').map_or((stem, None), |(job, fence)| (job, Some(fence)));
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    if let Some(fence) = fence {
        let _fence: i64 = number(fence)?;
    }
    number(job)
}

/// Removes the parts of these jobs that nobody holds.
pub(super) fn remove_leftovers(store: &Store, is_ended: impl Fn(i64) -> bool) -> io::Result<()> {
    for entry in std::fs::read_dir(store.parts())? {
        let path: PathBuf = entry?.path();
        let job = path.file_name().and_then(|name| job_of(name.to_str()?));
        if job.is_some_and(&is_ended)
            && let Lock::Ours(_held_while_removed) = lock(&path, false)?
        {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(folder.path(), None).unwrap()
    }

    #[test]
    fn queues_that_share_a_folder_keep_their_parts_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) =
            (store(&folder).for_queue("a1").unwrap(), store(&folder).for_queue("b2").unwrap());
        let committed = claim(&ours, 1, 1).unwrap();
        let path = ours.parts().join(&committed.name);
        std::fs::write(&path, "whole").unwrap();
        drop(committed);
        // The other queue's job of the same number begins, and ends.
        drop(claim(&theirs, 1, 1).unwrap());
        remove_leftovers(&theirs, |job| job == 1).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(ours.full(&ours.part_path("1.part")).unwrap(), path);
    }

    #[test]
    fn an_output_folder_that_was_emptied_is_set_up_again_and_one_that_is_gone_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("out");
        let store = Store::open(&root, None).unwrap().for_queue("a1").unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let error = claim(&store, 1, 1).unwrap_err();
        assert!(error.to_string().contains("is gone; make it again"), "{error}");
        assert!(!root.exists());
        std::fs::create_dir(&root).unwrap();
        claim(&store, 1, 1).unwrap();
        assert_eq!(Store::open(&root, None).unwrap().id(), store.id(), "it is the same store as before");
    }

    #[test]
    fn a_part_that_is_held_is_left_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let first = claim(&store, 7, 1).unwrap();
        let second = claim(&store, 7, 2).unwrap();
        assert_eq!((first.name.as_str(), second.name.as_str()), ("7.part", "7-2.part"));
        assert!(reclaim(&store, "7.part").unwrap().is_none());
        assert!(claim(&store, 7, 2).is_err());
        drop(first);
        assert!(reclaim(&store, "7.part").unwrap().is_some());
    }

    #[test]
    fn leftovers_go_and_what_is_held_or_another_s_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let held = claim(&store, 7, 1).unwrap();
        for name in ["7-3.part", "8.part", "70.part", "7.part.txt"] {
            std::fs::write(store.parts().join(name), "x").unwrap();
        }
        remove_leftovers(&store, |job| job == 7).unwrap();
        let mut left: Vec<String> = std::fs::read_dir(store.parts())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["7.part", "7.part.txt", "70.part", "8.part"]);
        drop(held);
    }

    #[test]
    fn only_names_of_parts_are_parts() {
        assert_eq!(job_of("12.part"), Some(12));
        assert_eq!(job_of("12-3.part"), Some(12));
        for other in ["", ".part", "x.part", "12", "12-.part", "-3.part", "../1.part", "12-x.part", "+1.part"]
        {
            assert_eq!(job_of(other), None, "{other:?}");
        }
    }
}
