//! Clients' connections that come as requests of the API: a wrapper carries them here, each with
//! the token of the process that it is of.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::get;
use corral_api::{ErrorCode, STREAM_UPGRADE, SessionStreamQuery};
use corral_gate::Proof;
use corral_model::limits;
use corral_session::ConnectionFacts;

use super::Failure;
use super::extract::{Asked, ShownToken, SignedIn};
use super::upgrade::upgrade;
use crate::app::{App, Caller};
use crate::streams::Streams;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/sessions/stream", get(stream))
}

/// Hands the connection to the protocol's own server, which admits it as it admits everybody: the
/// token has only been shown earlier.
async fn stream(
    SignedIn(caller): SignedIn,
    ShownToken(token): ShownToken,
    State(app): State<Arc<App>>,
    Extension(streams): Extension<Streams>,
    Extension(client): Extension<ConnectionFacts>,
    Asked(query): Asked<SessionStreamQuery>,
    request: Request,
) -> Result<Response, Failure> {
    if matches!(caller, Caller::Admin) {
        let text = "the administrator's token opens no sessions; sign in, or start a run";
        return Err(Failure::new(ErrorCode::Denied, text));
    }
    if app.is_draining() {
        return Err(Failure::unavailable("the gateway stops"));
    }
    let SessionStreamQuery { protocol, target, refusal } = query;
    let Some(server) = streams.server(&protocol) else {
        return Err(Failure::invalid(format!(
            "protocol: '{protocol}' has no connections to carry"
        )));
    };
    let shown = match refusal {
        None => Proof::Certified(token),
        Some(reason) if is_reason(&reason) => Proof::Refused { by: token, reason },
        Some(_) => {
            let max = limits::REFUSAL_BYTES_MAX;
            let text = format!("refusal: at most {max} bytes, and no control characters");
            return Err(Failure::invalid(text));
        }
    };
    let (on_upgrade, answer) = upgrade(request, STREAM_UPGRADE)?;
    let facts = ConnectionFacts {
        listener_target: target,
        protocol: server.protocol(),
        shown: Some(shown),
        ..client
    };
    streams.carry(server, on_upgrade, facts);
    Ok(answer)
}

/// It becomes part of what the client reads and of the record.
fn is_reason(text: &str) -> bool {
    text.len() <= limits::REFUSAL_BYTES_MAX && !text.chars().any(char::is_control)
}
