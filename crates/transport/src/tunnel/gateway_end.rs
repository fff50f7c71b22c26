//! The gateway's end of a tunnel: opens streams, and tells the relay what it may dial.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use corral_model::limits;
use h2::client::{Connection, SendRequest};
use http::{Method, Request, StatusCode, Uri};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::health::Health;
use super::messages::{
    CERTIFICATE, Installed, MessageError, REFUSED, RENEWAL, Refused, Requested, SETTINGS, Settings,
    read_body,
};
use super::relay_end::REASON_HEADER;
use super::stream::{Count, Halves, TunnelStream};
use super::{MESSAGE_STREAMS, connection_window_bytes};

/// A stream that was closed here while the relay still sends is given this long to end.
const LINGER: Duration = Duration::from_secs(1);

/// Why a relay did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The connection is lost, or ends: another relay may do.
    #[error("the relay's connection has ended or ends")]
    Gone(#[source] Option<h2::Error>),
    /// As many streams as there may be: another relay may do.
    #[error("the relay has {} streams", limits::RELAY_STREAMS_MAX)]
    Full,
    /// The relay's list does not have this address.
    #[error("the relay may not dial this address")]
    NotAllowed,
    /// The relay tried.
    #[error("the relay cannot connect to the target: {0}")]
    Unreachable(String),
    #[error("this is not a host and a port")]
    Address,
    #[error("the relay did not answer in time")]
    Deadline,
    #[error("the relay's answer cannot be read")]
    Answer,
    /// It did not do it, and says why.
    #[error("the relay refuses: {0}")]
    Refused(String),
}

/// How a tunnel ended.
#[derive(Debug)]
pub enum TunnelEnd {
    /// The relay closed it, after the last stream or without one.
    Closed,
    /// The gateway closed it.
    Ended,
    /// Nothing was heard for [`limits::RELAY_LEASE`].
    CutOff,
    Failed(io::Error),
}

/// Opens streams through one relay process. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Tunnel {
    requests: SendRequest<Bytes>,
    shared: Arc<Shared>,
    closing: mpsc::Sender<Halves>,
}

struct Shared {
    streams: Arc<AtomicUsize>,
    is_draining: AtomicBool,
    end: Notify,
    /// The version of the settings that the relay has.
    settled: watch::Sender<u64>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("streams", &self.streams()).finish_non_exhaustive()
    }
}

