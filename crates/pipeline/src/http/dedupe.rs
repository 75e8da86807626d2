//! Files of the same content are stored once: each further name is a hard link to the first.
//!
//! What lies where is remembered beside the files, as symbolic links from a content's SHA-256 to a path. They keep nothing
//! alive: a file that is removed is gone. Nor are they believed: a link is made only to a file that was read and has that
//! SHA-256 (INV-WHOLE-FILE). So it does no harm if one is lost, is stale, or leads to a file that somebody has changed; then
//! the content is stored once more.
//!
//! It knows the files of runs that used it, not those of others.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::error::SetupError;
use super::publish::is_file_at;
use super::store::{OWN_FOLDER, Store, random_id};
use crate::PartFile;

/// Where it is remembered, within the folder that is longhaul's own.
const FOLDER: &str = "by-sha256";
/// From there, two folders down, back to the output folder.
const UP: &str = "../../..";

/// What has become of a wish for a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Linked {
    /// The content lies under the name now, stored once.
    Done,
    /// The content is not known, or its file takes no more links: it has to be stored.
    Unknown,
    /// Another file has the name.
    Taken,
}

/// Links instead of copies.
#[derive(Debug)]
pub(super) struct Dedupe {
    folder: PathBuf,
}

/// The right to give contents of one beginning their names; others wait for it, in this process and in others.
#[derive(Debug)]
pub(super) struct Turn {
    _held: File,
}

impl Dedupe {
    /// Finds out that the file system can make hard links.
    pub(super) fn open(store: &Store) -> Result<Self, SetupError> {
        let folder = store.root().join(OWN_FOLDER).join(FOLDER);
        fs::create_dir_all(&folder)
            .map_err(|error| SetupError::output("create the output folder", &folder, error))?;
        let (one, two) =
            (folder.join(format!("probe-{}", random_id())), folder.join(format!("probe-{}", random_id())));
        let linked = File::create_new(&one).and_then(|_| fs::hard_link(&one, &two));
        let _ = (fs::remove_file(&one), fs::remove_file(&two));
        match linked {
            Ok(()) => Ok(Self { folder }),
            Err(error) => Err(SetupError::caused(
                format!(
                    "the file system of {} makes no hard links ({error}), by which files of the same content are stored \
                     once; leave dedupe off, or choose an output folder elsewhere",
                    store.root().display()
                ),
                error,
            )),
        }
    }

    /// Waits for the turn of a content. Blocks for as long as another publishes one like it.
    pub(super) fn turn(&self, file: &PartFile) -> io::Result<Turn> {
        let folder = self.entry(&file.sha256)?.parent().map_or_else(|| self.folder.clone(), Path::to_owned);
        fs::create_dir_all(&folder)?;
        let lock = File::options().write(true).create(true).truncate(false).open(folder.join("turn"))?;
        lock.lock()?;
        Ok(Turn { _held: lock })
    }

    /// Gives known content a further name. What has the name already is replaced only if it may be, which is for the caller
    /// to say. `job` names what a crash leaves behind, so that it goes with the job's other leftovers.
    pub(super) fn link(
        &self,
        _turn: &Turn,
        store: &Store,
        file: &PartFile,
        to: &Path,
        job: i64,
        may_replace: bool,
    ) -> io::Result<Linked> {
        let Some(known) = self.known(store, file)? else { return Ok(Linked::Unknown) };
        match fs::hard_link(&known, to) {
            Ok(()) => return Ok(Linked::Done),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if is_too_many(&error) || error.kind() == io::ErrorKind::NotFound => {
                return Ok(Linked::Unknown);
            }
            Err(error) => return Err(error),
        }
        if is_one_file(&known, to)? {
            return Ok(Linked::Done);
        }
        if !may_replace && !is_file_at(to, &file.sha256, file.bytes)? {
            return Ok(Linked::Taken);
        }
        let beside = store.parts().join(format!("{job}-{}.part", fastrand::u32(..)));
        match fs::hard_link(&known, &beside) {
            Ok(()) => fs::rename(&beside, to).map(|()| Linked::Done),
            Err(error) if is_too_many(&error) => Ok(Linked::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Remembers where a content lies now.
    pub(super) fn remember(&self, _turn: &Turn, file: &PartFile) -> io::Result<()> {
        let entry = self.entry(&file.sha256)?;
        let target = Path::new(UP).join(&file.path);
        match symlink(&target, &entry) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&entry)?;
                symlink(&target, &entry)
            }
            made => made,
        }
    }

    /// The whole file that is known to have this content. Reads it.
    fn known(&self, store: &Store, file: &PartFile) -> io::Result<Option<PathBuf>> {
        let target = match fs::read_link(self.entry(&file.sha256)?) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whoever else made such a link has no say in what is linked.
        let Ok(path) = target.strip_prefix(UP).map_err(io::Error::other).and_then(|path| store.full(path))
        else {
            return Ok(None);
        };
        Ok(is_file_at(&path, &file.sha256, file.bytes)?.then_some(path))
    }

    /// Where a content is remembered. The digest comes from a database.
    fn entry(&self, sha256: &str) -> io::Result<PathBuf> {
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{sha256:?} is no SHA-256")));
        }
        Ok(self.folder.join(&sha256[..2]).join(&sha256[2..]))
    }
}

/// A file has as many names as its file system allows; ext4 allows 65,000.
fn is_too_many(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TooManyLinks
}

fn is_one_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
