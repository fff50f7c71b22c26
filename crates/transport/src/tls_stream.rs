//! A client's connection with TLS, which holds no buffer while nothing is on its way.
//!
//! rustls does all that is cryptography and protocol; its connection without buffers leaves to us
//! where bytes are kept meanwhile (docs/adr/0011). Bytes are read into the stack and decrypted
//! there; what a thread encrypts is in one buffer of the thread's. Only what is left over stays:
//! a record that is not whole, what nobody has taken yet, what the socket did not take.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use corral_model::limits::{
    TLS_INCOMING_BYTES_MAX, TLS_OVERHEAD_BYTES, TLS_PIECE_BYTES, TLS_READ_BYTES,
};
use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Plain;

thread_local! {
    /// Where this thread encrypts: taken and given back within one poll.
    static ENCRYPTED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The server's side of a TLS connection, after its handshake.
pub struct ServerTlsStream {
    io: Plain,
    connection: UnbufferedServerConnection,
    /// The beginning of a record or of a handshake's message that is not whole.
    incoming: BytesMut,
    kept: Kept,
    is_shut_down: bool,
    /// After an error rustls is given nothing any more: what it has seen of a message and what is
    /// here of it may differ.
    is_broken: bool,
}

/// What came out of TLS and has not gone on.
#[derive(Default)]
struct Kept {
    /// Decrypted, and more than was asked for.
    plaintext: BytesMut,
    /// Encrypted, and not taken by the socket.
    outgoing: BytesMut,
    /// The client said that it sends no more.
    is_read_closed: bool,
}

impl std::fmt::Debug for ServerTlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTlsStream").finish_non_exhaustive()
    }
}

impl ServerTlsStream {
    /// Does the handshake.
    ///
    /// # Errors
    /// Whatever the client did wrong, which it is told in an alert, or a lost connection.
    ///
    /// # Cancel safety
    /// The connection is lost when this is dropped.
    pub(crate) async fn accept(config: Arc<ServerConfig>, io: Plain) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let (incoming, kept) = (BytesMut::new(), Kept::default());
        let (is_shut_down, is_broken) = (false, false);
        let mut stream = Self { io, connection, incoming, kept, is_shut_down, is_broken };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    /// The ALPN name that both sides agreed on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
        }
    }

    /// Reads once, and decrypts what is whole: into `into`, and what has no room there is kept.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [MaybeUninit::<u8>::uninit(); TLS_READ_BYTES];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))?;
        let fresh = chunk.filled_mut();
        if fresh.is_empty() {
            // Whoever is between the two may have cut off the rest.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let done = if self.incoming.is_empty() {
            self.take_in(fresh, into).map(|used| {
                let rest = fresh.get(used..).unwrap_or_default();
                if !rest.is_empty() {
                    self.incoming.extend_from_slice(rest);
                }
            })
        } else {
            let mut incoming = std::mem::take(&mut self.incoming);
            incoming.extend_from_slice(fresh);
            self.take_in(&mut incoming, into).map(|used| {
                incoming.advance(used.min(incoming.len()));
                if !incoming.is_empty() {
                    self.incoming = incoming;
                }
            })
        };
        let done = done.and_then(|()| {
            if self.incoming.len() > TLS_INCOMING_BYTES_MAX {
                return Err(broken("a handshake's message is too long"));
            }
            Ok(())
        });
        if done.is_err() {
            self.is_broken = true;
            // The alert that says why, if the socket takes it: the error is what counts.
            let _ = self.poll_send(cx);
        }
        Poll::Ready(done)
    }

    /// Gives rustls everything that it can use of `incoming`; how many bytes that were.
    fn take_in(&mut self, incoming: &mut [u8], into: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let rest = incoming.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
            used += discard;
            match state {
                Ok(state) => match self.kept.obey(state, into)? {
                    Next::GoOn { discard } => used += discard,
                    Next::MoreIsNeeded | Next::MayWrite(_) => return Ok(used),
                },
                Err(error) => {
                    let rest = incoming.get_mut(used..).unwrap_or_default();
                    self.keep_alert(rest);
                    return Err(broken(error));
                }
            }
        }
    }

    /// After an error rustls may have an alert to send, which it gives when it is asked again.
    fn keep_alert(&mut self, incoming: &mut [u8]) {
        if !self.connection.wants_write() {
            return;
        }
        let status = self.connection.process_tls_records(incoming);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state {
            let _ = encode(&mut self.kept.outgoing, |out| data.encode(out));
        }
    }

    /// Has rustls encrypt, when application data may be sent. Anything that it wants sent before
    /// that is kept.
    fn write_with(
        &mut self,
        write: impl FnOnce(WriteTraffic<'_, ServerConnectionData>) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let done = self.try_write_with(write);
        self.is_broken |= done.is_err();
        done
    }

    fn try_write_with(
        &mut self,
        write: impl FnOnce(WriteTraffic<'_, ServerConnectionData>) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        loop {
            let status = self.connection.process_tls_records(&mut self.incoming);
            let UnbufferedStatus { mut discard, state } = status;
            let state = state.map_err(broken)?;
            match self.kept.obey(state, &mut ReadBuf::new(&mut []))? {
                Next::MayWrite(traffic) => return write(traffic).map_err(io::Error::other),
                Next::MoreIsNeeded => return Err(io::ErrorKind::BrokenPipe.into()),
                Next::GoOn { discard: more } => discard += more,
            }
            self.incoming.advance(discard.min(self.incoming.len()));
        }
    }

    /// Writes what the socket did not take before.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut self.kept.outgoing;
        while !outgoing.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, outgoing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outgoing.advance(count);
            if outgoing.is_empty() {
                *outgoing = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was encrypted, and keeps what the socket does not take.
    fn send(&mut self, cx: &mut Context<'_>, mut encrypted: &[u8]) -> io::Result<()> {
        // Never past what waits already.
        while self.kept.outgoing.is_empty() && !encrypted.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, encrypted) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => encrypted = encrypted.get(count..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.kept.outgoing.extend_from_slice(encrypted);
        Ok(())
    }
}

/// What to do after a state of rustls's.
enum Next<'c> {
    /// Ask again, without these bytes at the front.
    GoOn { discard: usize },
    /// Nothing is whole, and nothing may be sent.
    MoreIsNeeded,
    /// Nothing is whole.
    MayWrite(WriteTraffic<'c, ServerConnectionData>),
}

impl Kept {
    fn obey<'c>(
        &mut self,
        state: ConnectionState<'c, '_, ServerConnectionData>,
        into: &mut ReadBuf<'_>,
    ) -> io::Result<Next<'c>> {
        let mut discard = 0;
        match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(broken)?;
                    discard += record.discard;
                    let (fits, rest) =
                        record.payload.split_at(record.payload.len().min(into.remaining()));
                    into.put_slice(fits);
                    // Once something is kept, nothing may overtake it: then `into` is full.
                    self.plaintext.extend_from_slice(rest);
                }
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut self.outgoing, |out| data.encode(out))?;
            }
            // It is sent with what is kept, in order and before anything else.
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => self.is_read_closed = true,
            ConnectionState::BlockedHandshake | ConnectionState::Closed => {
                return Ok(Next::MoreIsNeeded);
            }
            ConnectionState::WriteTraffic(traffic) => return Ok(Next::MayWrite(traffic)),
            // Data before the handshake's end is never offered.
            _ => return Err(broken("a state of TLS that is not offered")),
        }
        Ok(Next::GoOn { discard })
    }
}

