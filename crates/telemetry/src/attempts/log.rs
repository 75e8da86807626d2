//! A file of lines that several processes append to: each append is under an OS lock, what a dead process left of a
//! line is mended before the next one is written, and a file that is full makes room for a new one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::row::Format;

/// How much is read at once when the end of the last line is looked for.
const STEP_BYTES: u64 = 64 * 1024;
/// No line is longer; what is, a power cut left.
const LINE_MAX_BYTES: u64 = 1024 * 1024;

/// How large the file may become, and what becomes of it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptsOptions {
    /// Before it would become larger than so many bytes, `attempts.jsonl` becomes `attempts.1.jsonl`, that
    /// `attempts.2.jsonl`, and so on, and a new one begins. Processes that share a file should agree on it; if they do
    /// not, the smallest size counts.
    pub max_bytes: u64,
    /// So many earlier files are kept, at least one; the oldest is overwritten.
    pub keep: u32,
}

/// 1 GiB each, and nine earlier ones.
impl Default for AttemptsOptions {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, keep: 9 }
    }
}

/// What was found at the file's end and mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The last line was torn, and so many bytes of it were removed.
    Removed(u64),
    /// The last line was whole but for its line feed, which it has now.
    Ended,
}

/// The file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    format: Format,
    options: AttemptsOptions,
    file: File,
}

impl Log {
    /// Opens it, makes it if it is not there, and mends its end.
    pub(super) fn open(
        path: &Path,
        format: Format,
        options: AttemptsOptions,
    ) -> io::Result<(Self, Option<Repair>)> {
        let mut log = Self { path: path.to_owned(), format, options, file: open(path)? };
        log.lock()?;
        let is_ours = log.is_ours();
        let repair = is_ours.and_then(|()| log.mend());
        log.file.unlock()?;
        Ok((log, repair?))
    }

    /// Appends whole lines. On an error none of them is there. Says whether a torn line was mended before.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<bool> {
        self.lock()?;
        let appended = self.append_locked(lines);
        // A lock that cannot be given back ends with the process; the lines count all the same.
        let _ = self.file.unlock();
        appended
    }

    fn append_locked(&mut self, lines: &[u8]) -> io::Result<bool> {
        let mended = self.mend()?.is_some();
        let mut end = self.file.metadata()?.len();
        if end > 0 && end.saturating_add(lines.len() as u64) > self.options.max_bytes {
            self.rotate()?;
            self.lock()?;
            end = self.file.metadata()?.len();
        }
        let mut text = if end == 0 { self.format.head().into_bytes() } else { Vec::new() };
        text.extend_from_slice(lines);
        if let Err(error) = self.file.write_all(&text) {
            // If that fails too, whoever comes next mends a torn line.
            let _ = self.file.set_len(end);
            return Err(error);
        }
        Ok(mended)
    }

    /// Waits for the lock on the file that has the name now: a neighbour may have made a new one.
    fn lock(&mut self) -> io::Result<()> {
        loop {
            self.file.lock()?;
            if is_at(&self.file, &self.path)? {
                return Ok(());
            }
            // Dropped, the old file loses the lock.
            self.file = open(&self.path)?;
        }
    }

    /// Under the lock: nobody else can take the name meanwhile, because taking it needs the lock on this very file.
    fn rotate(&mut self) -> io::Result<()> {
        let keep = self.options.keep.max(1);
        for number in (1..keep).rev() {
            match fs::rename(self.earlier(number), self.earlier(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.earlier(1))
    }

    /// `attempts.3.jsonl`
    fn earlier(&self, number: u32) -> PathBuf {
        let mut name = self.path.file_stem().map_or_else(OsString::new, OsString::from);
        name.push(format!(".{number}"));
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        self.path.with_file_name(name)
    }

    /// Refuses a file that somebody made for another purpose.
    fn is_ours(&mut self) -> io::Result<()> {
        let head = self.format.head();
        let mut found = vec![0; head.len().max(1)];
        self.file.rewind()?;
        let read = read_up_to(&mut self.file, &mut found)?;
        let found = &found[..read];
        let ours = match self.format {
            // Of a torn first line nothing but its beginning may be there.
            Format::Csv => head.as_bytes().starts_with(found),
            Format::JsonLines => found.is_empty() || found == b"{",
        };
        if ours {
            return Ok(());
        }
        let what = match self.format {
            Format::Csv => "it begins with other columns; name another file",
            Format::JsonLines => "it does not hold one JSON object a line; name another file",
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }

    /// If the last line has no end: a whole JSON object gets its line feed, anything else is removed. Of a CSV line
    /// nobody can know whether its last value is whole.
    fn mend(&mut self) -> io::Result<Option<Repair>> {
        let end = self.file.seek(SeekFrom::End(0))?;
        let start = self.start_of_last_line(end)?;
        if start == end {
            return Ok(None);
        }
        if self.format == Format::JsonLines && end - start <= LINE_MAX_BYTES {
            let mut torn = vec![0; (end - start) as usize];
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut torn)?;
            if serde_json::from_slice::<serde_json::Value>(&torn).is_ok_and(|line| line.is_object()) {
                self.file.write_all(b"\n")?;
                return Ok(Some(Repair::Ended));
            }
        }
        self.file.set_len(start)?;
        Ok(Some(Repair::Removed(end - start)))
    }

    /// Where the line begins that has no line feed; `end` if the last one has it.
    fn start_of_last_line(&mut self, end: u64) -> io::Result<u64> {
        let mut start = end;
        while start > 0 {
            // Most often the last byte alone tells that nothing is torn.
            let step = if start == end { 1 } else { STEP_BYTES.min(start) };
            start -= step;
            let mut block = vec![0; step as usize];
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut block)?;
            if let Some(feed) = block.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + feed as u64 + 1);
            }
        }
        Ok(0)
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).read(true).append(true).open(path)
}

/// Whether this open file is the one that has the name now.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(there) => {
            let here = file.metadata()?;
            Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}
