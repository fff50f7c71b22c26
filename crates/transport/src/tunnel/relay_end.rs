//! The relay's end of a tunnel: takes what the gateway asks for.

use std::io;

use bytes::Bytes;
use corral_model::limits;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::health::Health;
use super::messages::{
    CERTIFICATE, Installed, MessageError, REFUSED, RENEWAL, Refused, SETTINGS, Settings, read_body,
};
use super::stream::{Halves, TunnelStream};
use super::{MESSAGE_STREAMS, connection_window_bytes};

/// Why something was not done, in an answer's head.
pub(super) const REASON_HEADER: &str = "corral-reason";
/// Letters of it at most.
const REASON_BYTES_MAX: usize = 200;

/// Why a tunnel ended.
#[derive(Debug, thiserror::Error)]
pub enum RelayEndError {
    #[error("nothing was heard from the gateway for {} s", limits::RELAY_LEASE.as_secs())]
    CutOff,
    #[error("the connection with the gateway failed")]
    Failed(#[source] io::Error),
}

/// One request of the gateway's.
pub enum Asked {
    Stream(AskedStream),
    Message(AskedMessage),
}

/// A connection with a target is asked for.
pub struct AskedStream {
    host: String,
    port: u16,
    answer: SendResponse<Bytes>,
    body: RecvStream,
}

/// Something is said.
pub struct AskedMessage {
    method: Method,
    path: String,
    answer: SendResponse<Bytes>,
    body: RecvStream,
}

/// What is said.
#[derive(Debug)]
pub enum Message {
    Settings(Settings),
    /// A request for the next certificate is wanted.
    Renewal,
    Certificate(Installed),
    Refused(Refused),
}

/// Takes the gateway's requests on one connection.
pub struct RelayEnd<S> {
    connection: Connection<S, Bytes>,
    health: Health,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> RelayEnd<S> {
    /// Begins HTTP/2 on a connection with a gateway.
    ///
    /// # Errors
    /// [`RelayEndError::Failed`]. The caller bounds the time.
    pub async fn start(io: S) -> Result<Self, RelayEndError> {
        let mut connection = h2::server::Builder::new()
            .initial_window_size(limits::RELAY_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(connection_window_bytes())
            .max_frame_size(limits::RELAY_FRAME_BYTES)
            .max_send_buffer_size(limits::RELAY_SEND_BUFFER_BYTES)
            .max_concurrent_streams(limits::RELAY_STREAMS_MAX.saturating_add(MESSAGE_STREAMS))
            .handshake(io)
            .await
            .map_err(failed)?;
        let health = Health::new(connection.ping_pong());
        Ok(Self { connection, health })
    }

    /// The gateway's next request; None when it closed the connection, or after
    /// [`RelayEnd::drain`] when the last stream has ended. Nothing moves unless this is awaited.
    ///
    /// # Errors
    /// [`RelayEndError`]; all streams have ended then.
    ///
    /// # Cancel safety
    /// No request is lost.
    pub async fn next(&mut self) -> Result<Option<Asked>, RelayEndError> {
        loop {
            let accepted = tokio::select! {
                accepted = self.connection.accept() => accepted,
                () = self.health.lost() => return Err(RelayEndError::CutOff),
            };
            let (request, answer) = match accepted {
                Some(accepted) => accepted.map_err(failed)?,
                None => return Ok(None),
            };
            if let Some(asked) = read(request, answer) {
                return Ok(Some(asked));
            }
        }
    }

    /// Takes no more streams; those that there are go on.
    pub fn drain(&mut self) {
        self.connection.graceful_shutdown();
    }
}

fn failed(error: h2::Error) -> RelayEndError {
    RelayEndError::Failed(super::stream::to_io(error))
}

/// None for a request that is answered already: it names nothing.
fn read(request: Request<RecvStream>, mut answer: SendResponse<Bytes>) -> Option<Asked> {
    let (head, body) = request.into_parts();
    if head.method != Method::CONNECT {
        let path = head.uri.path().to_owned();
        return Some(Asked::Message(AskedMessage { method: head.method, path, answer, body }));
    }
    match (head.uri.host(), head.uri.port_u16()) {
        (Some(host), Some(port)) if port != 0 => {
            let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let host = inner.unwrap_or(host).to_owned();
            Some(Asked::Stream(AskedStream { host, port, answer, body }))
        }
        (_, _) => {
            refuse(&mut answer, StatusCode::BAD_REQUEST, "this names no host and port");
            None
        }
    }
}

/// Why a stream is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRefusal {
    NotAllowed,
    Unreachable,
    /// There are as many as there may be.
    Full,
}

impl AskedStream {
    /// The target's host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until the gateway gives it up.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn given_up(&mut self) {
        let _ = std::future::poll_fn(|cx| self.answer.poll_reset(cx)).await;
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// The gateway has given it up, or the connection is lost.
    pub fn accept(mut self) -> io::Result<TunnelStream> {
        let send =
            self.answer.send_response(Response::new(()), false).map_err(super::stream::to_io)?;
        Ok(TunnelStream::new(Halves { send, receive: self.body }, None, None))
    }

