//! An HTTP server on one encrypted connection: HTTP/1.1 or 2, bounded heads, upgrades.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corral_model::ids::TargetName;
use corral_transport::Stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;

use crate::service::{HttpBody, HttpConnection, HttpTarget};

/// A client that has not sent its request's head by then is disconnected.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// One request's head, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of one request.
pub const HEADERS_LEN_MAX: usize = 128;
/// Requests of one HTTP/2 connection that run at once.
pub const STREAMS_MAX: u32 = 256;

/// Serves requests until the client leaves, or until `closed` is ready and those that run are
/// done.
///
/// # Limits
/// [`HEAD_DEADLINE`], for the first head too: neither a client that says nothing, nor one that
/// stops in the middle of HTTP/2's opening, holds a place.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub async fn serve_requests<S>(stream: Stream, service: S, closed: impl Future<Output = ()>)
where
    S: Service<http::Request<Incoming>, Response = http::Response<HttpBody>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_LEN_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    let has_asked = Arc::new(AtomicBool::new(false));
    let service = {
        let has_asked = has_asked.clone();
        service_fn(move |request| {
            has_asked.store(true, Ordering::Relaxed);
            service.call(request)
        })
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = nothing_asked(&has_asked) => {
            tracing::debug!("an HTTP client sent no request in time");
            return;
        }
        () = closed => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "an HTTP connection ended early");
    }
}

/// Ready when the first request has not come in time. hyper's own deadline begins when it knows
/// which HTTP the client speaks, and is for HTTP/1.1 only.
async fn nothing_asked(has_asked: &AtomicBool) {
    tokio::time::sleep(HEAD_DEADLINE).await;
    if has_asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// The connection below an upgraded request of [`serve_requests`]. None when the client sent
/// more before it was told that the connection is its own (it is to blame), and for a connection
/// of another server.
#[must_use]
pub fn into_stream(upgraded: Upgraded) -> Option<Stream> {
    let parts = auto::upgrade::downcast::<TokioIo<Stream>>(upgraded).ok()?;
    parts.read_buf.is_empty().then(|| parts.io.into_inner())
}

/// Serves a listener that belongs to one target.
pub(crate) async fn serve(
    stream: Stream,
    target: Option<TargetName>,
    connection: Arc<dyn HttpConnection>,
) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let target = match &target {
            Some(name) => HttpTarget::OfListener(name.clone()),
            // A shared listener of an HTTP protocol does not exist: they are mounted.
            None => HttpTarget::Named(String::new()),
        };
        let answer = connection.clone().call(target, request.map(boxed));
        async move { Ok(answer.await) }
    });
    serve_requests(stream, service, std::future::pending()).await;
}

/// A request's body as engines take it.
#[must_use]
pub fn boxed(body: Incoming) -> HttpBody {
    body.map_err(|error| -> crate::service::HttpBodyError { Box::new(error) }).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_transport::{Address, Endpoint, Listener, Route, TargetTlsMode};
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    /// How long a client is served that sends this and no more.
    async fn served(beginning: &[u8]) -> Duration {
        let listener = Listener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.address();
        let endpoint = Endpoint {
            address: Address::Tcp { host: address.ip().to_string(), port: address.port() },
            route: Route::Direct,
            tls: TargetTlsMode::Disable,
            ca_pem: None,
        };
        let mut client = endpoint.dial().await.expect("dialled");
        let accepted = listener.accept().await.expect("accepted");
        client.write_all(beginning).await.expect("sent");
        let service = service_fn(async |_: http::Request<Incoming>| {
            Ok::<http::Response<HttpBody>, Infallible>(http::Response::default())
        });
        tokio::time::pause();
        let started = Instant::now();
        serve_requests(accepted.stream, service, std::future::pending()).await;
        let took = started.elapsed();
        tokio::time::resume();
        took
    }

    #[tokio::test]
    async fn a_client_that_asks_nothing_is_disconnected() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = b"\0\0\0\x04\0\0\0\0\0";
        let half_headers = b"\0\0\x01\x01\0\0\0\0\x01\x82";
        let http2 = [&preface[..], settings, half_headers].concat();
        for beginning in [b"".as_slice(), b"GET", b"GET / HTTP/1.1\r\nX", &preface[..9], &http2] {
            let took = served(beginning).await;
            assert!(took >= HEAD_DEADLINE && took < HEAD_DEADLINE * 2, "{beginning:?} {took:?}");
        }
    }
}
