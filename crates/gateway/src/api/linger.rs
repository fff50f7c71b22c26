//! Reads what is left of a request that was answered early, so that its sender gets to the answer:
//! a connection that is closed over unread bytes is reset, and the answer is lost with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use corral_model::limits;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

/// A request's body, of which what the handler leaves can be had back.
#[derive(Clone)]
pub(super) struct Unread(Arc<Mutex<Body>>);

/// The same request, and what will be left of it.
pub(super) fn watch(request: Request) -> (Request, Unread) {
    let (parts, body) = request.into_parts();
    let unread = Unread(Arc::new(Mutex::new(body)));
    (Request::from_parts(parts, Body::new(unread.clone())), unread)
}

impl Unread {
    /// Reads the rest and throws it away.
    ///
    /// # Limits
    /// [`limits::API_LINGER_BYTES_MAX`] and [`limits::API_LINGER`]; who sends more or slower is cut
    /// off.
    pub(super) async fn read(mut self) {
        let rest = async {
            let mut left = limits::API_LINGER_BYTES_MAX;
            while let Some(Ok(frame)) = self.frame().await {
                let len = frame.data_ref().map_or(0, Bytes::len);
                let Some(less) = left.checked_sub(len) else { return };
                left = less;
            }
        };
        // The answer is the same either way.
        let _ = tokio::time::timeout(limits::API_LINGER, rest).await;
    }

    /// Nothing panics while it is held, and nobody waits while it is.
    fn lock(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}
