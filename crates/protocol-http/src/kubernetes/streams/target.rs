//! Opens the target's side of a stream.

use std::time::Duration;

use bytes::Bytes;
use corral_gate::{Denial, DenialKind};
use corral_session::{HttpBody, Running};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::handshake::{Subprotocol, TargetHandshake, TargetHandshakeError};
use super::relay::End;
use crate::http_parts::bodies::{collect, empty};
use crate::http_parts::target::{Answered, Lease};
use crate::kubernetes::cluster::Cluster;

/// A target's words about a refusal, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How long they may take.
const REFUSAL_WAIT: Duration = Duration::from_secs(10);

/// The target's side.
pub(crate) struct TargetStream {
    pub(crate) end: End<TokioIo<Upgraded>>,
    pub(crate) _lease: Lease,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The target said no, in its own words.
    ByTarget {
        code: StatusCode,
        body: Bytes,
        content_type: HeaderValue,
    },
    Denied(Denial),
}

impl Refused {
    /// What a client reads on the stream.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Denied(denial) => denial.sentence(),
            Self::ByTarget { code, body, .. } => {
                let status: Value = serde_json::from_slice(body).unwrap_or_default();
                let message = status.get("message").and_then(Value::as_str);
                message.map_or_else(
                    || format!("corral: the target refused the stream ({})", code.as_u16()),
                    str::to_owned,
                )
            }
        }
    }
}

/// Asks the target for the stream that a client was permitted.
///
/// # Errors
/// [`Refused`]: the target said no, cannot be reached, or its answer is no WebSocket.
pub(crate) async fn open(
    cluster: &Cluster,
    parts: &Parts,
    subprotocol: Subprotocol,
    running: &Running,
) -> Result<TargetStream, Refused> {
    let handshake = TargetHandshake::new(subprotocol).map_err(broken)?;
    let mut request: Request<HttpBody> = Request::new(empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = parts.headers.clone();
    let headers = request.headers_mut();
    cluster.outgoing.apply(headers, running.permit().decision_id());
    headers.remove(CONTENT_LENGTH);
    handshake.apply(headers);
    let sent = cluster.target.send_upgrade(request).await;
    let Answered { response, lease } = sent.map_err(|error| Refused::Denied(error.into()))?;
    cluster.opened().await;
    match handshake.check(response.status(), response.headers()) {
        Ok(()) => {}
        Err(TargetHandshakeError::Refused(code)) if code.as_u16() >= 300 => {
            let content_type = response.headers().get(CONTENT_TYPE).cloned();
            let body = corral_session::http::boxed(response.into_body());
            // Without words, the code says it.
            let body = collect(body, REFUSAL_BYTES_MAX, REFUSAL_WAIT).await.unwrap_or_default();
            let plain = HeaderValue::from_static("text/plain");
            let content_type = content_type.unwrap_or(plain);
            return Err(Refused::ByTarget { code, body, content_type });
        }
        Err(error) => return Err(broken(error)),
    }
    let upgraded = timeout(REFUSAL_WAIT, hyper::upgrade::on(response)).await;
    let Ok(Ok(upgraded)) = upgraded else { return Err(broken(TargetHandshakeError::Answer)) };
    let end = End::new(TokioIo::new(upgraded), super::frame::Sender::Target);
    Ok(TargetStream { end, _lease: lease })
}

fn broken(error: TargetHandshakeError) -> Refused {
    let text = "the target does not speak WebSocket as Kubernetes does since 1.30";
    let mut denial = Denial::new(DenialKind::TargetUnavailable, text);
    denial.internal = Some(error.to_string());
    Refused::Denied(denial)
}
