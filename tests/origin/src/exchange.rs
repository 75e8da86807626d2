//! When an exchange begins and when it is over, to the byte. [`Link`] is what a connection's service, its body and
//! its [`Wire`] share.
//!
//! The wire hands the last bytes of an answer to the kernel under the lock of the host's books. So nobody who has
//! read an answer can find it still counted as in flight: neither by asking for the counts nor by sending the next
//! request, which would make a polite client look impolite.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::counts::{Delivery, Ending};
use crate::host::Host;

/// How a connection is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// An orderly close (FIN).
    Close,
    /// A reset (RST).
    Reset,
}

/// What the parts of one connection know of each other.
#[derive(Debug)]
pub(crate) struct Link {
    host: Arc<Host>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    exchange: Option<Exchange>,
    cut: Option<Cut>,
}

#[derive(Debug)]
struct Exchange {
    path: String,
    delivers: Delivery,
    /// The last piece of the answer was taken to be sent.
    complete: bool,
}

impl Link {
    pub(crate) fn new(host: Arc<Host>) -> Arc<Self> {
        Arc::new(Self { host, state: Mutex::default() })
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// A request's head was read.
    pub(crate) fn begin(&self, path: String) {
        self.lock().exchange = Some(Exchange { path, delivers: Delivery::Nothing, complete: false });
    }

    /// The answer is about to be sent.
    pub(crate) fn delivers(&self, delivers: Delivery) {
        if let Some(exchange) = &mut self.lock().exchange {
            exchange.delivers = delivers;
        }
    }

    /// Nothing follows what was taken to be sent.
    pub(crate) fn complete(&self) {
        if let Some(exchange) = &mut self.lock().exchange {
            exchange.complete = true;
        }
    }

    /// The connection is to be broken off once all that was taken has been sent.
    pub(crate) fn cut(&self, cut: Cut) {
        self.lock().cut = Some(cut);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that keeps the books. It does not offer vectored writes, so that hyper hands over all that it has
/// in one piece, and a piece written whole means that nothing is left.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    link: Arc<Link>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, link: Arc<Link>) -> Self {
        link.host.record(|tally| {
            tally.counts.connections += 1;
            tally.counts.connections_open += 1;
        });
        Self { stream, link }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, link } = self.get_mut();
        let mut state = link.lock();
        if !state.exchange.as_ref().is_some_and(|exchange| exchange.complete) {
            drop(state);
            let written = Pin::new(stream).poll_write(context, bytes);
            if let Poll::Ready(Ok(count)) = written {
                link.host.record(|tally| tally.counts.bytes_sent += count as u64);
            }
            return written;
        }
        link.host.record(|tally| {
            let written = Pin::new(stream).poll_write(context, bytes);
            if let Poll::Ready(Ok(count)) = written {
                tally.counts.bytes_sent += count as u64;
                if count == bytes.len()
                    && let Some(exchange) = state.exchange.take()
                {
                    tally.settle(&exchange.path, Ending::Answered(exchange.delivers));
                }
            }
            written
        })
    }

    /// hyper flushes when it has written all that it holds: the moment to break off.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.lock().cut.is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.lock().cut.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if state.cut == Some(Cut::Reset) {
            // A socket that cannot be told to reset is closed in order, which the client survives as well.
            let _closed_in_order = self.stream.set_zero_linger();
        }
        let ending = if state.cut.is_some() { Ending::BrokenOff } else { Ending::Aborted };
        let exchange = state.exchange.take();
        self.link.host.record(|tally| {
            tally.counts.connections_open = tally.counts.connections_open.saturating_sub(1);
            if let Some(exchange) = exchange {
                tally.settle(&exchange.path, ending);
            }
        });
    }
}
