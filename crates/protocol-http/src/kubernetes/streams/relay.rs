//! Carries one stream between a client and a target, both WebSockets: reads frames, accounts
//! what is in them, writes them again. One side is read only while the other takes what was read.

use std::time::Duration;

use aws_lc_rs::rand;
use bytes::{Buf, Bytes, BytesMut};
use corral_gate::Denial;
use corral_model::event::StreamEnd;
use corral_model::limits::READ_CHUNK_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::channels::{ChannelError, Channels, Passing, failure};
use super::frame::{
    FrameError, FrameReader, Opcode, Piece, Sender, check_close, close_payload, write_frame,
};
use super::handshake::Subprotocol;

/// How long the other end may take to answer the end of a connection.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long a client may take to take the last words.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Both ends said goodbye.
    Closed,
    /// The client is gone without a word.
    ClientGone,
    /// The target is gone without a word.
    TargetGone,
    /// The client broke the protocol.
    Client(StreamError),
    /// The target broke the protocol.
    Target(StreamError),
    /// The session ended, or what passes cannot be recorded.
    Cut(Denial),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl StreamError {
    fn close_code(self) -> u16 {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::Channel(ChannelError::TooLong) => 1009,
            Self::Channel(ChannelError::Channel | ChannelError::Message) => 1008,
        }
    }
}

/// Where what passes is accounted.
pub(crate) trait Ledger: Send {
    /// Accounts bytes that are about to pass.
    ///
    /// # Errors
    /// A [`Denial`]: they must not.
    fn pass(
        &mut self,
        from: StreamEnd,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Denial>> + Send;

    /// The client's terminal has another size.
    fn resized(&self, columns: u32, rows: u32) -> impl Future<Output = ()> + Send;
}

/// One end of a stream, with what was read from it already.
pub(crate) struct End<S> {
    reader: ReadHalf<S>,
    frames: FrameReader,
    pub(crate) writer: Writer<S>,
}

impl<S: AsyncRead + AsyncWrite> End<S> {
    pub(crate) fn new(io: S, sender: Sender) -> Self {
        let (reader, writer) = tokio::io::split(io);
        let masks = match sender {
            // What goes to a target is masked.
            Sender::Target => Masks::Random,
            Sender::Client => Masks::None,
        };
        let writer = Writer { io: writer, pending: BytesMut::new(), masks };
        Self { reader, frames: FrameReader::new(sender), writer }
    }

    /// Reads ahead while nothing may be passed on yet, at most `limit` bytes; then waits for ever.
    /// Ready when the other side is gone.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub(crate) async fn read_ahead(&mut self, limit: usize) {
        while self.frames.buffer().len() < limit {
            let buffer = self.frames.buffer();
            buffer.reserve(READ_CHUNK_BYTES);
            match self.reader.read_buf(buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
        std::future::pending().await
    }
}

#[derive(Debug, Clone, Copy)]
enum Masks {
    None,
    Random,
}

/// Writes frames. What was not written when a write was given up is written first by the next.
pub(crate) struct Writer<S> {
    io: WriteHalf<S>,
    pending: BytesMut,
    masks: Masks,
}

impl<S: AsyncWrite> Writer<S> {
    pub(crate) fn queue(&mut self, opcode: Opcode, is_fin: bool, parts: &[&[u8]]) {
        let key = match self.masks {
            Masks::None => None,
            Masks::Random => {
                let mut key = [0; 4];
                // A key that cannot be made is no secret: TLS keeps these bytes, and masks keep
                // old proxies from reading them as HTTP.
                let _ = rand::fill(&mut key);
                Some(key)
            }
        };
        write_frame(&mut self.pending, opcode, is_fin, parts, key);
    }

    /// # Cancel safety
    /// Loses nothing.
    pub(crate) async fn flush(&mut self) -> std::io::Result<()> {
        while self.pending.has_remaining() {
            if self.io.write_buf(&mut self.pending).await? == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
        }
        self.io.flush().await
    }
}

/// What one direction reads its messages as.
enum Reading {
    Channels(Channels),
    /// Messages are passed on with their borders, and counted.
    Tunnel,
    /// Messages are passed on with their channel in front, and counted. The channel of the
    /// message that is being read.
    Ports(Option<u8>),
}

/// How one direction ended.
enum PumpEnd {
    /// A close frame was passed on.
    Closed,
    /// The end that is read is gone.
    ReadGone,
    /// The end that is written to is gone.
    WriteGone,
    Broken(StreamError),
    Refused(Denial),
}

/// One direction.
struct Pump<'a, C, T, L> {
    reader: &'a mut ReadHalf<C>,
    frames: &'a mut FrameReader,
    writer: &'a mut Writer<T>,
    reading: Reading,
    account: &'a mut L,
    /// What the target's result said.
    code: &'a mut Option<String>,
    /// For a tunnel: whose bytes these are.
    from: StreamEnd,
}

impl<C: AsyncRead, T: AsyncWrite, L: Ledger> Pump<'_, C, T, L> {
    async fn run(mut self) -> PumpEnd {
        loop {
            loop {
                match self.frames.next() {
                    Ok(None) => break,
                    Ok(Some(piece)) => match self.piece(piece).await {
                        Ok(None) => {}
                        Ok(Some(end)) => return end,
                        Err(error) => return PumpEnd::Broken(error),
                    },
                    Err(error) => return PumpEnd::Broken(error.into()),
                }
            }
            if self.writer.flush().await.is_err() {
                return PumpEnd::WriteGone;
            }
            let buffer = self.frames.buffer();
            buffer.reserve(READ_CHUNK_BYTES);
            match self.reader.read_buf(buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return PumpEnd::ReadGone,
            }
        }
    }

