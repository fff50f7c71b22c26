//! The way to a target: connections of one session, HTTP/2 where the target has it, used again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use corral_gate::{Denial, DenialKind};
use corral_model::resource::TargetTlsMode;
use corral_model::{Secret, limits};
use corral_session::http::boxed;
use corral_session::{HttpBody, SessionHandle};
use corral_transport::{
    Address, ClientIdentity, DialError, Endpoint, Stream, TlsOffer, start_target_tls_with,
};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::bodies::{CollectError, collect};

/// A certificate that the gateway shows to the target.
pub(crate) struct Identity {
    pub(crate) chain_pem: String,
    pub(crate) key: Secret,
}

/// Why a target gave no answer. For the log: a client never reads it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the target did not connect in time")]
    DialDeadline,
    #[error("the HTTP connection to the target failed")]
    Http(#[source] hyper::Error),
    #[error("the target's answer did not begin in time")]
    HeadDeadline,
    #[error("the target switched to another protocol, unasked")]
    Switched,
    #[error("the session has too many connections")]
    Tasks,
    #[error("the target's answer cannot be read")]
    Answer(#[from] CollectError),
    #[error("the target's address is none that a request can name")]
    Address(#[source] http::Error),
}

impl From<TargetError> for Denial {
    fn from(error: TargetError) -> Self {
        let text = match &error {
            TargetError::HeadDeadline => "the target did not answer in time",
            TargetError::Dial(_)
            | TargetError::DialDeadline
            | TargetError::Http(_)
            | TargetError::Switched
            | TargetError::Tasks
            | TargetError::Answer(_)
            | TargetError::Address(_) => "the target cannot be reached",
        };
        let mut denial = Self::new(DenialKind::TargetUnavailable, text);
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        denial.internal = Some(format!("{error}{}", source.unwrap_or_default()));
        denial
    }
}

/// A target's answer; the lease keeps its connection counted as in use.
pub(crate) struct Answered {
    pub(crate) response: http::Response<Incoming>,
    pub(crate) lease: Lease,
}

/// How long the head of an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`limits::TARGET_HEAD_DEADLINE`].
    Bounded,
    /// As long as the session: who answers is somebody behind the target, and the client's body
    /// may stream before.
    OfSession,
}

impl Patience {
    async fn bound<T>(self, sent: impl Future<Output = T>) -> Result<T, TargetError> {
        match self {
            Self::Bounded => {
                let sent = timeout(limits::TARGET_HEAD_DEADLINE, sent).await;
                sent.map_err(|_| TargetError::HeadDeadline)
            }
            Self::OfSession => Ok(sent.await),
        }
    }
}

/// Held as long as an answer is read.
pub(crate) type Lease = Arc<()>;

/// One session's connections to its target.
pub(crate) struct Target {
    endpoint: Endpoint,
    /// `host:port`, as `Host` and `:authority`.
    authority: String,
    identity: Option<Identity>,
    session: SessionHandle,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    multiplexed: Vec<Multiplexed>,
    /// They are ready again when their last answer was read.
    single: Vec<http1::SendRequest<HttpBody>>,
}

struct Multiplexed {
    sender: http2::SendRequest<HttpBody>,
    /// Its other owners are requests.
    lease: Lease,
}

enum Connection {
    Multiplexed(http2::SendRequest<HttpBody>, Lease),
    Single(http1::SendRequest<HttpBody>),
}

impl Target {
    pub(crate) fn new(
        endpoint: Endpoint,
        identity: Option<Identity>,
        session: SessionHandle,
    ) -> Self {
        let authority = authority(&endpoint);
        Self { endpoint, authority, identity, session, connections: Mutex::default() }
    }

    /// Sends a request and waits for the head of its answer. The path and query are the
    /// request's; host and scheme are the target's.
    ///
    /// # Errors
    /// [`TargetError`]: the target is to blame.
    ///
    /// # Cancel safety
    /// Dropping it ends the request.
    pub(crate) async fn send(
        &self,
        mut request: http::Request<HttpBody>,
        patience: Patience,
    ) -> Result<Answered, TargetError> {
        // A connection that the target closed meanwhile gives the request back.
        loop {
            let (connection, is_used) = match self.idle() {
                Some(connection) => (connection, true),
                None => (self.connect(&["h2", "http/1.1"]).await?, false),
            };
            match patience.bound(self.try_send(connection, request)).await? {
                Ok(answered)
                    if answered.response.status() == http::StatusCode::SWITCHING_PROTOCOLS =>
                {
                    return Err(TargetError::Switched);
                }
                Ok(answered) => return Ok(answered),
                Err((error, Some(unsent))) if is_used => {
                    tracing::debug!(%error, "a connection to a target was closed; another is made");
                    request = *unsent;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Sends a request that asks for another protocol, on an HTTP/1.1 connection of its own. Its
    /// headers and body go as they are.
    ///
    /// # Errors
    /// [`TargetError`]: the target is to blame.
    pub(crate) async fn send_upgrade(
        &self,
        request: http::Request<HttpBody>,
    ) -> Result<Answered, TargetError> {
        let connection = self.connect(&["http/1.1"]).await?;
        let sent = timeout(limits::TARGET_HEAD_DEADLINE, self.try_send(connection, request));
        sent.await.map_err(|_| TargetError::HeadDeadline)?.map_err(|(error, _)| error)
    }

    async fn try_send(
        &self,
        connection: Connection,
        request: http::Request<HttpBody>,
    ) -> Result<Answered, (TargetError, Option<Box<http::Request<HttpBody>>>)> {
        match connection {
            Connection::Multiplexed(mut sender, lease) => {
                let request = self.absolute(request).map_err(|error| (error, None))?;
                if let Err(error) = sender.ready().await {
                    return Err((TargetError::Http(error), Some(Box::new(request))));
                }
                let response = sender.try_send_request(request).await.map_err(unsent)?;
                Ok(Answered { response, lease })
            }
            Connection::Single(mut sender) => {
                let request = self.origin_form(request).map_err(|error| (error, None))?;
                if let Err(error) = sender.ready().await {
                    return Err((TargetError::Http(error), Some(Box::new(request))));
                }
                let response = sender.try_send_request(request).await.map_err(unsent)?;
                self.keep(sender);
                Ok(Answered { response, lease: Lease::default() })
            }
        }
    }

    /// A connection that can take a request at once.
    fn idle(&self) -> Option<Connection> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.multiplexed.retain(|connection| !connection.sender.is_closed());
        let mut waiting = 0;
        connections.single.retain(|sender| {
            waiting += usize::from(sender.is_ready());
            !sender.is_closed() && waiting <= limits::TARGET_CONNECTIONS_IDLE_MAX
        });
        let free = connections
            .multiplexed
            .iter()
            .find(|c| Arc::strong_count(&c.lease) <= limits::TARGET_REQUESTS_PER_CONNECTION);
        if let Some(free) = free {
            return Some(Connection::Multiplexed(free.sender.clone(), free.lease.clone()));
        }
        let ready = connections.single.iter().position(http1::SendRequest::is_ready)?;
        Some(Connection::Single(connections.single.swap_remove(ready)))
    }

    fn keep(&self, sender: http1::SendRequest<HttpBody>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.single.push(sender);
    }

    async fn connect(&self, alpn: &[&str]) -> Result<Connection, TargetError> {
        let opened = open(&self.endpoint, self.identity.as_ref(), alpn);
        let stream = timeout(limits::TARGET_LOGIN_DEADLINE, opened)
            .await
            .map_err(|_| TargetError::DialDeadline)??;
        let is_multiplexed = stream.target_alpn() == Some(b"h2");
        let io = TokioIo::new(stream);
        if is_multiplexed {
            let handshake = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(Some(std::time::Duration::from_secs(30)))
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(4 * 1024 * 1024)
                .max_header_list_size(64 * 1024)
                .handshake(io)
                .await;
            let (sender, connection) = handshake.map_err(TargetError::Http)?;
            self.drive(connection)?;
            let lease = Lease::default();
            let kept = Multiplexed { sender: sender.clone(), lease: lease.clone() };
            self.connections.lock().unwrap_or_else(PoisonError::into_inner).multiplexed.push(kept);
            return Ok(Connection::Multiplexed(sender, lease));
        }
        let handshake = http1::Builder::new().max_buf_size(64 * 1024).handshake(io).await;
        let (sender, connection) = handshake.map_err(TargetError::Http)?;
        self.drive(connection.with_upgrades())?;
        Ok(Connection::Single(sender))
    }

    fn drive(
        &self,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Result<(), TargetError> {
        let task = async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP connection to a target ended early");
            }
        };
        self.session.spawn(task).map_err(|_| TargetError::Tasks)
    }

    /// For HTTP/1.1: path and query, and a `Host` header.
    fn origin_form(
        &self,
        mut request: http::Request<HttpBody>,
    ) -> Result<http::Request<HttpBody>, TargetError> {
        let path = path_and_query(&request).to_owned();
        *request.uri_mut() =
            http::Uri::builder().path_and_query(path).build().map_err(TargetError::Address)?;
        *request.version_mut() = http::Version::HTTP_11;
        let host = http::HeaderValue::from_str(&self.authority)
            .map_err(|error| TargetError::Address(error.into()))?;
        request.headers_mut().insert(http::header::HOST, host);
        Ok(request)
    }

    /// For HTTP/2: scheme and authority too.
    fn absolute(
        &self,
        mut request: http::Request<HttpBody>,
    ) -> Result<http::Request<HttpBody>, TargetError> {
        let path = path_and_query(&request).to_owned();
        *request.uri_mut() = http::Uri::builder()
            .scheme("https")
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build()
            .map_err(TargetError::Address)?;
        *request.version_mut() = http::Version::HTTP_2;
        request.headers_mut().remove(http::header::HOST);
        Ok(request)
    }
}

/// Sends one request on a connection of its own, outside of any session, and reads the whole
/// answer.
///
/// # Errors
/// [`TargetError`]: the target is to blame.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub(crate) async fn ask_once(
    endpoint: &Endpoint,
    mut request: http::Request<HttpBody>,
    body_bytes_max: usize,
) -> Result<http::Response<Bytes>, TargetError> {
    let opened = open(endpoint, None, &["http/1.1"]);
    let stream = timeout(limits::TARGET_LOGIN_DEADLINE, opened)
        .await
        .map_err(|_| TargetError::DialDeadline)??;
    let host = http::HeaderValue::from_str(&authority(endpoint))
        .map_err(|error| TargetError::Address(error.into()))?;
    request.headers_mut().insert(http::header::HOST, host);
    let handshake = http1::Builder::new().max_buf_size(64 * 1024).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(TargetError::Http)?;
    let asked = async {
        let sent = timeout(limits::TARGET_HEAD_DEADLINE, sender.send_request(request));
        let response = sent.await.map_err(|_| TargetError::HeadDeadline)?;
        let (parts, body) = response.map_err(TargetError::Http)?.into_parts();
        let body = collect(boxed(body), body_bytes_max, limits::TARGET_HEAD_DEADLINE).await?;
        Ok(http::Response::from_parts(parts, body))
    };
    tokio::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        // It may end before its answer is read.
        ended = connection => match ended {
            Ok(()) => asked.await,
            Err(error) => Err(TargetError::Http(error)),
        },
    }
}

async fn open(
    endpoint: &Endpoint,
    identity: Option<&Identity>,
    alpn: &[&str],
) -> Result<Stream, TargetError> {
    let stream = endpoint.dial().await?;
    match endpoint.tls {
        TargetTlsMode::Disable => Ok(stream),
        TargetTlsMode::Require | TargetTlsMode::VerifyFull => {
            let identity = identity.map(|identity| ClientIdentity {
                chain_pem: &identity.chain_pem,
                key: &identity.key,
            });
            let offer = TlsOffer { alpn, identity };
            Ok(start_target_tls_with(stream, endpoint, offer).await?.stream)
        }
    }
}

/// `host:port`, as `Host` and `:authority`.
fn authority(endpoint: &Endpoint) -> String {
    match &endpoint.address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix(_) => "localhost".to_owned(),
    }
}

fn path_and_query(request: &http::Request<HttpBody>) -> &str {
    request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

fn unsent(
    mut error: hyper::client::conn::TrySendError<http::Request<HttpBody>>,
) -> (TargetError, Option<Box<http::Request<HttpBody>>>) {
    let request = error.take_message().map(Box::new);
    (TargetError::Http(error.into_error()), request)
}
