//! Where a report goes: a page and its data beside each other, written whole or not at all.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Report;
use super::page;

/// How much of a file is looked at to see whether it is a report.
const HEAD_BYTES: u64 = 1024;

/// A name that a report can have: `run.html` for a page, with `run.json` beside it, or `run.json` for the data alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTarget {
    page: Option<PathBuf>,
    data: PathBuf,
}

impl FromStr for ReportTarget {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let path = PathBuf::from(name);
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("html" | "htm") => Ok(Self { data: path.with_extension("json"), page: Some(path) }),
            Some("json") => Ok(Self { page: None, data: path }),
            _ => Err("a name that ends in .html is needed, or one in .json for the data alone".to_owned()),
        }
    }
}

impl ReportTarget {
    /// What was asked for.
    pub fn path(&self) -> &Path {
        self.page.as_deref().unwrap_or(&self.data)
    }

    /// The files that a report is written to.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.marked().map(|(path, _)| path)
    }

    /// Looks whether reports can be written there, so that a run of weeks does not find out at its end.
    ///
    /// # Errors
    /// If the folder cannot be written to, or somebody else's file has one of the names.
    pub fn open(self) -> io::Result<ReportFiles> {
        for (path, mark) in self.marked() {
            is_free(path, mark)?;
            // The very way in which it is going to be written.
            let trial = tempfile::NamedTempFile::new_in(folder_of(path));
            trial.map_err(|error| io::Error::new(error.kind(), format!("its folder: {error}")))?;
        }
        Ok(ReportFiles { target: self })
    }

    /// Each file with what a report of its kind has in its first kilobyte.
    fn marked(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let page = self.page.as_deref().map(|path| (path, page::MARK));
        page.into_iter().chain([(self.data.as_path(), "\"kind\": \"longhaul run report\"")])
    }
}

/// A place for a report.
#[derive(Debug)]
pub struct ReportFiles {
    target: ReportTarget,
}

impl ReportFiles {
    /// Writes the report, each file in one step: what was there before stays until the new one is whole and on disk.
    /// Returns the names.
    ///
    /// # Errors
    /// If one cannot be written. The data are written first.
    pub fn write(&self, report: &Report) -> io::Result<Vec<PathBuf>> {
        let mut data = serde_json::to_vec_pretty(report)?;
        data.push(b'\n');
        replace(&self.target.data, &data)?;
        let mut written = vec![self.target.data.clone()];
        if let Some(page) = &self.target.page {
            let name = self.target.data.file_name().map(|name| name.to_string_lossy().into_owned());
            replace(page, page::html(report, name.as_deref()).as_bytes())?;
            written.insert(0, page.clone());
        }
        Ok(written)
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    // Another name than a temporary file's is readable by others, as what anybody creates is.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".report-").tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether nobody else's file would be overwritten.
fn is_free(path: &Path, mark: &str) -> io::Result<()> {
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(HEAD_BYTES).read_to_end(&mut head)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if String::from_utf8_lossy(&head).contains(mark) || head.is_empty() {
        return Ok(());
    }
    let name = path.display();
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{name} is there and is no report; name another file"),
    ))
}

/// For tests: what lies in a folder.
#[cfg(test)]
pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
