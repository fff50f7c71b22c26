//! Moves bytes between a relayed stream and a target's socket, each way at its own pace.

use std::future::poll_fn;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use corral_model::limits;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::stream::{Halves, TunnelStream, poll_room, to_io};

/// What went through a stream, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    pub to_target: u64,
    pub to_gateway: u64,
}

/// Moves bytes until both sides have closed, or one has failed. A side that closes its own
/// direction closes that one only. A target that is reset is told as a reset.
///
/// # Errors
/// Whatever the target's socket reports, or that the stream or its connection was reset.
///
/// # Limits
/// Holds one frame each way; a side that does not read stops the other.
pub async fn pump(stream: TunnelStream, mut target: TcpStream) -> io::Result<Moved> {
    let Some(Halves { mut send, receive }) = stream.into_halves() else {
        return Ok(Moved::default());
    };
    let (target_in, target_out) = target.split();
    let moved = tokio::try_join!(to_target(receive, target_out), to_gateway(&mut send, target_in));
    match moved {
        Ok((to_target, to_gateway)) => Ok(Moved { to_target, to_gateway }),
        Err(error) => {
            // RFC 9113 section 8.5: a connection that was reset.
            send.send_reset(Reason::CONNECT_ERROR);
            Err(error)
        }
    }
}

async fn to_target(mut receive: RecvStream, mut target: WriteHalf<'_>) -> io::Result<u64> {
    let mut moved: u64 = 0;
    while let Some(chunk) = receive.data().await {
        let chunk: Bytes = chunk.map_err(to_io)?;
        target.write_all(&chunk).await?;
        receive.flow_control().release_capacity(chunk.len()).map_err(to_io)?;
        moved = moved.saturating_add(chunk.len() as u64);
    }
    // A target that has gone already needs no goodbye.
    let _ = target.shutdown().await;
    Ok(moved)
}

async fn to_gateway(send: &mut SendStream<Bytes>, target: ReadHalf<'_>) -> io::Result<u64> {
    let frame = usize::try_from(limits::RELAY_FRAME_BYTES).unwrap_or(usize::MAX);
    let mut buffer = BytesMut::new();
    let mut moved: u64 = 0;
    loop {
        tokio::select! {
            ready = target.readable() => ready?,
            reset = poll_fn(|cx| send.poll_reset(cx)) => {
                let reason = reset.map_err(to_io)?;
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, reason.description()));
            }
        }
        let room = poll_fn(|cx| poll_room(send, cx, frame)).await?;
        buffer.reserve(frame);
        match target.try_read_buf(&mut (&mut buffer).limit(room)) {
            Ok(0) => {
                send.send_data(Bytes::new(), true).map_err(to_io)?;
                return Ok(moved);
            }
            Ok(count) => {
                moved = moved.saturating_add(count as u64);
                send.send_data(buffer.split().freeze(), false).map_err(to_io)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // An idle stream keeps no buffer and no part of the connection's window.
                buffer = BytesMut::new();
                send.reserve_capacity(0);
            }
            Err(error) => return Err(error),
        }
    }
}
