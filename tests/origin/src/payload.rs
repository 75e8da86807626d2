//! The body of an answer as hyper sends it: in pieces, at a pace, and broken off where it is told to.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::oneshot;

use crate::body::Document;
use crate::exchange::{Cut, Link};
use crate::timer::Timer;

/// The size of a piece. Smaller than hyper's buffer, so that what was taken to be sent is nearly what was sent.
const PIECE: u64 = 8 * 1024;
/// A paced body comes in about this many pieces a second.
const PIECES_PER_SECOND: u64 = 50;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    Document(Document),
    Text(Bytes),
}

impl Source {
    fn slice(&self, range: Range<u64>) -> Bytes {
        match self {
            Self::Document(document) => document.slice(range),
            Self::Text(text) => text.slice(range.start as usize..range.end as usize),
        }
    }
}

/// What follows the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The end of the answer.
    End,
    /// The connection is broken off.
    Cut(Cut),
    /// Silence, until the client leaves.
    Silence,
}

/// A body on its way. Its length is not told to hyper: the head says what it is told to say, true or not.
#[derive(Debug)]
pub(crate) struct Payload {
    source: Source,
    next: u64,
    end: u64,
    then: Then,
    pace: Option<Pace>,
    link: Arc<Link>,
}

#[derive(Debug)]
struct Pace {
    timer: Timer,
    bytes_per_second: u64,
    started: Instant,
    sent: u64,
    waiting: Option<oneshot::Receiver<()>>,
}

impl Payload {
    /// The bytes of a range of the source, and what comes then.
    pub(crate) fn new(link: Arc<Link>, source: Source, range: Range<u64>, then: Then) -> Self {
        if range.is_empty() && then == Then::End {
            link.complete();
        }
        Self { source, next: range.start, end: range.end, then, pace: None, link }
    }

    /// Sends no more than this many bytes per second from `started` on.
    pub(crate) fn paced(mut self, timer: &Timer, bytes_per_second: u64, started: Instant) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        self.pace = Some(Pace { timer: timer.clone(), bytes_per_second, started, sent: 0, waiting: None });
        self
    }
}

impl Pace {
    /// Ready when the next piece may go.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let due = self.started + Duration::from_secs_f64(self.sent as f64 / self.bytes_per_second as f64);
        let waiting = self.waiting.get_or_insert_with(|| self.timer.at(due));
        match Pin::new(waiting).poll(context) {
            Poll::Ready(_) => {
                self.waiting = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.next >= this.end {
            return match this.then {
                Then::End => Poll::Ready(None),
                Then::Cut(cut) => {
                    // The wire breaks off at hyper's next flush, which follows a body that has nothing to give.
                    this.link.cut(cut);
                    Poll::Pending
                }
                Then::Silence => Poll::Pending,
            };
        }
        let mut most = PIECE;
        if let Some(pace) = &mut this.pace {
            if pace.poll(context).is_pending() {
                return Poll::Pending;
            }
            most = (pace.bytes_per_second / PIECES_PER_SECOND).clamp(16, PIECE);
        }
        let piece = this.next..this.end.min(this.next + most);
        let count = piece.end - piece.start;
        this.next = piece.end;
        if let Some(pace) = &mut this.pace {
            pace.sent += count;
        }
        this.link.host().record(|tally| tally.counts.body_bytes_sent += count);
        if this.is_end_stream() {
            this.link.complete();
        }
        Poll::Ready(Some(Ok(Frame::data(this.source.slice(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.end && self.then == Then::End
    }
}
