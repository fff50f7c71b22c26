//! One type for every connection, plain or encrypted, so that the session loop is written once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls_stream::ServerTlsStream;
use crate::tunnel::TunnelStream;

/// A connection with a client or a target.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A target's, through a relay.
    Relayed(TunnelStream),
    /// A client's connection with TLS.
    ServerTls(Box<ServerTlsStream>),
    /// A target's connection with TLS.
    TargetTls(Box<tokio_rustls::client::TlsStream<Plain>>),
}

/// A connection without TLS, which TLS may be put on.
#[derive(Debug)]
pub enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
    Relayed(TunnelStream),
}

impl Stream {
    /// The connection below, when it has no TLS.
    ///
    /// # Errors
    /// Gives the stream back when TLS is already running.
    pub fn into_plain(self) -> Result<Plain, Self> {
        match self {
            Self::Tcp(stream) => Ok(Plain::Tcp(stream)),
            Self::Unix(stream) => Ok(Plain::Unix(stream)),
            Self::Relayed(stream) => Ok(Plain::Relayed(stream)),
            tls @ (Self::ServerTls(_) | Self::TargetTls(_)) => Err(tls),
        }
    }

    /// The first byte that the other side sent, without taking it.
    ///
    /// # Errors
    /// Whatever the socket reports. A closed connection gives `Ok(None)`.
    ///
    /// # Cancel safety
    /// Takes nothing from the socket.
    pub async fn peek_first_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0_u8; 1];
        let count = match self {
            Self::Tcp(stream) => stream.peek(&mut byte).await?,
            // A Unix socket cannot be peeked through tokio; nobody starts with TLS there. A
            // client never comes through a relay.
            Self::Unix(_) | Self::Relayed(_) | Self::ServerTls(_) | Self::TargetTls(_) => 0,
        };
        Ok((count > 0).then_some(byte[0]))
    }
}

macro_rules! each_variant {
    ($self:expr, $stream:ident => $body:expr, $($variant:path),+) => {
        match $self.get_mut() {
            $($variant($stream) => $body,)+
        }
    };
}

macro_rules! delegate_io {
    ($type:ty, $($variant:path),+) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                each_variant!(self, stream => Pin::new(stream).poll_read(cx, buf), $($variant),+)
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                each_variant!(self, stream => Pin::new(stream).poll_write(cx, bytes), $($variant),+)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                each_variant!(
                    self, stream => Pin::new(stream).poll_write_vectored(cx, slices), $($variant),+
                )
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $($variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each_variant!(self, stream => Pin::new(stream).poll_flush(cx), $($variant),+)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each_variant!(self, stream => Pin::new(stream).poll_shutdown(cx), $($variant),+)
            }
        }
    };
}

delegate_io!(Plain, Plain::Tcp, Plain::Unix, Plain::Relayed);
delegate_io!(
    Stream,
    Stream::Tcp,
    Stream::Unix,
    Stream::Relayed,
    Stream::ServerTls,
    Stream::TargetTls
);

impl From<Plain> for Stream {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Tcp(stream) => Self::Tcp(stream),
            Plain::Unix(stream) => Self::Unix(stream),
            Plain::Relayed(stream) => Self::Relayed(stream),
        }
    }
}
