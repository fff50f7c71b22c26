//! Requests whose connection becomes something else.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;

use super::Failure;

/// The connection to be, and the answer (101) that makes it so.
///
/// # Errors
/// 426 when the request does not ask for `name` (RFC 9110 sections 7.8 and 15.5.22).
pub(super) fn upgrade(
    mut request: Request,
    name: &'static str,
) -> Result<(OnUpgrade, Response), Failure> {
    let asked = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    let is_asked = asked.is_some_and(|asked| asked.eq_ignore_ascii_case(name));
    let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>().filter(|_| is_asked)
    else {
        return Err(Failure::of_status(
            StatusCode::UPGRADE_REQUIRED,
            format!("this path needs HTTP/1.1 with `connection: upgrade` and `upgrade: {name}`"),
        ));
    };
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(name));
    Ok((on_upgrade, answer))
}
