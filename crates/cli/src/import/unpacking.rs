//! What a file is by its first bytes: text, packed text, or something that has no lines.
//!
//! The name of a file says nothing here: lists are renamed, and stdin has none.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;

/// The size of a read.
const BUFFER: usize = 128 * 1024;
/// So many first bytes tell all kinds from each other.
const HEAD: usize = 512;

/// Opens text that may be packed with gzip or zstd. Archives of several members are read as one text.
pub(super) fn text<'i>(name: &str, input: impl Read + 'i) -> Result<Box<dyn BufRead + 'i>> {
    let unreadable = || format!("{name} cannot be read");
    let (head, input) = with_head(input).with_context(unreadable)?;
    let input = BufReader::with_capacity(BUFFER, input);
    let (packing, unpacked): (_, Box<dyn Read + 'i>) = if head.starts_with(b"\x1f\x8b") {
        ("gzip", Box::new(MultiGzDecoder::new(input)))
    } else if head.starts_with(b"\x28\xb5\x2f\xfd") {
        ("zstd", Box::new(zstd::Decoder::with_buffer(input).with_context(unreadable)?))
    } else {
        refuse_other_kinds(name, "", &head)?;
        return Ok(Box::new(input));
    };
    let (head, unpacked) = with_head(Unpacking { packing, unpacked }).with_context(unreadable)?;
    refuse_other_kinds(name, " inside", &head)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, unpacked)))
}

/// The first bytes, and the whole with them. A pipe may give them one by one. What cannot be read is left to whoever reads
/// that far, for what comes before it is good.
fn with_head<'i>(mut input: impl Read + 'i) -> io::Result<(Vec<u8>, Box<dyn Read + 'i>)> {
    let mut head = Vec::with_capacity(HEAD);
    let fault = input.by_ref().take(HEAD as u64).read_to_end(&mut head).err();
    let whole = Cursor::new(head.clone());
    Ok(match fault {
        None => (head, Box::new(whole.chain(input))),
        Some(error) if head.is_empty() => return Err(error),
        Some(error) => (head, Box::new(whole.chain(Fault(Some(error))))),
    })
}

/// An input that ended in an error.
struct Fault(Option<io::Error>);

impl Read for Fault {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Unpacks, and says so when it cannot: the words of the libraries are about their own formats' insides.
struct Unpacking<R> {
    packing: &'static str,
    unpacked: R,
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.unpacked.read(buffer).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::Interrupted => return error,
                io::ErrorKind::UnexpectedEof => "is cut off",
                _ => "is damaged",
            };
            io::Error::new(error.kind(), format!("the {} in it {what} ({error})", self.packing))
        })
    }
}

/// Refuses what would only give a million bad lines, and says what to do instead.
fn refuse_other_kinds(name: &str, place: &str, head: &[u8]) -> Result<()> {
    const KINDS: [(usize, &[u8], &str, &str); 10] = [
        (0, b"\x1f\x8b", "compressed with gzip", "unpack it once more"),
        (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it once more"),
        (
            0,
            b"BZh",
            "compressed with bzip2",
            "unpack it into the program: `bzcat FILE | longhaul queue import -`",
        ),
        (
            0,
            b"\xfd7zXZ\0",
            "compressed with xz",
            "unpack it into the program: `xzcat FILE | longhaul queue import -`",
        ),
        (0, b"PK\x03\x04", "a zip archive", "unpack it first"),
        (257, b"ustar", "a tar archive", "unpack it first"),
        (
            0,
            b"SQLite format 3\0",
            "an SQLite database",
            "an import takes JSONL, DOIs or URLs; the queue of DocsToKG is taken over with --from-docstokg",
        ),
        (0, b"PAR1", "a Parquet file", "an import takes JSONL, DOIs or URLs"),
        (0, b"\xff\xfe", "UTF-16", "save it as UTF-8"),
        (0, b"\xfe\xff", "UTF-16", "save it as UTF-8"),
    ];
    let is = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, what, instead)) = KINDS.iter().find(|(at, magic, _, _)| is(*at, magic)) {
        bail!("{name} is {what}{place}, not lines of text; {instead}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    fn zst(text: &[u8]) -> Vec<u8> {
        // With a checksum, as the `zstd` program packs.
        let mut packed = zstd::Encoder::new(Vec::new(), 3).unwrap();
        packed.include_checksum(true).unwrap();
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    fn read(packed: impl Read) -> Result<Vec<u8>> {
        let mut unpacked = Vec::new();
        text("list", packed)?.read_to_end(&mut unpacked)?;
        Ok(unpacked)
    }

    /// Gives one byte at a time, as a slow pipe may.
    struct OneByOne<'b>(&'b [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn packed_and_plain_text_read_the_same() {
        let lines: Vec<u8> =
            (0..20_000).flat_map(|n| format!("https://h.example/{n}\n").into_bytes()).collect();
        for packed in [lines.clone(), gzip(&lines), zst(&lines)] {
            assert!(read(packed.as_slice()).unwrap() == lines);
            assert!(read(OneByOne(&packed)).unwrap() == lines);
        }
        for short in [&b""[..], b"a", b"\x1f"] {
            assert_eq!(read(short).unwrap(), short);
            assert_eq!(read(gzip(short).as_slice()).unwrap(), short);
            assert_eq!(read(zst(short).as_slice()).unwrap(), short);
        }
    }

    #[test]
    fn archives_of_several_members_are_one_text() {
        for pack in [gzip, zst] {
            let packed = [pack(b"a\nb"), pack(b""), pack(b"c\n")].concat();
            assert_eq!(read(packed.as_slice()).unwrap(), b"a\nbc\n");
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error_and_never_an_end() {
        let lines: Vec<u8> = (0..5_000).flat_map(|n| format!("{}\n", n * 7_919).into_bytes()).collect();
        for (packed, name) in [(gzip(&lines), "gzip"), (zst(&lines), "zstd")] {
            for length in [packed.len() / 2, packed.len() - 1] {
                let error = format!("{:#}", read(&packed[..length]).unwrap_err());
                assert!(error.contains(&format!("the {name} in it is cut off")), "{error}");
            }
            let mut damaged = packed.clone();
            for byte in &mut damaged[packed.len() / 2..][..64] {
                *byte ^= 0x55;
            }
            assert!(read(damaged.as_slice()).is_err());
        }
        assert!(text("list", &gzip(b"a")[..5]).is_err());
    }

    #[test]
    fn what_has_no_lines_is_refused_packed_or_not() {
        let mut tar = vec![0; 600];
        tar[257..262].copy_from_slice(b"ustar");
        for (content, what) in [
            (tar.as_slice(), "a tar archive"),
            (b"SQLite format 3\0", "an SQLite database"),
            (b"PK\x03\x04", "a zip archive"),
        ] {
            let refused = |packed: &[u8]| text("list", packed).err().unwrap().to_string();
            assert!(refused(content).starts_with(&format!("list is {what}, not lines")));
            assert!(refused(&gzip(content)).starts_with(&format!("list is {what} inside, not lines")));
        }
        assert!(text("list", gzip(&gzip(b"a")).as_slice()).err().unwrap().to_string().contains("once more"));
    }
}
