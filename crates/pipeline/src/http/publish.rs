//! Publishing: what the queue has recorded gets its final name and its line in the manifest.
//!
//! The order is the point (INV-WHOLE-FILE): the part is fsynced, then the queue commits, and only then is the part
//! renamed, its folder fsynced, its line appended. A crash between any two leaves something that the next start can
//! finish, because every step here looks first whether it has been done.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::dedupe::{Dedupe, Linked};
use super::manifest::{self, LineKey, Manifest};
use super::naming;
use super::part::{self, Lock};
use super::sink::sha256_of;
use super::store::{Store, sync_folder};
use crate::{Ended, PartFile, PublishError};

/// How many of the lines that this process wrote it remembers.
const REMEMBERED_LINES: usize = 4096;

/// Publishes ended jobs, a batch at a time.
#[derive(Debug)]
pub(super) struct Publisher {
    store: Arc<Store>,
    run_id: String,
    /// Where files of the same content are to be stored once.
    dedupe: Option<Dedupe>,
    /// The lines that this process wrote last, so that a repeated call is recognised without reading the manifest.
    written: Mutex<(VecDeque<LineKey>, HashSet<LineKey>)>,
}

/// Where a file is found when it is to be published.
enum Found {
    /// In its part, which is ours.
    Part(PathBuf, PathBuf),
    /// Under its final name already.
    Final,
}

impl Publisher {
    pub(super) fn new(store: Arc<Store>, run_id: String, dedupe: Option<Dedupe>) -> Self {
        Self { store, run_id, dedupe, written: Mutex::default() }
    }

    /// Publishes a batch; blocks on the disk. One answer for each, in order.
    pub(super) fn publish(&self, ended: &[Ended]) -> Vec<Result<(), PublishError>> {
        let mut folders = BTreeSet::new();
        // Which of them may have a line already.
        let mut doubtful = HashSet::new();
        // The locks on recovered parts, held until all is done.
        let mut held = Vec::new();
        let mut results: Vec<Result<(), PublishError>> = ended
            .iter()
            .map(|ended| {
                if ended.recovered {
                    doubtful.insert(LineKey::of(ended));
                }
                let file = ended.fetched.as_ref().and_then(|fetched| fetched.file.as_ref());
                let Some(file) = file else { return Ok(()) };
                let found = self.find(file, &mut held)?;
                match found {
                    Found::Final => {
                        doubtful.insert(LineKey::of(ended));
                        Ok(())
                    }
                    Found::Part(from, to) => self.name(&from, &to, file, ended, &mut folders),
                }
            })
            .collect();
        for folder in &folders {
            if let Err(error) = sync_folder(folder) {
                fail_all(&mut results, &format!("cannot sync the folder {}", folder.display()), &error);
                return results;
            }
        }
        if let Err(error) = self.write_lines(ended, &results, doubtful) {
            let manifest = self.store.manifest().display();
            fail_all(&mut results, &format!("cannot write the manifest {manifest}"), &error);
            return results;
        }
        drop(held);
        let done: HashSet<i64> =
            ended.iter().zip(&results).filter(|(_, result)| result.is_ok()).map(|(e, _)| e.number).collect();
        if let Err(error) = part::remove_leftovers(&self.store, |job| done.contains(&job)) {
            // They cost space and nothing else; the next batch looks again.
            tracing::warn!(%error, "leftover parts could not be removed");
        }
        results
    }

    fn find(&self, file: &PartFile, held: &mut Vec<File>) -> Result<Found, PublishError> {
        if file.store != self.store.id() {
            // Another machine's, or another folder's: it is published there.
            return Err(PublishError::Held);
        }
        let io = |what: &str, path: &Path| {
            let what = format!("cannot {what} {}", path.display());
            move |source| PublishError::Io { what, source }
        };
        let to = Path::new(&file.path);
        let to = self.store.full(to).map_err(io("use the name", to))?;
        let from = self.store.full(&file.part).map_err(io("use the name", &file.part))?;
        let ours = match &file.guard {
            Some(guard) => part::is_at(guard, &from).map_err(io("look at", &from))?,
            None => match part::lock(&from, false).map_err(io("open", &from))? {
                Lock::Held => return Err(PublishError::Held),
                Lock::Missing => false,
                Lock::Ours(mut part) => {
                    let right = is_file(&mut part, &file.sha256, file.bytes).map_err(io("read", &from))?;
                    held.push(part);
                    right
                }
            },
        };
        if ours {
            return Ok(Found::Part(from, to));
        }
        match is_file_at(&to, &file.sha256, file.bytes) {
            Ok(true) => Ok(Found::Final),
            Ok(false) => Err(PublishError::Missing { path: file.path.clone() }),
            Err(error) => Err(io("read", &to)(error)),
        }
    }

