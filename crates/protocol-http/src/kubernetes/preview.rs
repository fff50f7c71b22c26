//! Asks the API server what a write would come to, before it is decided. Nothing is kept there.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind};
use corral_model::ids::StatementSeq;
use corral_model::limits;
use corral_model::statement::Facts;
use corral_session::{Completion, HttpBody, Running};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, response};
use serde_json::Value;

use super::body;
use super::call::{ApiVerb, Call};
use super::cluster::Cluster;
use super::judge::Judged;
use super::objects::{Written, has_facts};
use super::options::Preview;
use super::verbs;
use crate::http_parts::bodies::{collect, full};
use crate::http_parts::target::Patience;

/// What the API server answered.
pub(crate) enum Previewed {
    /// The whole object as it would be kept.
    Result(Value),
    /// It refuses the write; the client gets this answer to the dry run of that number.
    Refused(Response<HttpBody>, StatementSeq),
}

/// Whether this write is tried first.
pub(crate) fn is_wanted(call: &Call, written: &Written, preview: Preview) -> bool {
    let Some(path) = call.resource() else { return false };
    let writes = matches!(call.verb, ApiVerb::Create | ApiVerb::Update | ApiVerb::Patch);
    let is_asked = match preview {
        Preview::Never => false,
        Preview::Fields => has_facts(call, path),
        Preview::Writes => true,
    };
    is_asked && writes && !written.body.is_empty() && Judged::heeds_dry_run(path)
}

/// The facts of the dry run itself: it needs the right to connect, and no rule against it.
pub(crate) fn facts(real: &Facts) -> Facts {
    Facts {
        verbs: vec![verbs::PREVIEW],
        objects: real.objects.clone(),
        attributes: real.attributes.clone(),
        statement_count: 1,
        ..Facts::default()
    }
}

/// Asks for a dry run of a write.
///
/// # Errors
/// A [`Denial`]: the target is away, or its answer cannot be read.
pub(crate) async fn ask(
    cluster: &Arc<Cluster>,
    parts: &Parts,
    written: &Written,
    running: Running,
) -> Result<Previewed, Denial> {
    let mut request = Request::new(full(written.body.clone()));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = dry_run(&parts.uri)?;
    *request.headers_mut() = parts.headers.clone();
    let (mut parts, body) = exchange(cluster, request, &running).await?;
    let bytes = body.len();
    let (code, seq) = (parts.status.as_u16().to_string(), running.seq());
    let bytes_count = u64::try_from(bytes).unwrap_or(u64::MAX);
    running.finish(Completion { code, bytes: bytes_count, ..Completion::default() }).await;
    if !parts.status.is_success() {
        parts.headers.remove(CONTENT_LENGTH);
        return Ok(Previewed::Refused(Response::from_parts(parts, full(body)), seq));
    }
    let object = body::read_json(&body).map_err(|error| {
        let text = "the target's answer to a dry run cannot be read";
        let mut denial = Denial::new(DenialKind::TargetUnavailable, text);
        denial.internal = Some(error.to_string());
        denial
    })?;
    Ok(Previewed::Result(object))
}

/// Reads an object as it is, with the gateway's own request, under the permit of the write that
/// changes it. None when it is not there or cannot be read: then no difference is recorded.
pub(crate) async fn read_object(
    cluster: &Arc<Cluster>,
    path: &str,
    running: &Running,
) -> Option<Value> {
    let (parts, body) = exchange(cluster, get(path)?, running).await.ok()?;
    let is_found = parts.status.is_success();
    if is_found { body::read_json(&body).ok() } else { None }
}

/// Reads an object as it is, so that an approval can be bound to it. None when it is not there.
///
/// # Errors
/// A [`Denial`]: the target is away, or does not show it.
pub(crate) async fn read_live(
    cluster: &Arc<Cluster>,
    path: &str,
    running: Running,
) -> Result<Option<Value>, Denial> {
    let unbound = |why: &str| {
        let text = format!(
            "this write waits for approval, and an approval could not be bound to the object \
             that it changes: {why}"
        );
        Denial::new(DenialKind::Forbidden, text)
    };
    let request = get(path).ok_or_else(|| unbound("its path cannot be asked for"))?;
    let (parts, body) = exchange(cluster, request, &running).await?;
    let code = parts.status.as_u16().to_string();
    let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
    running.finish(Completion { code, bytes, ..Completion::default() }).await;
    match parts.status {
        StatusCode::NOT_FOUND => Ok(None),
        code if code.is_success() => {
            let object = body::read_json(&body);
            object.map(Some).map_err(|_| unbound("the target's answer cannot be read"))
        }
        code => {
            let why =
                format!("the target does not show it to the gateway (HTTP {})", code.as_u16());
            Err(unbound(&why))
        }
    }
}

fn get(path: &str) -> Option<Request<HttpBody>> {
    let mut request = Request::new(full(bytes::Bytes::new()));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = path.parse().ok()?;
    Some(request)
}

/// Sends a request of the gateway's own and takes its answer whole, as JSON.
async fn exchange(
    cluster: &Arc<Cluster>,
    mut request: Request<HttpBody>,
    running: &Running,
) -> Result<(response::Parts, bytes::Bytes), Denial> {
    let headers = request.headers_mut();
    cluster.outgoing.apply(headers, running.permit().decision_id());
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.remove(ACCEPT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    let answered = cluster.target.send(request, Patience::Bounded).await?;
    let (parts, body) = answered.response.into_parts();
    let body = corral_session::http::boxed(body);
    let limit = limits::ANSWER_OBJECT_BYTES_MAX;
    let body = collect(body, limit, limits::TARGET_HEAD_DEADLINE).await.map_err(|error| {
        let mut denial =
            Denial::new(DenialKind::TargetUnavailable, "the target's answer cannot be read");
        denial.internal = Some(error.to_string());
        denial
    })?;
    drop(answered.lease);
    Ok((parts, body))
}

/// The same address, asking to keep nothing.
fn dry_run(uri: &Uri) -> Result<Uri, Denial> {
    let query = uri.query().unwrap_or_default();
    let separator = if query.is_empty() { "" } else { "&" };
    let text = match query.split('&').any(|pair| pair == "dryRun=All") {
        true => format!("{}?{query}", uri.path()),
        false => format!("{}?{query}{separator}dryRun=All", uri.path()),
    };
    text.parse().map_err(|_| {
        Denial::new(DenialKind::TooLarge, "the request's line is too long for a dry run")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_is_asked_for_once() {
        let check = |uri: &str, expect: &str| {
            let uri: Uri = uri.parse().expect("an address");
            assert_eq!(dry_run(&uri).expect(expect).to_string(), expect);
        };
        check("/api/v1/pods", "/api/v1/pods?dryRun=All");
        check("/api/v1/pods?a=b", "/api/v1/pods?a=b&dryRun=All");
        check("/api/v1/pods?dryRun=All", "/api/v1/pods?dryRun=All");
    }
}
