//! Writes a body to its part: hashes on the way, and does both off the runtime's threads.
//!
//! Chunks are gathered until a hand-over to a blocking thread is worth its price; while one lot is written, the
//! next is gathered. A part is opened when its first lot is written, so a body that is refused by its head costs
//! no file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::check::{HEAD_BYTES, TAIL_BYTES};
use super::hex;
use super::part;
use super::publish;
use super::store::{Store, sync_folder};

/// How much is gathered before it is written: each hand-over wakes a thread,
const MOST_LOT_BYTES: usize = 256 * 1024;
/// but of many bodies at a time no more than this each,
const LEAST_LOT_BYTES: usize = 128 * 1024;
/// so that all lots together stay near this (INV-BOUNDED). A body has two: one comes while the other is written.
const ALL_LOTS_BYTES: usize = 8 * 1024 * 1024;

/// A body on its way to its part.
#[derive(Debug)]
pub(super) struct Sink {
    writer: Writer,
    lot: Vec<u8>,
    /// How many bytes of a lot are worth a hand-over.
    lot_bytes: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
    bytes: u64,
}

/// Where the part's state is: here, or on a blocking thread with a lot.
#[derive(Debug)]
enum Writer {
    Here(Box<Part>),
    Away(JoinHandle<(Box<Part>, io::Result<()>)>),
    /// Its thread panicked; nothing can be said of the part any more.
    Lost,
}

#[derive(Debug)]
struct Part {
    store: Arc<Store>,
    job: i64,
    fence: i64,
    open: Option<part::Claim>,
    digest: Sha256,
    /// A written lot, whose memory the next one uses.
    spare: Vec<u8>,
    /// Counts as long as this is there.
    count: Arc<()>,
}

/// What became of a whole body.
#[derive(Debug)]
pub(super) enum Sealed {
    /// It is on the disk.
    Whole {
        /// The part, still under lock.
        file: Arc<File>,
        /// Its path relative to the store.
        part: PathBuf,
        /// Its digest.
        sha256: String,
        /// The free path that its final name may have, relative to the store.
        path: String,
    },
    /// Its digest, which is not the one that was asked for.
    OtherDigest(String),
}

/// What a whole body is to be.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The digest that was asked for, if one was.
    pub(super) sha256: Option<String>,
    /// Whose body it is.
    pub(super) artifact_id: String,
    /// The first choice for its path, relative to the store.
    pub(super) path: String,
}

impl Sink {
    /// A sink for a body from its first byte on.
    pub(super) fn new(store: Arc<Store>, job: i64, fence: i64) -> Self {
        Self::with(Part::new(store, job, fence, None), Vec::new(), Vec::new(), 0)
    }

    /// A sink that goes on after the first `bytes` of a part. `None` if the part is not there, held by somebody else,
    /// or shorter.
    pub(super) async fn resume(
        store: Arc<Store>,
        job: i64,
        fence: i64,
        name: String,
        bytes: u64,
    ) -> io::Result<Option<Self>> {
        let resumed = tokio::task::spawn_blocking(move || {
            let Some(claim) = part::reclaim(&store, &name)? else { return Ok(None) };
            let mut part = Part::new(store, job, fence, Some(claim));
            part.take_up(bytes).map(|seen| seen.map(|(head, tail)| Self::with(part, head, tail, bytes)))
        });
        resumed.await.map_err(io::Error::other)?
    }

    fn with(part: Part, head: Vec<u8>, tail: Vec<u8>, bytes: u64) -> Self {
        let lot_bytes = lot_bytes(Arc::strong_count(&part.count) - 1);
        Self { writer: Writer::Here(Box::new(part)), lot: Vec::new(), lot_bytes, head, tail, bytes }
    }

    /// The body's first bytes, at most [`HEAD_BYTES`].
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Its last bytes, at most [`TAIL_BYTES`].
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Makes room for what is announced, so that the first lot does not grow step by step.
    pub(super) fn announce(&mut self, bytes: u64) {
        // The last chunk before a hand-over may go beyond the lot.
        let most = self.lot_bytes + self.lot_bytes / 4;
        self.lot.reserve(usize::try_from(bytes).map_or(most, |bytes| bytes.min(most)));
    }

