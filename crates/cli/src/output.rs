//! What people and scripts see: data on stdout, everything else on stderr.

mod grid;
mod human;
mod logging;
mod repeats;
mod time;
mod wrap;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;

use grid::width_of;
pub(crate) use grid::{Column, Grid, cut, data_width};
pub(crate) use human::{bytes, count, duration, number_of, pause, rate};
pub(crate) use logging::Logging;
pub(crate) use time::{from_now, rfc3339, wall};

/// The way to the person at the other end. Clones share it.
///
/// Lines and a progress bar take turns, so that neither tears the other. Control characters never reach the terminal:
/// much of what is said was written by strangers.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    quiet: bool,
    colour: bool,
    terminal: bool,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Console {
    /// The process's own streams.
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            quiet,
            colour: terminal && !no_colour && !dumb,
            terminal: terminal && !dumb,
            bar: Arc::default(),
        }
    }

    /// Whether progress and hints are unwanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether a bar can be drawn.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Something that is good to know; not said if quiet.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.plain(line);
        }
    }

    /// Something to look after.
    pub(crate) fn warn(&self, line: &str) {
        self.marked("33;1", "warning:", line);
    }

    /// Something that went wrong.
    pub(crate) fn error(&self, line: &str) {
        self.marked("31;1", "error:", line);
    }

    /// A line as it is, said even if quiet.
    pub(crate) fn plain(&self, line: &str) {
        self.line(&wrap::wrapped(&printable(line), self.width()));
    }

    /// From now on lines are written above this bar.
    pub(crate) fn show_bar(&self, bar: ProgressBar) {
        *self.lock() = Some(bar);
    }

    /// The bar goes away.
    pub(crate) fn hide_bar(&self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
    }

    fn marked(&self, code: &str, mark: &str, line: &str) {
        let line = wrap::wrapped(&format!("{mark} {}", printable(line)), self.width());
        self.line(&line.replacen(mark, &self.paint(code, mark), 1));
    }

    /// How wide the terminal is; `None` without one.
    pub(crate) fn width(&self) -> Option<usize> {
        self.terminal.then(|| width_of(io::stderr())).flatten()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn line(&self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Nobody can be told that stderr is closed, so that is not an error.
    fn write(&self, text: &[u8]) {
        let guard = self.lock();
        let write = || {
            let _ = io::stderr().lock().write_all(text);
        };
        match guard.as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes sentences for people to stdout, as wide as its terminal.
pub(crate) fn print_text(text: &str) -> io::Result<()> {
    print_data(&wrap::wrapped(text, data_width()))
}

/// Writes data to stdout. A reader that has seen enough (`head`) is no error.
pub(crate) fn print_data(text: &str) -> io::Result<()> {
    write_data(&format!("{}\n", text.trim_end_matches('\n'))).map(drop)
}

/// Writes a help's text to stdout, with its marks where they show.
pub(crate) fn print_help(help: &clap::builder::StyledStr) -> io::Result<()> {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if data_can_be_redrawn() && !no_colour {
        return print_data(&help.ansi().to_string());
    }
    print_data(&help.to_string())
}

/// Writes data to stdout as it is; false if its reader has seen enough.
pub(crate) fn write_data(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let message = format!(
                "the result cannot be written to standard output: {error}; make room, or send it elsewhere, and ask again"
            );
            Err(io::Error::new(error.kind(), message))
        }
    }
}

/// Whether data goes to a terminal on which earlier lines can be replaced.
pub(crate) fn data_can_be_redrawn() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Lines of a name and a value, the values below each other.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {}\n", printable(value));
    rows.iter().map(line).collect()
}

/// The text with a visible mark for each control character, line ends too.
pub(crate) fn printable(text: &str) -> String {
    // Marks that turn the direction of writing can make a line say something else than it does.
    let hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d");
        assert_eq!(printable("Größe 数"), "Größe 数");
    }

    #[test]
    fn a_table_has_its_values_below_each_other() {
        let rows = [("queued", "1".to_owned()), ("in progress", "2\u{7}".to_owned())];
        assert_eq!(table(&rows), "queued       1\nin progress  2\u{fffd}\n");
    }
}