    /// Says why it is not opened.
    pub fn refuse(mut self, refusal: StreamRefusal, reason: &str) {
        let status = match refusal {
            StreamRefusal::NotAllowed => StatusCode::FORBIDDEN,
            StreamRefusal::Unreachable => StatusCode::BAD_GATEWAY,
            StreamRefusal::Full => StatusCode::SERVICE_UNAVAILABLE,
        };
        refuse(&mut self.answer, status, reason);
    }
}

impl AskedMessage {
    /// Reads what is said. None for what this version does not know, which is answered so.
    ///
    /// # Errors
    /// The connection ended within it, or it is too long or no such message.
    pub async fn read(self) -> io::Result<Option<(Message, Answer)>> {
        let Self { method, path, answer, body } = self;
        let mut answer = Answer(answer);
        let body = match read_body(body).await {
            Ok(body) => body,
            Err(MessageError::Ended(error)) => return Err(super::stream::to_io(error)),
            Err(MessageError::TooLong) => {
                refuse(&mut answer.0, StatusCode::PAYLOAD_TOO_LARGE, "this is too long");
                return Ok(None);
            }
        };
        let message = match (&method, path.as_str()) {
            (&Method::PUT, SETTINGS) => serde_json::from_slice(&body).map(Message::Settings),
            (&Method::POST, RENEWAL) => Ok(Message::Renewal),
            (&Method::PUT, CERTIFICATE) => serde_json::from_slice(&body).map(Message::Certificate),
            (&Method::PUT, REFUSED) => serde_json::from_slice(&body).map(Message::Refused),
            (_, _) => {
                refuse(&mut answer.0, StatusCode::NOT_FOUND, "this relay does not know this");
                return Ok(None);
            }
        };
        match message {
            Ok(message) => Ok(Some((message, answer))),
            Err(error) => {
                let reason = format!("this cannot be read: {error}");
                refuse(&mut answer.0, StatusCode::BAD_REQUEST, &reason);
                Ok(None)
            }
        }
    }
}

/// The answer to a message.
pub struct Answer(SendResponse<Bytes>);

impl Answer {
    /// It was done.
    pub fn done(mut self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let _ = self.0.send_response(response, true);
    }

    /// It was done, with this result.
    pub fn with<T: Serialize>(mut self, result: &T) {
        let Ok(text) = serde_json::to_vec(result) else {
            return refuse(&mut self.0, StatusCode::INTERNAL_SERVER_ERROR, "no answer");
        };
        if let Ok(mut body) = self.0.send_response(Response::new(()), false) {
            let _ = body.send_data(text.into(), true);
        }
    }

    /// It was not done.
    pub fn refuse(mut self, reason: &str) {
        refuse(&mut self.0, StatusCode::UNPROCESSABLE_ENTITY, reason);
    }
}

fn refuse(answer: &mut SendResponse<Bytes>, status: StatusCode, reason: &str) {
    let plain: String = reason
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .take(REASON_BYTES_MAX)
        .collect();
    let mut response = Response::new(());
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(plain.trim()) {
        response.headers_mut().insert(REASON_HEADER, value);
    }
    // A gateway that is gone needs no answer.
    let _ = answer.send_response(response, true);
}
