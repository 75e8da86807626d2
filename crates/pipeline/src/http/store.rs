//! The output folder: where things are in it, and whose it is.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::SetupError;
use super::hex;

/// What belongs to longhaul and not to the user, within the output folder.
pub(super) const OWN_FOLDER: &str = ".longhaul";
/// The length of a store's id.
const ID_DIGITS: usize = 32;

/// An output folder. Knows paths; reads and writes nothing but its own id.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    /// The device that it was on when it was opened.
    device: u64,
    manifest: PathBuf,
    id: String,
    /// Of the parts, relative to the root.
    parts: PathBuf,
    /// One reference beside this for each body that is on its way.
    bodies: Arc<()>,
}

impl Store {
    /// Opens a folder for writing, and makes it if it is not there.
    pub(super) fn open(root: &Path, manifest: Option<&Path>) -> Result<Self, SetupError> {
        // Absolute, so that a change of the working directory later does not move the store.
        let root = std::path::absolute(root)
            .map_err(|error| SetupError::output("find the output folder", root, error))?;
        let parts = root.join(OWN_FOLDER).join("parts");
        fs::create_dir_all(&parts)
            .map_err(|error| SetupError::output("create the output folder", &parts, error))?;
        let id_path = root.join(OWN_FOLDER).join("store");
        let id = read_or_make_id(&id_path).map_err(|error| SetupError::output("write", &id_path, error))?;
        let device = fs::metadata(&root)
            .map_err(|error| SetupError::output("look at the output folder", &root, error))?
            .dev();
        probe(&parts).map_err(|error| SetupError::output("write to the output folder", &parts, error))?;
        let manifest = match manifest {
            Some(path) => {
                let path = std::path::absolute(path)
                    .map_err(|error| SetupError::output("find the manifest", path, error))?;
                // Found out now, and not when the first file is to be published.
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder).map_err(|error| {
                        SetupError::manifest("create the folder of the manifest,", folder, error)
                    })?;
                }
                let unwritable = |error| SetupError::manifest("write the manifest", &path, error);
                let file = File::options().append(true).create(true).open(&path).map_err(unwritable)?;
                // It is read as well, and a device or a pipe may have no end.
                if !file.metadata().map_err(unwritable)?.is_file() {
                    return Err(unwritable(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
                }
                path
            }
            None => root.join("manifest.jsonl"),
        };
        let parts = Path::new(OWN_FOLDER).join("parts");
        Ok(Self { root, device, manifest, id, parts, bodies: Arc::default() })
    }

    /// Looks at a folder without changing anything in it; `None` if it is no output folder.
    pub(super) fn look(root: &Path) -> io::Result<Option<Self>> {
        let root = std::path::absolute(root)?;
        let id = match fs::read_to_string(root.join(OWN_FOLDER).join("store")) {
            Ok(text) => text.trim_end().to_owned(),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let device = fs::metadata(&root)?.dev();
        let (manifest, parts) = (root.join("manifest.jsonl"), Path::new(OWN_FOLDER).join("parts"));
        Ok(Some(Self { root, device, manifest, id, parts, bodies: Arc::default() }))
    }

    /// The folder of the parts of one queue, relative to the root.
    pub(super) fn parts_of(&self, queue: &str) -> PathBuf {
        let name: String = queue.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        self.parts.join(name)
    }

    /// The same folder with parts of a queue's own: jobs are numbered by their queue, so two queues that share a folder
    /// would otherwise take each other's parts for leftovers of their own.
    pub(super) fn for_queue(mut self, queue: &str) -> Result<Self, SetupError> {
        self.parts = self.parts_of(queue);
        let parts = self.parts();
        fs::create_dir_all(&parts)
            .map_err(|error| SetupError::output("create the output folder", &parts, error))?;
        Ok(self)
    }

    /// Makes the folder of the parts again, if somebody has emptied the output folder while it was in use. The output
    /// folder itself is not made again, and another disk's is not taken for it: where its disk was taken away, files
    /// would fill another one.
    pub(super) fn restore(&self) -> io::Result<()> {
        let root = self.root.display();
        let gone =
            |what: &str| io::Error::new(io::ErrorKind::NotFound, format!("the output folder {root} {what}"));
        let about = fs::metadata(&self.root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => gone("is gone; make it again"),
            _ => error,
        })?;
        if about.dev() != self.device {
            return Err(gone("is on another disk than before; mount the right one"));
        }
        fs::create_dir_all(self.parts())?;
        let id = self.root.join(OWN_FOLDER).join("store");
        if !id.try_exists()? {
            fs::write(&id, format!("{}\n", self.id))?;
        }
        Ok(())
    }