    async fn piece(&mut self, piece: Piece) -> Result<Option<PumpEnd>, StreamError> {
        match piece {
            Piece::Data { is_start, is_end, payload } => {
                if let Err(denial) = self.data(is_start, is_end, payload).await? {
                    return Ok(Some(PumpEnd::Refused(denial)));
                }
                Ok(match self.writer.flush().await {
                    Ok(()) => None,
                    Err(_) => Some(PumpEnd::WriteGone),
                })
            }
            Piece::Ping(payload) => {
                self.writer.queue(Opcode::Ping, true, &[&payload]);
                Ok(None)
            }
            Piece::Pong(payload) => {
                self.writer.queue(Opcode::Pong, true, &[&payload]);
                Ok(None)
            }
            Piece::Close(payload) => {
                check_close(&payload)?;
                self.writer.queue(Opcode::Close, true, &[&payload]);
                // Who does not take a goodbye is gone as well.
                let _ = self.writer.flush().await;
                Ok(Some(PumpEnd::Closed))
            }
        }
    }

    async fn data(
        &mut self,
        is_start: bool,
        is_end: bool,
        payload: Bytes,
    ) -> Result<Result<(), Denial>, StreamError> {
        let channels = match &mut self.reading {
            Reading::Channels(channels) => channels,
            Reading::Tunnel => {
                if let Err(denial) = self.account.pass(self.from, &payload).await {
                    return Ok(Err(denial));
                }
                let opcode = if is_start { Opcode::Binary } else { Opcode::Continuation };
                self.writer.queue(opcode, is_end, &[&payload]);
                return Ok(Ok(()));
            }
            Reading::Ports(current) => {
                let mut payload = payload;
                let channel = match *current {
                    Some(channel) => channel,
                    None if payload.is_empty() => return Ok(Ok(())),
                    None => payload.split_to(1).first().copied().unwrap_or_default(),
                };
                *current = (!is_end).then_some(channel);
                if let Err(denial) = self.account.pass(self.from, &payload).await {
                    return Ok(Err(denial));
                }
                self.writer.queue(Opcode::Binary, true, &[&[channel], &payload]);
                return Ok(Ok(()));
            }
        };
        match channels.take(is_end, payload)? {
            None => {}
            Some(Passing::Stream { from, channel, bytes }) => {
                if let Err(denial) = self.account.pass(from, &bytes).await {
                    return Ok(Err(denial));
                }
                // Each part is a message of its own: servers do not join fragments.
                self.writer.queue(Opcode::Binary, true, &[&[channel], &bytes]);
            }
            Some(Passing::Resize { columns, rows, message }) => {
                self.account.resized(columns, rows).await;
                self.writer.queue(Opcode::Binary, true, &[&message]);
            }
            Some(Passing::Result { code, message }) => {
                if code.is_some() {
                    *self.code = code;
                }
                self.writer.queue(Opcode::Binary, true, &[&message]);
            }
            Some(Passing::Close { message }) => {
                self.writer.queue(Opcode::Binary, true, &[&message]);
            }
        }
        Ok(Ok(()))
    }
}

/// What a stream came to.
pub(crate) struct Relayed {
    pub(crate) outcome: Outcome,
    /// What the target's result said: `0`, an exit code, a reason.
    pub(crate) code: Option<String>,
}

/// The ledger of each direction.
pub(crate) struct Ledgers<L> {
    pub(crate) client: L,
    pub(crate) target: L,
}

/// Carries a stream until it ends, and tells the client why when the gateway ends it.
///
/// # Cancel safety
/// Dropping it closes both connections.
pub(crate) async fn relay<C, T, L>(
    client: &mut End<C>,
    target: &mut End<T>,
    subprotocol: Subprotocol,
    ledgers: &mut Ledgers<L>,
    ended: impl Future<Output = Denial>,
) -> Relayed
where
    C: AsyncRead + AsyncWrite,
    T: AsyncRead + AsyncWrite,
    L: Ledger,
{
    let mut code = None;
    let outcome = carry(client, target, subprotocol, ledgers, ended, &mut code).await;
    farewell(&mut client.writer, subprotocol, &outcome).await;
    if outcome != Outcome::Closed {
        target.writer.queue(Opcode::Close, true, &[&close_payload(1001, "")]);
        // The target's connection is closed in any case.
        let _ = timeout(FAREWELL_WAIT, target.writer.flush()).await;
    }
    Relayed { outcome, code }
}

