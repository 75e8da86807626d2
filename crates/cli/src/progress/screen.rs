//! The terminal as the progress bar sees it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::TermLike;

/// A terminal on which the bar's last line ends where its text ends, with one blank behind it.
///
/// The bar fills each of its lines with blanks, which is how it gets to the next one. At the end of the last, at the
/// screen's edge, the `^C` that a terminal echoes would begin a new line, which the next drawing knows nothing of, and so a
/// line of the bar would stay for ever.
#[derive(Debug)]
pub(super) struct Screen<T> {
    inner: T,
    /// Blanks that are written only if something follows them.
    held_back: AtomicUsize,
}

impl<T: TermLike> Screen<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, held_back: AtomicUsize::new(0) }
    }

    fn fill(&self, most: usize) -> io::Result<()> {
        match self.held_back.swap(0, Ordering::Relaxed).min(most) {
            0 => Ok(()),
            blanks => self.inner.write_str(&" ".repeat(blanks)),
        }
    }
}

impl<T: TermLike> TermLike for Screen<T> {
    fn width(&self) -> u16 {
        self.inner.width()
    }

    fn height(&self) -> u16 {
        self.inner.height()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.inner.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.inner.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.inner.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.inner.move_cursor_left(n)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.inner.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        if text.bytes().all(|byte| byte == b' ') {
            self.held_back.fetch_add(text.len(), Ordering::Relaxed);
            return Ok(());
        }
        self.fill(usize::MAX)?;
        self.inner.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.inner.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.fill(1)?;
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

    use super::*;

    /// Keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl Paper {
        fn write(&self, text: &str) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write(&format!("{line}\n"));
            Ok(())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.write(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_last_line_of_the_bar_ends_where_its_text_ends() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(Screen::new(paper.clone())));
        let style = ProgressStyle::with_template("{pos}/{len}\n{msg}").expect("a template");
        let bar = ProgressBar::with_draw_target(Some(10), target).with_style(style);
        // Without a message there is no second line.
        for (message, expected) in
            [("3 failed", format!("{}3 failed ", " ".repeat(76))), ("", " ".to_owned())]
        {
            paper.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
            bar.set_message(message);
            bar.tick();
            let drawn = paper.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            assert_eq!(drawn.rsplit_once("0/10").map(|(_, rest)| rest), Some(expected.as_str()), "{drawn:?}");
        }
    }
}