/// Drives one tunnel's connection.
pub struct GatewayEnd<S> {
    connection: Connection<S, Bytes>,
    health: Health,
    tunnel: Tunnel,
    closing: mpsc::Receiver<Halves>,
    lingering: JoinSet<()>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> GatewayEnd<S> {
    /// Begins HTTP/2 on a connection that a relay made.
    ///
    /// # Errors
    /// Whatever the connection reports.
    pub async fn start(io: S) -> io::Result<(Tunnel, Self)> {
        let streams = limits::RELAY_STREAMS_MAX.saturating_add(MESSAGE_STREAMS);
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_window_size(limits::RELAY_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(connection_window_bytes())
            .max_frame_size(limits::RELAY_FRAME_BYTES)
            .max_send_buffer_size(limits::RELAY_SEND_BUFFER_BYTES)
            .initial_max_send_streams(usize::try_from(streams).unwrap_or(usize::MAX))
            .enable_push(false)
            .handshake(io)
            .await
            .map_err(super::stream::to_io)?;
        let health = Health::new(connection.ping_pong());
        let room = usize::try_from(limits::RELAY_STREAMS_MAX).unwrap_or(usize::MAX);
        let (closing_in, closing) = mpsc::channel(room);
        let shared = Arc::new(Shared {
            streams: Arc::new(AtomicUsize::new(0)),
            is_draining: AtomicBool::new(false),
            end: Notify::new(),
            settled: watch::Sender::new(0),
        });
        let tunnel = Tunnel { requests, shared, closing: closing_in };
        let end =
            Self { connection, health, tunnel: tunnel.clone(), closing, lingering: JoinSet::new() };
        Ok((tunnel, end))
    }

    /// Drives the connection until it ends; all its streams end with it.
    pub async fn run(self) -> TunnelEnd {
        let Self { connection, mut health, tunnel, mut closing, mut lingering } = self;
        tokio::pin!(connection);
        let end = loop {
            tokio::select! {
                result = &mut connection => break match result {
                    Ok(()) => TunnelEnd::Closed,
                    Err(error) => TunnelEnd::Failed(super::stream::to_io(error)),
                },
                () = health.lost() => break TunnelEnd::CutOff,
                () = tunnel.shared.end.notified() => break TunnelEnd::Ended,
                Some(halves) = closing.recv() => {
                    lingering.spawn(async move {
                        let _ = timeout(LINGER, halves.linger()).await;
                    });
                }
                Some(_) = lingering.join_next() => {}
            }
        };
        tunnel.shared.is_draining.store(true, Ordering::Release);
        end
    }
}

impl Tunnel {
    /// Streams to targets that are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Acquire)
    }

    /// Whether it takes streams: false once the relay said that it stops, or the connection ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        if self.shared.is_draining.load(Ordering::Acquire) {
            return false;
        }
        let mut requests = self.requests.clone();
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        let is_open = !matches!(requests.poll_ready(&mut nobody), Poll::Ready(Err(_)));
        if !is_open {
            self.shared.is_draining.store(true, Ordering::Release);
        }
        is_open
    }

    /// Closes the connection and with it every stream.
    pub fn end(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        self.shared.end.notify_one();
    }

    /// Opens a stream to a target, once the relay has at least this version of its settings.
    ///
    /// # Errors
    /// [`TunnelError`]. The caller bounds the time.
    ///
    /// # Cancel safety
    /// Dropped, the relay gives up the connection.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        settings_version: u64,
    ) -> Result<TunnelStream, TunnelError> {
        let count = Count::take(&self.shared.streams).ok_or(TunnelError::Full)?;
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let uri: Uri = authority.parse().map_err(|_| TunnelError::Address)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        let mut settled = self.shared.settled.subscribe();
        let is_settled = settled.wait_for(|version| *version >= settings_version);
        match timeout(limits::RELAY_ANSWER_DEADLINE, is_settled).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(TunnelError::Gone(None)),
            Err(_) => return Err(TunnelError::Deadline),
        }
        let (answer, send) = self.send(request).await?;
        let answer = answer.await.map_err(|error| self.gone(error))?;
        let reason = reason(&answer);
        match answer.status() {
            StatusCode::OK => {
                let halves = Halves { send, receive: answer.into_body() };
                Ok(TunnelStream::new(halves, Some(self.closing.clone()), Some(count)))
            }
            StatusCode::FORBIDDEN => Err(TunnelError::NotAllowed),
            StatusCode::SERVICE_UNAVAILABLE => Err(TunnelError::Full),
            _ => Err(TunnelError::Unreachable(reason)),
        }
    }

    /// Tells the relay its settings, and notes the version that it has.
    ///
    /// # Errors
    /// [`TunnelError`]: the relay refused them, or is gone.
    pub async fn set(&self, settings: &Settings, version: u64) -> Result<(), TunnelError> {
        self.tell(Method::PUT, SETTINGS, Some(settings)).await?;
        self.shared.settled.send_replace(version);
        Ok(())
    }

    /// Asks for a request for the relay's next certificate.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn ask_request(&self) -> Result<Requested, TunnelError> {
        let body = self.tell::<()>(Method::POST, RENEWAL, None).await?;
        serde_json::from_slice(&body).map_err(|_| TunnelError::Answer)
    }

    /// Hands the relay its next certificate.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn install(&self, certificate: &Installed) -> Result<(), TunnelError> {
        self.tell(Method::PUT, CERTIFICATE, Some(certificate)).await.map(|_| ())
    }

    /// Tells the relay why it is not taken.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn refuse(&self, reason: &str) -> Result<(), TunnelError> {
        let refused = Refused { reason: reason.to_owned() };
        self.tell(Method::PUT, REFUSED, Some(&refused)).await.map(|_| ())
    }

    async fn tell<T: Serialize>(
        &self,
        method: Method,
        path: &'static str,
        message: Option<&T>,
    ) -> Result<Bytes, TunnelError> {
        let exchange = async {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() =
                format!("https://relay{path}").parse().map_err(|_| TunnelError::Address)?;
            let (answer, mut body) = self.send(request).await?;
            let text = match message {
                Some(message) => serde_json::to_vec(message).map_err(|_| TunnelError::Answer)?,
                None => Vec::new(),
            };
            body.send_data(text.into(), true).map_err(|error| self.gone(error))?;
            let answer = answer.await.map_err(|error| self.gone(error))?;
            let reason = reason(&answer);
            if !answer.status().is_success() {
                return Err(TunnelError::Refused(reason));
            }
            match read_body(answer.into_body()).await {
                Ok(body) => Ok(body),
                Err(MessageError::Ended(error)) => Err(self.gone(error)),
                Err(MessageError::TooLong) => Err(TunnelError::Answer),
            }
        };
        let answer = timeout(limits::RELAY_ANSWER_DEADLINE, exchange).await;
        answer.map_err(|_| TunnelError::Deadline)?
    }

    async fn send(
        &self,
        request: Request<()>,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), TunnelError> {
        let mut requests = self.requests.clone();
        poll_fn(|cx| requests.poll_ready(cx)).await.map_err(|error| self.gone(error))?;
        requests.send_request(request, false).map_err(|error| self.gone(error))
    }

    fn gone(&self, error: h2::Error) -> TunnelError {
        // A reset is of one stream; everything else is of the whole connection.
        if !error.is_reset() {
            self.shared.is_draining.store(true, Ordering::Release);
        }
        TunnelError::Gone(Some(error))
    }
}

fn reason<T>(answer: &http::Response<T>) -> String {
    let reason = answer.headers().get(REASON_HEADER).and_then(|value| value.to_str().ok());
    reason.unwrap_or("it does not say why").to_owned()
}