/// Adds what `write` encodes, once it is told how much room there must be.
fn encode(
    outgoing: &mut BytesMut,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> io::Result<()> {
    let start = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(start + room, 0);
        match write(outgoing.get_mut(start..).unwrap_or_default()) {
            Ok(count) => {
                outgoing.truncate(start + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needs)) if needs.required_size > room => {
                room = needs.required_size;
            }
            Err(error) => {
                outgoing.truncate(start);
                return Err(io::Error::other(error));
            }
        }
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncRead for ServerTlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        loop {
            if !this.kept.plaintext.is_empty() {
                let count = this.kept.plaintext.len().min(into.remaining());
                into.put_slice(&this.kept.plaintext.split_to(count));
                if this.kept.plaintext.is_empty() {
                    this.kept.plaintext = BytesMut::new();
                }
            }
            let is_done = into.filled().len() > before || into.remaining() == 0;
            if is_done || this.kept.is_read_closed {
                return Poll::Ready(Ok(()));
            }
            if this.is_broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            ready!(this.poll_receive(cx, into))?;
            // An answer of TLS's own, such as to new keys. If the socket does not take it, it goes
            // out before whatever is written next.
            if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl AsyncWrite for ServerTlsStream {
    /// Takes bytes only when all that were taken before went out, so that at most one piece waits.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_shut_down {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_send(cx))?;
        let piece = bytes.get(..bytes.len().min(TLS_PIECE_BYTES)).unwrap_or_default();
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = ENCRYPTED.with_borrow_mut(|encrypted| {
            encrypted.resize(TLS_PIECE_BYTES + TLS_OVERHEAD_BYTES, 0);
            let count = this.write_with(|mut traffic| traffic.encrypt(piece, encrypted))?;
            this.send(cx, encrypted.get(..count).unwrap_or_default())
        });
        Poll::Ready(sent.map(|()| piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut_down {
            this.is_shut_down = true;
            let mut close = [0; TLS_OVERHEAD_BYTES];
            // After an error there is nothing more to say.
            let said = this.write_with(|mut traffic| traffic.queue_close_notify(&mut close));
            if let Ok(count) = said {
                let close = close.get(..count).unwrap_or_default();
                this.kept.outgoing.extend_from_slice(close);
            }
        }
        ready!(this.poll_send(cx))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            // The client was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

#[cfg(test)]
#[path = "tls_stream_tests.rs"]
mod tests;