    /// How much of it is here, resumed bytes included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a chunk. May wait for the disk. Cancel-safe in that a dropped call leaves a part that is never used.
    pub(super) async fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.bytes += chunk.len() as u64;
        let head = chunk.len().min(HEAD_BYTES - self.head.len());
        self.head.extend_from_slice(&chunk[..head]);
        let last = &chunk[chunk.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (self.tail.len() + last.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        self.tail.extend_from_slice(last);
        self.lot.extend_from_slice(chunk);
        if self.lot.len() >= self.lot_bytes {
            let mut part = self.part().await?;
            let mut next = std::mem::take(&mut part.spare);
            next.reserve(self.lot.len());
            let lot = std::mem::replace(&mut self.lot, next);
            self.writer = Writer::Away(tokio::task::spawn_blocking(move || {
                let written = part.write(lot);
                (part, written)
            }));
        }
        Ok(())
    }

    /// Forgets what came and begins again with the first byte.
    pub(super) async fn restart(&mut self) -> io::Result<()> {
        let mut part = self.part().await?;
        part.digest = Sha256::new();
        self.lot.clear();
        self.head.clear();
        self.tail.clear();
        self.bytes = 0;
        self.hand_over(part, Part::empty).await
    }

    /// Makes durable what came so far, and returns the part's name and length.
    pub(super) async fn sync(&mut self) -> io::Result<(String, u64)> {
        let part = self.part().await?;
        let lot = std::mem::take(&mut self.lot);
        self.hand_over(part, move |part| {
            part.write(lot)?;
            part.sync()
        })
        .await?;
        let name = match &self.writer {
            Writer::Here(part) => part.open.as_ref().map(|open| open.name.clone()),
            Writer::Away(_) | Writer::Lost => None,
        };
        name.map(|name| (name, self.bytes)).ok_or_else(lost)
    }

    /// The body has come to its end: compares its digest, if one is expected, makes it durable (INV-WHOLE-FILE: this
    /// comes before the queue records it, and long before it gets its final name), and looks which name is free. All in
    /// one hand-over, and for a small body the only one.
    pub(super) async fn seal(mut self, wanted: Wanted) -> io::Result<Sealed> {
        let part = self.part().await?;
        let (lot, bytes) = (std::mem::take(&mut self.lot), self.bytes);
        let sealed = tokio::task::spawn_blocking(move || {
            let mut part = *part;
            part.write(lot)?;
            let sha256 = hex(&part.digest.finalize_reset());
            if wanted.sha256.is_some_and(|expected| expected != sha256) {
                return Ok(Sealed::OtherDigest(sha256));
            }
            part.sync()?;
            let path = publish::free_path(&part.store, &wanted.artifact_id, wanted.path, &sha256, bytes)?;
            let claim = part.open.ok_or_else(lost)?;
            let (file, part) = (Arc::new(claim.file), part.store.part_path(&claim.name));
            Ok(Sealed::Whole { file, part, sha256, path })
        });
        sealed.await.map_err(io::Error::other)?
    }

    /// The part's state, as soon as it is back.
    async fn part(&mut self) -> io::Result<Box<Part>> {
        if let Writer::Away(away) = &mut self.writer {
            match away.await {
                Ok((part, written)) => {
                    self.writer = Writer::Here(part);
                    written?;
                }
                Err(panicked) => {
                    self.writer = Writer::Lost;
                    return Err(io::Error::other(panicked));
                }
            }
        }
        match std::mem::replace(&mut self.writer, Writer::Lost) {
            Writer::Here(part) => Ok(part),
            Writer::Away(_) | Writer::Lost => Err(lost()),
        }
    }

    async fn hand_over(
        &mut self,
        mut part: Box<Part>,
        work: impl FnOnce(&mut Part) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        self.writer = Writer::Away(tokio::task::spawn_blocking(move || {
            let done = work(&mut part);
            (part, done)
        }));
        let part = self.part().await?;
        self.writer = Writer::Here(part);
        Ok(())
    }
}

/// How large a lot is, of so many bodies at a time.
fn lot_bytes(bodies: usize) -> usize {
    (ALL_LOTS_BYTES / 2 / bodies.max(1)).clamp(LEAST_LOT_BYTES, MOST_LOT_BYTES)
}

impl Part {
    fn new(store: Arc<Store>, job: i64, fence: i64, open: Option<part::Claim>) -> Self {
        let count = store.count_body();
        Self { store, job, fence, open, digest: Sha256::new(), spare: Vec::new(), count }
    }

    fn write(&mut self, mut lot: Vec<u8>) -> io::Result<()> {
        self.digest.update(&lot);
        self.open()?.write_all(&lot)?;
        lot.clear();
        self.spare = lot;
        Ok(())
    }

    fn open(&mut self) -> io::Result<&mut File> {
        let claim = match self.open.take() {
            Some(claim) => claim,
            None => part::claim(&self.store, self.job, self.fence)?,
        };
        Ok(&mut self.open.insert(claim).file)
    }

    fn empty(&mut self) -> io::Result<()> {
        let file = self.open()?;
        file.set_len(0)?;
        file.rewind()
    }

    /// The bytes, and the name under which they are found after a crash.
    fn sync(&mut self) -> io::Result<()> {
        self.open()?.sync_all()?;
        sync_folder(&self.store.parts())
    }

    /// Reads the first `bytes` anew and drops what follows. Returns their head and tail; `None` if there are fewer.
    fn take_up(&mut self, bytes: u64) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut digest = Sha256::new();
        let file = self.open()?;
        if file.metadata()?.len() < bytes {
            return Ok(None);
        }
        let mut head = vec![0; HEAD_BYTES.min(usize::try_from(bytes).unwrap_or(HEAD_BYTES))];
        file.rewind()?;
        file.read_exact(&mut head)?;
        let mut tail = vec![0; TAIL_BYTES.min(usize::try_from(bytes).unwrap_or(TAIL_BYTES))];
        file.seek(SeekFrom::Start(bytes - tail.len() as u64))?;
        file.read_exact(&mut tail)?;
        file.rewind()?;
        io::copy(&mut Read::by_ref(file).take(bytes), &mut DigestWriter(&mut digest))?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        self.digest = digest;
        Ok(Some((head, tail)))
    }
}

