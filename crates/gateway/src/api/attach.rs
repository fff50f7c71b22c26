//! A run that ends with a connection: what `corral run` holds open and answers on, so that a
//! wrapper that is killed, stopped or cut off leaves no run behind.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use corral_api::{ATTACH_UPGRADE, WRAPPER_KEY_HEADER};
use corral_model::{Secret, limits};
use corral_session::http::into_stream;
use corral_transport::Stream;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};

use super::Failure;
use super::extract::SignedIn;
use super::upgrade::upgrade;
use crate::app::App;
use crate::app::wrapper::Attached;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/runs/{id}/attach", get(attach))
}

async fn attach(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    let (on_upgrade, answer) = upgrade(request, ATTACH_UPGRADE)?;
    let key = headers.get(WRAPPER_KEY_HEADER).and_then(|value| value.to_str().ok());
    let key = key.map(|key| Secret::new(key.to_owned()));
    let attached = app.attach(&caller, &id, key).await?;
    tokio::spawn(hold(on_upgrade, attached));
    Ok(answer)
}

/// How the connection ended.
enum End {
    /// The wrapper is gone or does not answer.
    Lost,
    /// The run ended otherwise, or the gateway stops.
    Other,
}

async fn hold(on_upgrade: OnUpgrade, attached: Attached) {
    let upgraded = timeout(limits::LOGIN_DEADLINE, on_upgrade).await;
    let stream = upgraded.ok().and_then(Result::ok).and_then(into_stream);
    let end = match stream {
        Some(stream) => answer_for(stream, &attached).await,
        None => End::Lost,
    };
    match end {
        End::Lost => attached.lost().await,
        End::Other => {}
    }
}

/// Asks the wrapper again and again whether it is there.
async fn answer_for(stream: Stream, attached: &Attached) -> End {
    let (mut from_wrapper, mut to_wrapper) = tokio::io::split(stream);
    let greeting = match attached.key() {
        Some(key) => format!("key {}\n", key.reveal()),
        None => "held\n".to_owned(),
    };
    let mut heard = Instant::now();
    let mut asks = tokio::time::interval(limits::ATTACH_PING_INTERVAL);
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chunk = [0_u8; limits::ATTACH_LINE_BYTES_MAX];
    if say(&mut to_wrapper, &greeting).await.is_err() {
        return End::Lost;
    }
    loop {
        tokio::select! {
            // First: what came while this gateway itself was held up counts.
            biased;
            read = from_wrapper.read(&mut chunk) => match read {
                // Whatever it says, it is there.
                Ok(count) if count > 0 => heard = Instant::now(),
                Ok(_) | Err(_) => return End::Lost,
            },
            _ = asks.tick() => {
                if attached.is_draining() {
                    return End::Other;
                }
                if !attached.is_live() {
                    // Whether it still hears this changes nothing.
                    let _ = say(&mut to_wrapper, "ended\n").await;
                    return End::Other;
                }
                if say(&mut to_wrapper, "ping\n").await.is_err() {
                    return End::Lost;
                }
            }
            () = sleep_until(heard + limits::ATTACH_LEASE) => return End::Lost,
        }
    }
}

/// A wrapper that reads nothing for so long that nothing can be written is no longer there.
async fn say(to_wrapper: &mut (impl AsyncWriteExt + Unpin), line: &str) -> std::io::Result<()> {
    let written = async {
        to_wrapper.write_all(line.as_bytes()).await?;
        to_wrapper.flush().await
    };
    timeout(limits::ATTACH_PING_INTERVAL, written).await?
}
