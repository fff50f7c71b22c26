//! Refusals as kubectl reads them: `Status` objects (meta/v1).

use corral_gate::{Denial, DenialKind};
use corral_model::ids::ApprovalId;
use corral_session::HttpBody;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::parked::APPROVAL;
use crate::http_parts::bodies::full;

/// `k8s.io/apimachinery/pkg/apis/meta/v1.Status`.
#[derive(Serialize)]
struct Status<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Metadata,
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    kind: &'static str,
}

#[derive(Serialize)]
struct Metadata {}

/// The HTTP code (CONTRACT section 6) and `StatusReason` of a refusal.
pub(crate) fn code_of(kind: DenialKind) -> (StatusCode, &'static str) {
    match kind {
        DenialKind::Authentication | DenialKind::Ended => {
            (StatusCode::UNAUTHORIZED, "Unauthorized")
        }
        DenialKind::Forbidden
        | DenialKind::ApprovalDenied
        | DenialKind::ApprovalExpired
        | DenialKind::Withdrawn => (StatusCode::FORBIDDEN, "Forbidden"),
        DenialKind::TooManySessions | DenialKind::BudgetSpent => {
            (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests")
        }
        DenialKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
        DenialKind::RecordUnavailable | DenialKind::Shutdown => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
        }
        DenialKind::TargetUnavailable => (StatusCode::BAD_GATEWAY, "ServiceUnavailable"),
        DenialKind::NotSupported => (StatusCode::NOT_IMPLEMENTED, "MethodNotAllowed"),
        DenialKind::Protocol => (StatusCode::BAD_REQUEST, "BadRequest"),
    }
}

/// The answer to a client that is refused.
pub(crate) fn refusal(denial: &Denial) -> Response<HttpBody> {
    if let Some(internal) = &denial.internal {
        tracing::info!(kind = ?denial.kind, internal, "a request was refused");
    }
    let (code, reason) = code_of(denial.kind);
    let mut response = answer(code, reason, &denial.sentence());
    let headers = response.headers_mut();
    if code == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"corral\""));
    }
    // Clients of the API repeat a request by themselves when they are told when. No time brings a
    // spent budget back.
    if matches!(denial.kind, DenialKind::TooManySessions | DenialKind::Shutdown) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A failure with a sentence, as JSON.
pub(crate) fn status_json(code: StatusCode, reason: &'static str, message: &str) -> Vec<u8> {
    written(code, reason, message, None)
}

fn written(
    code: StatusCode,
    reason: &'static str,
    message: &str,
    details: Option<Details<'_>>,
) -> Vec<u8> {
    let status = Status {
        kind: "Status",
        api_version: "v1",
        metadata: Metadata {},
        status: "Failure",
        message,
        reason,
        details,
        code: code.as_u16(),
    };
    // A struct of texts and a number always is JSON.
    serde_json::to_vec(&status).unwrap_or_default()
}

/// The answer to a client that did not want to wait for people. Its status is a failure, so that
/// no client takes for done what was not: a client that only looks for `Success` must not go on.
pub(crate) fn accepted(approval: &ApprovalId, notice: &str) -> Response<HttpBody> {
    let message = format!(
        "corral: {notice} Nothing was done yet: send the same request again with the header \
         Corral-Approval: {approval}"
    );
    let details = Details { name: approval.as_str(), kind: "approvals" };
    let code = StatusCode::ACCEPTED;
    let body = written(code, "AwaitingApproval", &message, Some(details));
    let mut response = json(code, body);
    let headers = response.headers_mut();
    headers.insert("preference-applied", HeaderValue::from_static("respond-async"));
    // An id is of letters, digits and '-'.
    if let Ok(id) = HeaderValue::from_str(approval.as_str()) {
        headers.insert(APPROVAL, id);
    }
    response
}

/// The answer that is a failure with a sentence.
pub(crate) fn answer(code: StatusCode, reason: &'static str, message: &str) -> Response<HttpBody> {
    json(code, status_json(code, reason, message))
}

fn json(code: StatusCode, body: Vec<u8>) -> Response<HttpBody> {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_a_status_object_with_one_sentence() {
        let mut denial = Denial::new(DenialKind::Forbidden, "Ask \"a\" first.");
        denial.rules = vec!["r".into()];
        denial.decision_id = Some("d-1".into());
        let response = refusal(&denial);
        assert_eq!(response.status(), 403);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "corral: r: Ask \"a\" first. (decision d-1)",
                "reason": "Forbidden", "code": 403,
            })
        );
    }

    #[test]
    fn codes_are_those_of_the_contract() {
        let check = |kind: DenialKind, code: u16, has_retry: bool| {
            let response = refusal(&Denial::new(kind, "x"));
            assert_eq!(response.status().as_u16(), code, "{kind:?}");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), has_retry, "{kind:?}");
        };
        check(DenialKind::Authentication, 401, false);
        check(DenialKind::Ended, 401, false);
        check(DenialKind::Forbidden, 403, false);
        check(DenialKind::ApprovalDenied, 403, false);
        check(DenialKind::ApprovalExpired, 403, false);
        check(DenialKind::TooManySessions, 429, true);
        check(DenialKind::BudgetSpent, 429, false);
        check(DenialKind::TooLarge, 413, false);
        check(DenialKind::RecordUnavailable, 503, false);
        check(DenialKind::TargetUnavailable, 502, false);
        check(DenialKind::Shutdown, 503, true);
    }
}