async fn carry<C, T, L>(
    client: &mut End<C>,
    target: &mut End<T>,
    subprotocol: Subprotocol,
    ledgers: &mut Ledgers<L>,
    ended: impl Future<Output = Denial>,
    code: &mut Option<String>,
) -> Outcome
where
    C: AsyncRead + AsyncWrite,
    T: AsyncRead + AsyncWrite,
    L: Ledger,
{
    let reading = |sender| match subprotocol {
        Subprotocol::V4 | Subprotocol::V5 => Reading::Channels(Channels::new(sender, subprotocol)),
        Subprotocol::Tunnel => Reading::Tunnel,
        Subprotocol::Ports => Reading::Ports(None),
    };
    let mut none = None;
    let up = Pump {
        reader: &mut client.reader,
        frames: &mut client.frames,
        writer: &mut target.writer,
        reading: reading(Sender::Client),
        account: &mut ledgers.client,
        code: &mut none,
        from: StreamEnd::Client,
    };
    let down = Pump {
        reader: &mut target.reader,
        frames: &mut target.frames,
        writer: &mut client.writer,
        reading: reading(Sender::Target),
        account: &mut ledgers.target,
        code,
        from: StreamEnd::Target,
    };
    let (up, down) = (up.run(), down.run());
    tokio::pin!(up, down, ended);
    let first = tokio::select! {
        biased;
        denial = &mut ended => return Outcome::Cut(denial),
        end = &mut down => return target_outcome(end),
        end = &mut up => end,
    };
    match first {
        PumpEnd::Broken(error) => Outcome::Client(error),
        PumpEnd::Refused(denial) => Outcome::Cut(denial),
        PumpEnd::ReadGone => Outcome::ClientGone,
        // The client said goodbye, or the target takes no more: what it still says is passed on.
        PumpEnd::Closed | PumpEnd::WriteGone => tokio::select! {
            biased;
            denial = ended => Outcome::Cut(denial),
            end = timeout(CLOSE_WAIT, down) => match (end, first) {
                (Ok(end), PumpEnd::WriteGone) => target_outcome(end),
                (_, PumpEnd::WriteGone) => Outcome::TargetGone,
                _ => Outcome::Closed,
            },
        },
    }
}

fn target_outcome(end: PumpEnd) -> Outcome {
    match end {
        PumpEnd::Closed => Outcome::Closed,
        PumpEnd::ReadGone => Outcome::TargetGone,
        PumpEnd::WriteGone => Outcome::ClientGone,
        PumpEnd::Broken(error) => Outcome::Target(error),
        PumpEnd::Refused(denial) => Outcome::Cut(denial),
    }
}

/// The last words to a client.
async fn farewell<C: AsyncWrite>(
    writer: &mut Writer<C>,
    subprotocol: Subprotocol,
    outcome: &Outcome,
) {
    let broken = |who: &str, error: &StreamError| format!("corral: {who}: {error}");
    let (sentence, reason, code) = match outcome {
        Outcome::Closed | Outcome::ClientGone => return,
        Outcome::TargetGone => {
            ("corral: the target closed the stream".to_owned(), "InternalError", 1011)
        }
        Outcome::Client(error) => {
            (broken("the client broke the protocol", error), "BadRequest", error.close_code())
        }
        Outcome::Target(error) => {
            (broken("the target broke the protocol", error), "InternalError", 1011)
        }
        Outcome::Cut(denial) => (denial.sentence(), "Forbidden", 1001),
    };
    refuse(writer, subprotocol, &sentence, reason, code).await;
}

/// Tells a client why its stream ends, and closes it.
pub(crate) async fn refuse<C: AsyncWrite>(
    writer: &mut Writer<C>,
    subprotocol: Subprotocol,
    sentence: &str,
    reason: &str,
    close_code: u16,
) {
    let close_code = match subprotocol {
        Subprotocol::Tunnel | Subprotocol::Ports => close_code,
        Subprotocol::V4 | Subprotocol::V5 => {
            writer.queue(Opcode::Binary, true, &[&failure(sentence, reason, 403)]);
            // client-go shows a result only when the connection then ends normally.
            if close_code == 1001 { 1000 } else { close_code }
        }
    };
    writer.queue(Opcode::Close, true, &[&close_payload(close_code, sentence)]);
    // A client that takes nothing is not waited for; its connection is closed by the caller.
    let _ = timeout(FAREWELL_WAIT, writer.flush()).await;
}
