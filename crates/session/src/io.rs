//! Moves bytes between sockets and a machine's buffers, and waits for whatever comes first.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use corral_gate::machine::Wants;
use corral_gate::{Buffers, TargetBuffer};
use corral_model::limits::{READ_CHUNK_BYTES, WRITE_BUFFER_BYTES_HIGH};
use corral_transport::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::scope::Control;

/// What happened while waiting; several things may have.
#[derive(Debug, Default)]
pub(crate) struct Happened {
    pub(crate) control: Option<Box<Control>>,
    pub(crate) moved: Moved,
}

/// All that happened but the gateway's word.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) client: Side,
    pub(crate) target: Side,
    /// The gateway dropped its end of the control channel.
    pub(crate) is_control_closed: bool,
    pub(crate) is_timer_due: bool,
}

/// What happened on one side.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) bytes_read: usize,
    pub(crate) bytes_written: usize,
    /// The write buffer fell below its high mark: the other side may go on.
    pub(crate) has_room_again: bool,
    pub(crate) is_closed: bool,
}

impl Side {
    fn is_something(self) -> bool {
        self.bytes_read > 0 || self.has_room_again || self.is_closed
    }
}

/// A connection with what is known of its halves.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Stream,
    /// The other side will send no more.
    pub(crate) is_read_closed: bool,
    /// Bytes were written that TLS may still hold back.
    needs_flush: bool,
    /// In this poll of the session's task it had nothing to read, and has the task's waker: to ask
    /// again before the next poll tells nothing.
    is_quiet: bool,
}

/// A buffer of bytes that wait to be written.
pub(crate) trait Outgoing {
    fn pending(&self) -> &[u8];
    fn advance(&mut self, count: usize);
}

impl Outgoing for BytesMut {
    fn pending(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, count: usize) {
        Buf::advance(self, count);
    }
}

impl Outgoing for TargetBuffer {
    fn pending(&self) -> &[u8] {
        TargetBuffer::pending(self)
    }

    fn advance(&mut self, count: usize) {
        TargetBuffer::advance(self, count);
    }
}

impl Link {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, is_read_closed: false, needs_flush: false, is_quiet: false }
    }

    /// Writes as much as the socket takes. An error closes the side.
    fn poll_write_out(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut impl Outgoing,
        side: &mut Side,
    ) {
        let was_high = outgoing.pending().len() >= WRITE_BUFFER_BYTES_HIGH;
        while !outgoing.pending().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, outgoing.pending()) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) if count > 0 => {
                    outgoing.advance(count);
                    side.bytes_written += count;
                    self.needs_flush = true;
                }
                Poll::Ready(Ok(_) | Err(_)) => {
                    // What was not written can never be: the other side is gone.
                    let rest = outgoing.pending().len();
                    outgoing.advance(rest);
                    side.is_closed = true;
                    self.is_read_closed = true;
                    return;
                }
            }
        }
        if self.needs_flush && outgoing.pending().is_empty() {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(_)) => {
                    side.is_closed = true;
                    self.is_read_closed = true;
                }
                Poll::Pending => {}
            }
        }
        side.has_room_again = was_high && outgoing.pending().len() < WRITE_BUFFER_BYTES_HIGH;
    }

    /// Reads one chunk. The chunk is on the stack, so that an idle session holds no buffer.
    fn poll_read_in(&mut self, cx: &mut Context<'_>, incoming: &mut BytesMut, side: &mut Side) {
        let mut chunk = [MaybeUninit::<u8>::uninit(); READ_CHUNK_BYTES];
        let mut buffer = ReadBuf::uninit(&mut chunk);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => self.is_quiet = true,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                incoming.extend_from_slice(buffer.filled());
                side.bytes_read = buffer.filled().len();
            }
            Poll::Ready(Ok(()) | Err(_)) => {
                self.is_read_closed = true;
                side.is_closed = true;
            }
        }
    }

    fn poll_side(
        &mut self,
        cx: &mut Context<'_>,
        is_wanted: bool,
        incoming: &mut BytesMut,
        outgoing: &mut impl Outgoing,
    ) -> Side {
        let mut side = Side::default();
        self.poll_write_out(cx, outgoing, &mut side);
        if is_wanted && !self.is_read_closed && !self.is_quiet {
            self.poll_read_in(cx, incoming, &mut side);
        }
        side
    }
}

/// What a session waits on.
pub(crate) struct Waiting<'a> {
    pub(crate) client: Option<&'a mut Link>,
    pub(crate) target: Option<&'a mut Link>,
    pub(crate) control: Option<&'a mut mpsc::Receiver<Box<Control>>>,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) wants: Wants,
    pub(crate) timer: Option<Pin<&'a mut Sleep>>,
    /// Whether the task was polled again since it last waited.
    pub(crate) since: Since,
}

/// What lies between two times that a session's task looks at its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// It is still in the same poll: who had nothing then will wake it.
    SamePoll,
    /// It waited for something in between: any of its wakers may be used up.
    AnotherPoll,
}

impl Waiting<'_> {
    /// Waits until something happened that the machine must hear of.
    ///
    /// # Cancel safety
    /// Bytes that were read are in the buffers.
    pub(crate) async fn wait(mut self) -> Happened {
        let mut written = (0, 0);
        poll_fn(|cx| {
            if std::mem::replace(&mut self.since, Since::AnotherPoll) == Since::AnotherPoll {
                let links = [self.client.as_deref_mut(), self.target.as_deref_mut()];
                links.into_iter().flatten().for_each(|link| link.is_quiet = false);
            }
            let mut happened = self.poll_once(cx);
            let moved = &mut happened.moved;
            written.0 += moved.client.bytes_written;
            written.1 += moved.target.bytes_written;
            let is_something = moved.client.is_something()
                || moved.target.is_something()
                || happened.control.is_some()
                || moved.is_control_closed
                || moved.is_timer_due;
            if !is_something {
                self.buffers.shrink_idle();
                return Poll::Pending;
            }
            moved.client.bytes_written = written.0;
            moved.target.bytes_written = written.1;
            Poll::Ready(happened)
        })
        .await
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Happened {
        let mut happened = Happened::default();
        let Buffers { client_in, client_out, target_in, target_out } = &mut *self.buffers;
        if let Some(client) = self.client.as_deref_mut() {
            happened.moved.client = client.poll_side(cx, self.wants.client, client_in, client_out);
        }
        if let Some(target) = self.target.as_deref_mut() {
            happened.moved.target = target.poll_side(cx, self.wants.target, target_in, target_out);
        }
        if let Some(control) = self.control.as_deref_mut() {
            match control.poll_recv(cx) {
                Poll::Ready(Some(word)) => happened.control = Some(word),
                Poll::Ready(None) => happened.moved.is_control_closed = true,
                Poll::Pending => {}
            }
        }
        if let Some(timer) = self.timer.as_mut() {
            happened.moved.is_timer_due = timer.as_mut().poll(cx).is_ready();
        }
        happened
    }
}

/// Writes everything out and flushes.
///
/// # Errors
/// Whatever the socket reports.
pub(crate) async fn write_all(link: &mut Link, outgoing: &mut impl Outgoing) -> io::Result<usize> {
    let mut written = 0;
    poll_fn(|cx| {
        let mut side = Side::default();
        link.poll_write_out(cx, outgoing, &mut side);
        written += side.bytes_written;
        if side.is_closed {
            Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe)))
        } else if outgoing.pending().is_empty() && !link.needs_flush {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await?;
    Ok(written)
}

/// When the nearest of several moments is.
pub(crate) fn nearest(moments: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    moments.into_iter().flatten().min()
}
