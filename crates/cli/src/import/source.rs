//! Where lines come from: files and stdin, opened before anything is imported.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::input::is_same_file;
use super::unpacking;

/// One file, or stdin.
#[derive(Debug)]
pub(crate) struct Source {
    /// As the person named it.
    pub(crate) name: String,
    path: Option<PathBuf>,
    input: Input,
}

#[derive(Debug)]
enum Input {
    /// Can be read again from its start.
    File(File),
    /// A pipe or a terminal.
    Once(File),
    Stdin,
}

impl Source {
    /// Opens what a person named; `-` is stdin.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { name: "stdin".to_owned(), path: None, input: Input::Stdin });
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("{name} cannot be opened"))?;
        let kind = file.metadata().with_context(|| format!("{name} cannot be looked at"))?.file_type();
        if kind.is_dir() {
            bail!("{name} is a folder; name the files in it");
        }
        let input = if kind.is_file() { Input::File(file) } else { Input::Once(file) };
        Ok(Self { name, path: Some(path.to_owned()), input })
    }

    /// Whether this is that file.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.path.as_ref().is_some_and(|own| is_same_file(own, path))
    }

    /// Makes sure that it can be read twice: what can be read only once is first written to a temporary file.
    pub(crate) fn make_repeatable(&mut self) -> Result<()> {
        let mut once: Box<dyn Read + '_> = match &mut self.input {
            Input::File(_) => return Ok(()),
            Input::Once(file) => Box::new(file),
            Input::Stdin => Box::new(io::stdin().lock()),
        };
        let mut spool = tempfile::tempfile().context("a temporary file cannot be made")?;
        io::copy(&mut once, &mut spool)
            .with_context(|| format!("{} cannot be copied to a temporary file", self.name))?;
        drop(once);
        self.input = Input::File(spool);
        Ok(())
    }

    /// Its text, unpacked; from its start, if it can be read again.
    pub(crate) fn reader(&mut self) -> Result<Box<dyn BufRead + '_>> {
        let name = &self.name;
        let input: Box<dyn Read> = match &mut self.input {
            Input::File(file) => {
                file.rewind().with_context(|| format!("{name} cannot be read from its start"))?;
                Box::new(file)
            }
            Input::Once(file) => Box::new(file),
            Input::Stdin => Box::new(io::stdin()),
        };
        unpacking::text(name, input)
    }
}
