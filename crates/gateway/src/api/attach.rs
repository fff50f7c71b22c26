//! A run that ends with a connection: what `corral run` holds open, so that a wrapper that is
//! killed leaves no run behind.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use corral_api::ErrorCode;
use corral_model::limits;
use futures_util::Stream;

use super::Failure;
use super::extract::SignedIn;
use crate::app::{App, Caller};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/runs/{id}/attach", get(attach))
}

/// Answers with a line every so often for as long as the run is active. Only the run itself may
/// attach: nobody else's connection decides its end.
async fn attach(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let is_itself = matches!(&caller, Caller::Run { run, .. } if run.as_str() == id);
    if !is_itself {
        return Err(Failure::new(ErrorCode::Denied, "only a run itself may attach to its end"));
    }
    let lines = lines(Attached { app, caller, id });
    Ok(([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(lines)).into_response())
}

fn lines(attached: Attached) -> impl Stream<Item = std::io::Result<&'static str>> {
    async_stream::stream! {
        let mut interval = tokio::time::interval(limits::EVENT_STREAM_RECHECK);
        loop {
            interval.tick().await;
            // An ended run is nobody, so this fails when it ended in another way.
            if attached.app.whoami(&attached.caller).await.is_err() {
                yield Ok("ended\n");
                break;
            }
            yield Ok("active\n");
        }
    }
}

/// The connection's end of the run.
struct Attached {
    app: Arc<App>,
    caller: Caller,
    id: String,
}

impl Drop for Attached {
    fn drop(&mut self) {
        // A gateway that stops closes every connection; its runs go on when it is back.
        if self.app.is_draining() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (app, caller, id) = (self.app.clone(), self.caller.clone(), self.id.clone());
        runtime.spawn(async move {
            if let Err(error) = app.end_run(&caller, &id).await {
                tracing::warn!(%error, run = id, "a run could not be ended with its connection");
            }
        });
    }
}
