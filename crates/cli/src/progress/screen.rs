//! The terminal as the progress bar sees it.

use std::io;

use indicatif::TermLike;

/// A terminal on which the bar's last line ends where its text ends.
///
/// The bar fills that line with blanks. At the screen's edge the `^C` that a terminal echoes would then begin a new line,
/// which the next drawing knows nothing of, and so a line of the bar would stay for ever.
#[derive(Debug)]
pub(super) struct Screen<T>(pub(super) T);

impl<T: TermLike> TermLike for Screen<T> {
    fn width(&self) -> u16 {
        self.0.width()
    }

    fn height(&self) -> u16 {
        self.0.height()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        if text.bytes().all(|byte| byte == b' ') { Ok(()) } else { self.0.write_str(text) }
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
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
        let target = ProgressDrawTarget::term_like(Box::new(Screen(paper.clone())));
        let style = ProgressStyle::with_template("{pos}/{len}\n{msg}").expect("a template");
        let bar = ProgressBar::with_draw_target(Some(10), target).with_style(style);
        bar.set_message("3 failed");
        bar.tick();
        let drawn = paper.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(drawn.contains("0/10") && drawn.ends_with("3 failed"), "{drawn:?}");
    }
}