    /// Counts one more body until the answer is dropped; its references, less one, are how many there are.
    pub(super) fn count_body(&self) -> Arc<()> {
        Arc::clone(&self.bodies)
    }

    /// A random id that was given to the folder when it was first used.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn manifest(&self) -> &Path {
        &self.manifest
    }

    /// The folder of the parts: within the output folder, so that a rename never crosses file systems.
    pub(super) fn parts(&self) -> PathBuf {
        self.root.join(&self.parts)
    }

    /// The path of a part relative to the folder, as outcomes and checkpoints carry it.
    pub(super) fn part_path(&self, name: &str) -> PathBuf {
        self.parts.join(name)
    }

    /// The full path of something in the folder. Refuses paths that lead out of it: they come from a database.
    pub(super) fn full(&self, relative: &Path) -> io::Result<PathBuf> {
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || relative.as_os_str().is_empty() {
            let message = format!("{} is not a path within the output folder", relative.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(self.root.join(relative))
    }
}

/// Reads the id, or makes one. The lock makes that atomic between processes; an id that a crash tore was never told
/// to anybody and is made anew.
fn read_or_make_id(path: &Path) -> io::Result<String> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    let mut text = String::new();
    // Bytes that are no text are no id either.
    if file.read_to_string(&mut text).is_ok() {
        let id = text.trim_end();
        if id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(id.to_owned());
        }
    }
    let id = random_id();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        sync_folder(folder)?;
    }
    Ok(id)
}

/// 128 random bits in hexadecimal. It only has to be another one elsewhere; it is no secret.
pub(super) fn random_id() -> String {
    hex(&fastrand::u128(..).to_be_bytes())
}

/// Finds out now, and not when the first file has been downloaded, that nothing can be written.
fn probe(parts: &Path) -> io::Result<()> {
    let path = parts.join(format!("probe-{}", random_id()));
    File::create_new(&path)?;
    fs::remove_file(&path)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_store_keeps_its_id_and_another_has_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = Store::open(&one.path().join("a/b"), None).unwrap().id().to_owned();
        assert_eq!(id.len(), ID_DIGITS);
        assert_eq!(Store::open(&one.path().join("a/b"), None).unwrap().id(), id);
        assert_ne!(Store::open(two.path(), None).unwrap().id(), id);
    }

    #[test]
    fn a_torn_id_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path(), None).unwrap();
        fs::write(folder.path().join(".longhaul/store"), [b'a', 0xff]).unwrap();
        let id = Store::open(folder.path(), None).unwrap().id().to_owned();
        assert_eq!(id.len(), ID_DIGITS);
        assert_eq!(Store::open(folder.path(), None).unwrap().id(), id);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let message = Store::open(&file.join("out"), None).unwrap_err().to_string();
        assert!(message.contains("file/out") && message.contains("choose an output folder"), "{message}");
    }

    #[test]
    fn a_manifest_elsewhere_is_made_with_its_folder_or_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("lists/mine.jsonl");
        let store = Store::open(&folder.path().join("out"), Some(&manifest)).unwrap();
        assert_eq!(store.manifest(), manifest);
        assert!(manifest.is_file());
        let message =
            Store::open(&folder.path().join("out"), Some(&manifest.join("x"))).unwrap_err().to_string();
        assert!(message.contains("lists/mine.jsonl"), "{message}");
        let device = Path::new("/dev/null");
        let message = Store::open(&folder.path().join("out"), Some(device)).unwrap_err().to_string();
        assert!(message.contains("/dev/null: it is not a file"), "{message}");
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), None).unwrap();
        for out in ["", "..", "../x", "a/../../x", "/etc/passwd", "./x"] {
            assert!(store.full(Path::new(out)).is_err(), "{out:?}");
        }
        assert_eq!(store.full(Path::new("a/b.pdf")).unwrap(), store.root().join("a/b.pdf"));
    }
}
