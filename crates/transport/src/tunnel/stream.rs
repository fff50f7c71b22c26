//! One relayed connection: an HTTP/2 stream that reads and writes as a socket does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use corral_model::limits;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// A stream of bytes through a tunnel.
///
/// Dropped, it closes as a socket does: what was written still goes out.
///
/// # Limits
/// [`limits::RELAY_STREAM_WINDOW_BYTES`] may be on their way unread,
/// [`limits::RELAY_SEND_BUFFER_BYTES`] wait to be sent.
pub struct TunnelStream {
    halves: Option<Halves>,
    /// Read from the wire, and not by the reader yet.
    chunk: Bytes,
    is_shut_down: bool,
    /// Who sees a dropped stream to its end; None at the relay, whose pump does so itself.
    closing: Option<mpsc::Sender<Halves>>,
    _count: Option<Count>,
}

/// Both directions of a stream.
pub(super) struct Halves {
    pub(super) send: SendStream<Bytes>,
    pub(super) receive: RecvStream,
}

/// One of the streams that are open.
pub(super) struct Count(Arc<AtomicUsize>);

impl Count {
    /// Takes a place; None when there are [`limits::RELAY_STREAMS_MAX`] already.
    pub(super) fn take(streams: &Arc<AtomicUsize>) -> Option<Self> {
        let max = usize::try_from(limits::RELAY_STREAMS_MAX).unwrap_or(usize::MAX);
        let more = |count: usize| (count < max).then_some(count + 1);
        let taken = streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Self(streams.clone()))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl TunnelStream {
    pub(super) fn new(
        halves: Halves,
        closing: Option<mpsc::Sender<Halves>>,
        count: Option<Count>,
    ) -> Self {
        Self {
            halves: Some(halves),
            chunk: Bytes::new(),
            is_shut_down: false,
            closing,
            _count: count,
        }
    }

    /// Both directions, for a reader and a writer that need no copy.
    pub(super) fn into_halves(mut self) -> Option<Halves> {
        self.halves.take()
    }
}

impl std::fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TunnelStream")
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let Some(mut halves) = self.halves.take() else { return };
        // Without somebody who waits, HTTP/2 would throw away what was not sent yet.
        if let Some(closing) = &self.closing
            && (self.is_shut_down || halves.send.send_data(Bytes::new(), true).is_ok())
            && !halves.receive.is_end_stream()
        {
            let _ = closing.try_send(halves);
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(halves) = &mut this.halves else { return Poll::Ready(Ok(())) };
        while this.chunk.is_empty() {
            match ready!(halves.receive.poll_data(cx)) {
                Some(Ok(chunk)) => this.chunk = chunk,
                Some(Err(error)) => return Poll::Ready(read_end(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.chunk.len().min(buf.remaining());
        buf.put_slice(&this.chunk.split_to(count));
        // What was taken may be sent again, by whoever waits for it at the other end.
        let released = halves.receive.flow_control().release_capacity(count);
        Poll::Ready(released.map_err(to_io))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(halves) = &mut self.halves else { return Poll::Ready(Err(gone())) };
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(poll_room(&mut halves.send, cx, bytes.len()))?;
        let (taken, _) = bytes.split_at(room.min(bytes.len()));
        let sent = halves.send.send_data(Bytes::copy_from_slice(taken), false);
        Poll::Ready(sent.map(|()| taken.len()).map_err(to_io))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task sends what was written as soon as it can.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(halves) = &mut this.halves else { return Poll::Ready(Ok(())) };
        if !this.is_shut_down {
            this.is_shut_down = true;
            halves.send.send_data(Bytes::new(), true).map_err(to_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Waits until something may be sent; gives how many bytes of `wanted`.
pub(super) fn poll_room(
    send: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    let frame = usize::try_from(limits::RELAY_FRAME_BYTES).unwrap_or(usize::MAX);
    let wanted = wanted.min(frame);
    send.reserve_capacity(wanted);
    loop {
        let room = send.capacity().min(wanted);
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            None => return Poll::Ready(Err(gone())),
        }
    }
}

/// The end of what can be read: an orderly one, or an error.
fn read_end(error: h2::Error) -> io::Result<()> {
    match error.reason() {
        // The other end has all it wants and needs no more of us (RFC 9113 section 8.1).
        Some(Reason::NO_ERROR) if error.is_reset() => Ok(()),
        Some(_) | None => Err(to_io(error)),
    }
}

pub(super) fn to_io(error: h2::Error) -> io::Error {
    match error.get_io() {
        Some(inner) => io::Error::new(inner.kind(), error),
        None => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the relayed connection is closed")
}

impl Halves {
    /// Sees a stream that was closed at this end to its end. What still comes is thrown away
    /// without giving its sender room for more; the caller bounds the time.
    pub(super) async fn linger(mut self) {
        while let Some(Ok(_)) = self.receive.data().await {}
    }
}