/// The digest of a file's bytes.
pub(super) fn sha256_of(file: &mut File) -> io::Result<String> {
    let mut digest = Sha256::new();
    file.rewind()?;
    io::copy(file, &mut DigestWriter(&mut digest))?;
    Ok(hex(&digest.finalize()))
}

struct DigestWriter<'a>(&'a mut Sha256);

impl Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::other("the part's writer is gone")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n % 251) as u8).collect()
    }

    fn store(folder: &tempfile::TempDir) -> Arc<Store> {
        Arc::new(Store::open(folder.path(), None).unwrap())
    }

    async fn push_all(sink: &mut Sink, body: &[u8]) {
        for chunk in body.chunks(7001) {
            sink.push(chunk).await.unwrap();
        }
    }

    async fn seal(sink: Sink, expected: Option<&[u8]>) -> Sealed {
        let sha256 = expected.map(|body| hex(&Sha256::digest(body)));
        let wanted = Wanted { sha256, artifact_id: "a".to_owned(), path: "a.pdf".to_owned() };
        sink.seal(wanted).await.unwrap()
    }

    #[tokio::test]
    async fn a_body_is_whole_and_its_digest_right() {
        let folder = tempfile::tempdir().unwrap();
        let body = bytes(MOST_LOT_BYTES * 2 + 12_345);
        let mut sink = Sink::new(store(&folder), 7, 1);
        push_all(&mut sink, &body).await;
        assert_eq!(sink.bytes(), body.len() as u64);
        assert_eq!(sink.head(), &body[..HEAD_BYTES]);
        assert_eq!(sink.tail(), &body[body.len() - TAIL_BYTES..]);
        let Sealed::Whole { part, .. } = seal(sink, Some(&body)).await else { panic!("another digest") };
        assert_eq!(std::fs::read(folder.path().join(part)).unwrap(), body);
    }

    #[tokio::test]
    async fn a_part_is_taken_up_where_it_was_synced() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let body = bytes(MOST_LOT_BYTES + 100_000);
        let mut sink = Sink::new(Arc::clone(&store), 7, 1);
        push_all(&mut sink, &body[..150_000]).await;
        let (name, synced) = sink.sync().await.unwrap();
        assert_eq!(synced, 150_000);
        push_all(&mut sink, b"bytes that a crash may or may not have kept").await;
        sink.sync().await.unwrap();
        assert!(Sink::resume(Arc::clone(&store), 7, 2, name.clone(), synced).await.unwrap().is_none());
        drop(sink);
        assert!(Sink::resume(Arc::clone(&store), 7, 2, name.clone(), 1 << 30).await.unwrap().is_none());

        let mut sink = Sink::resume(store, 7, 2, name, synced).await.unwrap().unwrap();
        assert_eq!(sink.head(), &body[..HEAD_BYTES]);
        push_all(&mut sink, &body[150_000..]).await;
        let Sealed::Whole { part, .. } = seal(sink, Some(&body)).await else { panic!("another digest") };
        assert_eq!(std::fs::read(folder.path().join(part)).unwrap(), body);
    }

    #[tokio::test]
    async fn a_restart_forgets_everything() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Sink::new(store(&folder), 7, 1);
        push_all(&mut sink, &bytes(MOST_LOT_BYTES + 1)).await;
        sink.restart().await.unwrap();
        push_all(&mut sink, b"short").await;
        assert_eq!((sink.bytes(), sink.head(), sink.tail()), (5, &b"short"[..], &b"short"[..]));
        let Sealed::Whole { part, .. } = seal(sink, Some(b"short")).await else { panic!("another digest") };
        assert_eq!(std::fs::read(folder.path().join(part)).unwrap(), b"short");
    }

    #[tokio::test]
    async fn inv_bounded_of_many_bodies_each_has_less_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let sinks: Vec<Sink> = (0..64).map(|job| Sink::new(Arc::clone(&store), job, 1)).collect();
        assert_eq!(sinks[0].lot_bytes, MOST_LOT_BYTES);
        assert!(sinks.iter().all(|sink| sink.lot_bytes >= LEAST_LOT_BYTES));
        assert_eq!(sinks[63].lot_bytes, LEAST_LOT_BYTES);
        drop(sinks);
        assert_eq!(Sink::new(store, 1, 1).lot_bytes, MOST_LOT_BYTES);
    }

    #[tokio::test]
    async fn another_digest_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Sink::new(store(&folder), 7, 1);
        push_all(&mut sink, b"this").await;
        assert!(matches!(seal(sink, Some(b"that")).await, Sealed::OtherDigest(_)));
    }
}