    /// Gives a part its final name. A name that another artifact could have is not taken from whoever has it.
    fn name(
        &self,
        from: &Path,
        to: &Path,
        file: &PartFile,
        ended: &Ended,
        folders: &mut BTreeSet<PathBuf>,
    ) -> Result<(), PublishError> {
        let io = |what: &str| {
            let what = format!("cannot {what} {}", to.display());
            move |source| PublishError::Io { what, source }
        };
        let folder = to.parent().unwrap_or(self.store.root());
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(io("make the folder of"))?;
            // The new folders' own names have to be durable as well.
            let above = folder.ancestors().skip(1).take_while(|above| above.starts_with(self.store.root()));
            folders.extend(above.map(Path::to_owned));
        }
        let is_own = naming::is_own(&file.path, &ended.artifact_id);
        match &self.dedupe {
            None => rename(from, to, file, is_own)?,
            Some(dedupe) => {
                let turn = dedupe.turn(file).map_err(io("look for a copy of"))?;
                let linked = dedupe.link(&turn, &self.store, file, to, ended.number, is_own);
                match linked.map_err(io("link"))? {
                    // A crash before this leaves both; the next publication finds them so, and goes on from here.
                    Linked::Done => fs::remove_file(from).map_err(io("remove the part of"))?,
                    Linked::Taken => return Err(PublishError::Taken { path: file.path.clone() }),
                    Linked::Unknown => {
                        rename(from, to, file, is_own)?;
                        if let Err(error) = dedupe.remember(&turn, file) {
                            // It costs a copy and nothing else.
                            tracing::warn!(%error, path = %file.path, "where a file lies could not be remembered");
                        }
                    }
                }
            }
        }
        folders.insert(folder.to_owned());
        folders.insert(self.store.parts());
        Ok(())
    }

    /// Appends the lines that are not there yet.
    fn write_lines(
        &self,
        ended: &[Ended],
        results: &[Result<(), PublishError>],
        mut doubtful: HashSet<LineKey>,
    ) -> io::Result<()> {
        let mut there = self.remembered(ended);
        doubtful.retain(|key| !there.contains(key));
        let mut manifest = Manifest::lock(self.store.manifest())?;
        if !doubtful.is_empty() {
            there.extend(manifest.find(&doubtful)?);
        }
        let (mut lines, mut keys) = (String::new(), Vec::new());
        for (ended, _) in ended.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            let key = LineKey::of(ended);
            if there.insert(key.clone()) {
                lines.push_str(&manifest::line(ended, &self.run_id)?);
                keys.push(key);
            }
        }
        if !lines.is_empty() {
            manifest.append(&lines, self.store.manifest())?;
        }
        self.remember(keys);
        Ok(())
    }

    fn remembered(&self, ended: &[Ended]) -> HashSet<LineKey> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().map(LineKey::of).filter(|key| written.1.contains(key)).collect()
    }

    fn remember(&self, keys: Vec<LineKey>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (order, known) = &mut *written;
        for key in keys {
            if known.insert(key.clone()) {
                order.push_back(key);
            }
            if order.len() > REMEMBERED_LINES
                && let Some(oldest) = order.pop_front()
            {
                known.remove(&oldest);
            }
        }
    }

    /// Removes a part that the queue did not record, if it is really the one of this outcome.
    pub(super) fn discard(&self, file: &PartFile) -> io::Result<()> {
        let Some(guard) = &file.guard else { return Ok(()) };
        let path = self.store.full(&file.part)?;
        if part::is_at(guard, &path)? {
            fs::remove_file(&path)?;
        }
        Ok(())
    }
}

/// The first free one of the paths that a file may have: a file of the same content does not take it.
pub(super) fn free_path(
    store: &Store,
    artifact_id: &str,
    first: String,
    sha256: &str,
    bytes: u64,
) -> io::Result<String> {
    let full = store.full(Path::new(&first))?;
    let taken = match full.symlink_metadata() {
        Ok(_) => !is_file_at(&full, sha256, bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        // A folder of the path is a file.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => true,
        Err(error) => return Err(error),
    };
    if !taken {
        return Ok(first);
    }
    // Whatever is there under that name is an earlier version of this very artifact, and may be replaced.
    naming::next(&first, artifact_id)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidFilename, "no other name is left for the file"))
}

/// Gives a part a name that is free, or that only its own artifact can have.
fn rename(from: &Path, to: &Path, file: &PartFile, is_own: bool) -> Result<(), PublishError> {
    let io = |what: &str| {
        let what = format!("cannot {what} {}", to.display());
        move |source| PublishError::Io { what, source }
    };
    if is_own {
        return fs::rename(from, to).map_err(io("write"));
    }
    if rename_to_free(from, to).map_err(io("write"))? {
        return Ok(());
    }
    if !is_file_at(to, &file.sha256, file.bytes).map_err(io("read"))? {
        return Err(PublishError::Taken { path: file.path.clone() });
    }
    // The very same file: replacing it changes nothing, and the part is gone.
    fs::rename(from, to).map_err(io("write"))
}

/// Renames unless the name is taken; false if it is.
pub(super) fn rename_to_free(from: &Path, to: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // The file system cannot do it in one step. The queue gives a path to one job only, so what could come
        // between these two is a stranger's file.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if to.symlink_metadata().is_ok() {
                return Ok(false);
            }
            fs::rename(from, to).map(|()| true)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn is_file_at(path: &Path, sha256: &str, bytes: u64) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    is_file(&mut File::open(path)?, sha256, bytes)
}

fn is_file(file: &mut File, sha256: &str, bytes: u64) -> io::Result<bool> {
    Ok(file.metadata()?.len() == bytes && sha256_of(file)? == sha256)
}

/// What went wrong with all of them is told to each that had gone well so far.
fn fail_all(results: &mut [Result<(), PublishError>], what: &str, error: &io::Error) {
    for result in results.iter_mut().filter(|result| result.is_ok()) {
        let source = io::Error::new(error.kind(), error.to_string());
        *result = Err(PublishError::Io { what: what.to_owned(), source });
    }
}
