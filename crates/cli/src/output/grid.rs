//! Tables of many rows for people: columns below each other, as wide as the terminal and no wider.

use std::io;
use std::os::fd::AsFd;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::printable;

/// Between two columns.
const GAP: usize = 2;
/// No column is made narrower for want of room.
const NARROWEST: usize = 8;

/// How a column behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Text, never cut.
    Text(&'static str),
    /// A number, its digits below each other.
    Number(&'static str),
    /// Text that is cut where there is no room for it.
    Cut(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Column::Text(name) | Column::Number(name) | Column::Cut(name) => name,
        }
    }
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row: a text for each column. Control characters become visible marks.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table as text. `width` is that of the terminal; without one nothing is cut.
    pub(crate) fn text(&self, width: Option<usize>) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.name().width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        if let Some(most) = width {
            self.shrink(&mut widths, most);
        }
        let header: Vec<String> = self.columns.iter().map(|column| column.name().to_uppercase()).collect();
        let mut text = self.line(&header, &widths, width);
        for row in &self.rows {
            text.push_str(&self.line(row, &widths, width));
        }
        text
    }

    /// Takes from the widest column that may be cut, until all fits or none can give more.
    fn shrink(&self, widths: &mut [usize], most: usize) {
        loop {
            let all = widths.iter().sum::<usize>() + GAP * (widths.len() - 1);
            let cuttable =
                self.columns.iter().enumerate().filter(|(_, column)| matches!(column, Column::Cut(_)));
            let widest = cuttable.map(|(index, _)| index).max_by_key(|index| widths[*index]);
            match widest {
                Some(index) if all > most && widths[index] > NARROWEST => widths[index] -= 1,
                _ => return,
            }
        }
    }

    fn line(&self, cells: &[String], widths: &[usize], most: Option<usize>) -> String {
        let mut line = String::new();
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            let cell = cut(cell, *width);
            let space = " ".repeat(width - cell.width());
            match column {
                Column::Number(_) => line.extend([space.as_str(), cell.as_str()]),
                Column::Text(_) | Column::Cut(_) => line.extend([cell.as_str(), space.as_str()]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        let line = line.trim_end();
        format!("{}\n", most.map_or_else(|| line.to_owned(), |most| cut(line, most)))
    }
}

/// The text if it is no wider than `most`, else its start with a mark that something is missing.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let (mut kept, mut width) = (String::new(), 0);
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        // One column is the mark's.
        if width + 1 > most {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// How wide the terminal is that data goes to; `None` if it goes elsewhere.
pub(crate) fn data_width() -> Option<usize> {
    width_of(io::stdout())
}

/// How wide a stream's terminal is; `None` if it has none.
pub(super) fn width_of(stream: impl AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new([
            Column::Number("job"),
            Column::Text("state"),
            Column::Cut("artifact"),
            Column::Cut("why"),
        ]);
        grid.row(["7", "queued", "doi:10.1000/short", ""].map(str::to_owned));
        grid.row(
            ["1234", "in_progress", "https://example.org/a/long/way/to/a/file.pdf", "bad\u{7}"]
                .map(str::to_owned),
        );
        grid.row(["8", "done", "数数数数数数数数数数数数数数数数数数数数数数", "ok"].map(str::to_owned));
        grid
    }

    #[test]
    fn without_a_terminal_nothing_is_cut() {
        insta::assert_snapshot!(grid().text(None));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [20, 40, 45, 60, 80, 200] {
            for line in grid().text(Some(width)).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        insta::assert_snapshot!(grid().text(Some(50)));
        assert_eq!(grid().text(Some(200)), grid().text(None));
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("数数数", 4), "数…");
    }
}
