//! Lines of a length that fits into memory, whatever the file holds.

use std::io::{self, BufRead};

/// How much of a line that is too long is kept, for the report.
const KEPT: usize = 4096;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A whole line without its end.
    Whole(&'a [u8]),
    /// The start of a line that is longer than allowed; the rest was passed over.
    TooLong(&'a [u8]),
}

/// Reads lines of at most `most` bytes.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    most: usize,
    line: Vec<u8>,
    has_end: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, most: usize) -> Self {
        Self { input, most, line: Vec::new(), has_end: true }
    }

    /// Whether the line that was read last had a line end; only a file's last one may have none.
    pub(crate) fn has_end(&self) -> bool {
        self.has_end
    }

    /// The next line, or `None` at the end. A last line without a line end counts.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        self.has_end = false;
        let mut too_long = false;
        let mut any = false;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                if !any {
                    return Ok(None);
                }
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            // One more than allowed, for a `\r` before the line end.
            if !too_long && self.line.len() + part.len() <= self.most + 1 {
                self.line.extend_from_slice(part);
            } else {
                too_long = true;
                let room = KEPT.saturating_sub(self.line.len()).min(part.len());
                self.line.extend_from_slice(&part[..room]);
            }
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                self.has_end = true;
                break;
            }
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if too_long || self.line.len() > self.most {
            self.line.truncate(KEPT);
            return Ok(Some(Line::TooLong(&self.line)));
        }
        Ok(Some(Line::Whole(&self.line)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn read(input: &[u8], most: usize, buffer: usize) -> Vec<String> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, input), most);
        let mut read = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            read.push(match line {
                Line::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
                Line::TooLong(start) => format!("!{}", String::from_utf8(start.to_vec()).unwrap()),
            });
        }
        read
    }

    #[test]
    fn lines_are_the_same_whatever_the_buffer() {
        for buffer in [1, 2, 3, 7, 64] {
            assert_eq!(
                read(b"a\r\n\nbcd\nefgh\nlast", 4, buffer),
                ["a", "", "bcd", "efgh", "last"],
                "{buffer}"
            );
            assert_eq!(read(b"abcd\r\nabcde\nx\n", 4, buffer), ["abcd", "!abcde", "x"], "{buffer}");
            assert_eq!(read(b"abcdefghijkl\nx", 4, buffer).last().map(String::as_str), Some("x"), "{buffer}");
            assert_eq!(read(b"", 4, buffer), [""; 0]);
            assert_eq!(read(b"\n", 4, buffer), [""]);
        }
    }

    #[test]
    fn a_line_of_any_length_takes_bounded_memory() {
        let huge = io::repeat(b'x').take(8 << 20).chain(&b"\nnext\n"[..]);
        let mut lines = Lines::new(BufReader::new(huge), 1 << 20);
        assert!(matches!(lines.next_line().unwrap(), Some(Line::TooLong(start)) if start.len() == KEPT));
        assert!(lines.line.capacity() <= 4 << 20, "{}", lines.line.capacity());
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"next")));
        assert!(lines.has_end());
    }
}
