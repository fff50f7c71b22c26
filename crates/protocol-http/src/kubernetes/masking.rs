//! Puts the masks of one resource onto an answer of the target.

use std::sync::Arc;

use corral_model::event::EventBody;
use corral_model::ids::StatementSeq;
use corral_model::resource::ColumnName;
use corral_session::scope::BoxFuture;
use corral_session::{HttpBody, HttpBodyError, SessionHandle};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::call::{ApiVerb, Call};
use super::secrets::{MaskError, MaskPlan, Masker, QUOTING_HEADERS, Shape, masked_failure};
use super::status::status_json;
use super::watch::WatchBody;
use crate::http_parts::bodies::full;
use crate::http_parts::masked::{Rewrite, Rewritten, RewrittenBody};

/// What is masked in the answer to a request; None when nothing is. What streams out of a
/// container, and what answers behind a proxy, is no object of the API.
pub(crate) fn plan(call: &Call, masked: &[ColumnName]) -> Option<Arc<MaskPlan>> {
    let path = call.resource()?;
    let is_text = path.subresource.as_deref() == Some("log");
    if path.is_connection() || is_text {
        return None;
    }
    MaskPlan::new(masked, &path.group, &path.resource, call.name()).map(Arc::new)
}

/// Asks the target for what can be masked.
///
/// # Errors
/// [`MaskError::NotAcceptable`]: the client is to blame.
pub(crate) fn ask(plan: &MaskPlan, headers: &mut HeaderMap) -> Result<(), MaskError> {
    let listed: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let listed = listed.join(", ");
    let accept = plan.accept(Some(&listed))?;
    let accept = HeaderValue::from_str(&accept).map_err(|_| MaskError::NotAcceptable)?;
    headers.insert(ACCEPT, accept);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(())
}

/// Masks an answer, or replaces it where that cannot be done.
pub(crate) fn apply(
    plan: &Arc<MaskPlan>,
    verb: ApiVerb,
    parts: &mut Parts,
    body: HttpBody,
    account: (SessionHandle, StatementSeq),
) -> HttpBody {
    // The length is that of what is masked.
    parts.headers.remove(CONTENT_LENGTH);
    for name in QUOTING_HEADERS {
        parts.headers.remove(name);
    }
    if body.is_end_stream() {
        return body;
    }
    let code = parts.status.as_u16();
    let shape = match verb {
        _ if parts.status.is_client_error() || parts.status.is_server_error() => Shape::Error(code),
        ApiVerb::Watch => Shape::Watch,
        ApiVerb::List | ApiVerb::DeleteCollection => Shape::List,
        ApiVerb::Get
        | ApiVerb::Create
        | ApiVerb::Update
        | ApiVerb::Patch
        | ApiVerb::Delete
        | ApiVerb::Proxy => Shape::Object,
    };
    let is_packed =
        parts.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() != b"identity");
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let masker = match is_packed {
        true => Err(MaskError::ContentType),
        false => Masker::new(plan.clone(), shape, content_type.unwrap_or_default()),
    };
    let error = match masker {
        Ok(masker) => {
            let (session, seq) = account;
            let masking = Masking { plan: plan.clone(), masker, session, seq, error: None };
            return RewrittenBody::new(body, masking).boxed_unsync();
        }
        Err(error) => error,
    };
    let replaced = match shape {
        Shape::Error(code) => masked_failure(plan, code).to_string().into_bytes(),
        Shape::Object | Shape::List | Shape::Watch => {
            parts.status = StatusCode::BAD_GATEWAY;
            status_json(parts.status, "InternalError", &format!("corral: masking: {error}"))
        }
    };
    parts.headers.remove(CONTENT_ENCODING);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    full(replaced)
}

/// Ends a watch as soon as other fields than those of `plan` are to be masked in it.
pub(crate) fn until_changed(
    plan: Option<Arc<MaskPlan>>,
    call: Call,
    parts: &Parts,
    body: HttpBody,
    account: (SessionHandle, StatementSeq),
) -> HttpBody {
    let (session, seq_in_session) = account;
    let noted = session.clone();
    let ended = Box::pin(async move {
        session.mask_becomes(|masked| self::plan(&call, masked) != plan).await;
    });
    let account = Box::pin(async move {
        let detail = "other fields are masked since this watch began".to_owned();
        noted.note(EventBody::StreamCut { seq_in_session, detail }).await;
    });
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    WatchBody::new(body, content_type.unwrap_or_default(), ended, account).boxed_unsync()
}

struct Masking {
    plan: Arc<MaskPlan>,
    masker: Masker,
    session: SessionHandle,
    seq: StatementSeq,
    error: Option<MaskError>,
}

impl Rewrite for Masking {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), HttpBodyError> {
        self.masker.push(piece, out).map_err(|error| self.failed(error))
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), HttpBodyError> {
        self.masker.finish(out).map_err(|error| self.failed(error))
    }

    fn account(&mut self, _outcome: Rewritten) -> BoxFuture<'static, ()> {
        let (session, seq_in_session) = (self.session.clone(), self.seq);
        let columns = self.plan.columns().map(str::to_owned).collect();
        let masked = self.masker.masked();
        let error = self.error.take();
        Box::pin(async move {
            if masked > 0 {
                let rows = masked;
                session.note(EventBody::RowsMasked { seq_in_session, columns, rows }).await;
            }
            if let Some(error) = error {
                let detail = error.to_string();
                session.note(EventBody::SessionTripped { seq_in_session, detail }).await;
            }
        })
    }
}

impl Masking {
    fn failed(&mut self, error: MaskError) -> HttpBodyError {
        self.error = Some(error.clone());
        Box::new(error)
    }
}
