//! Bodies: whole ones with a limit, and streams that are counted, cut with their session, and
//! whose end is in the record before the client sees it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corral_session::scope::BoxFuture;
use corral_session::{Completion, HttpBody, HttpBodyError, Running, SessionHandle, Usage};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::timeout;

/// A body that is at hand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> HttpBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> HttpBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Why a body could not be taken whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive in {} seconds", .0.as_secs())]
    TooSlow(Duration),
    #[error("the body ended early")]
    Broken(#[source] HttpBodyError),
}

/// Takes a body whole.
///
/// # Errors
/// [`CollectError`]: whoever sends it is to blame.
///
/// # Cancel safety
/// What was read is lost.
pub(crate) async fn collect(
    mut body: HttpBody,
    limit: usize,
    time: Duration,
) -> Result<Bytes, CollectError> {
    let is_larger = |length: u64| usize::try_from(length).map_or(true, |length| length > limit);
    if is_larger(body.size_hint().lower()) {
        return Err(CollectError::TooLarge { limit });
    }
    let whole = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(CollectError::Broken)?;
            // Trailers of a request mean nothing to any API here.
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(CollectError::TooLarge { limit });
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    timeout(time, whole).await.unwrap_or(Err(CollectError::TooSlow(time)))
}

/// A body of which the start was looked at.
pub(crate) struct Peeked {
    /// The whole of it, when it was no larger than the limit and arrived in time.
    pub(crate) start: Option<Bytes>,
    /// The body as it was.
    pub(crate) body: HttpBody,
}

/// Looks at a body, and gives it back as it was.
///
/// # Cancel safety
/// What was read is lost.
pub(crate) async fn peek(mut body: HttpBody, limit: usize, time: Duration) -> Peeked {
    let mut bytes = BytesMut::new();
    let whole = async {
        loop {
            match body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(trailers) => return Ok(Some(trailers)),
                },
                Some(Err(error)) => return Err(error),
            }
            if bytes.len() > limit {
                return Ok(None);
            }
        }
    };
    let ended = timeout(time, whole).await;
    let read = bytes.freeze();
    let is_whole = matches!(ended, Ok(Ok(_))) && read.len() <= limit;
    if is_whole {
        return Peeked { start: Some(read.clone()), body: full(read) };
    }
    let rest = match ended {
        Ok(Err(error)) => Rest::Failed(error),
        Ok(Ok(_)) | Err(_) => Rest::More(body),
    };
    let again = Again { read: Some(read), rest };
    Peeked { start: None, body: again.boxed_unsync() }
}

/// What was read of a body, and then the rest of it.
struct Again {
    read: Option<Bytes>,
    rest: Rest,
}

enum Rest {
    More(HttpBody),
    Failed(HttpBodyError),
    Over,
}

impl Body for Again {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        if let Some(read) = self.read.take() {
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        if let Rest::More(body) = &mut self.rest {
            return Pin::new(body).poll_frame(cx);
        }
        match std::mem::replace(&mut self.rest, Rest::Over) {
            Rest::Failed(error) => Poll::Ready(Some(Err(error))),
            Rest::More(_) | Rest::Over => Poll::Ready(None),
        }
    }
}

/// Where bytes go, for counting.
#[derive(Debug, Clone, Copy)]
enum Way {
    ToClient,
    ToTarget,
}

fn usage(way: Way, bytes: usize) -> Usage {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    match way {
        Way::ToClient => Usage { bytes_to_client: bytes, ..Usage::default() },
        Way::ToTarget => Usage { bytes_to_target: bytes, ..Usage::default() },
    }
}

/// A client's body on its way to the target, counted.
pub(crate) struct ToTarget {
    body: HttpBody,
    session: SessionHandle,
}

impl ToTarget {
    pub(crate) fn new(body: HttpBody, session: SessionHandle) -> Self {
        Self { body, session }
    }
}

impl Body for ToTarget {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.session.count(usage(Way::ToTarget, data.len()));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why an answer ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the session ended, or the right to this answer was taken away")]
struct Cut;

/// A target's answer on its way to the client. It ends with its session, or when the right to a
/// stream is taken away, and its statement is completed in the record before the client sees its
/// last byte.
pub(crate) struct ToClient {
    state: State,
    ended: BoxFuture<'static, ()>,
    session: SessionHandle,
}

enum State {
    Passing {
        body: HttpBody,
        running: Box<Running>,
        completion: Completion,
        /// Keeps the target's connection counted as in use.
        _lease: Box<dyn Send>,
    },
    /// The last frame waits for the record.
    Finishing {
        finish: BoxFuture<'static, ()>,
        last: Option<Frame<Bytes>>,
    },
    Done,
}

impl ToClient {
    /// `completion` has what is known before the body; its bytes are counted here.
    pub(crate) async fn new(
        body: HttpBody,
        running: Running,
        completion: Completion,
        session: SessionHandle,
        lease: impl Send + 'static,
    ) -> Self {
        let ended = {
            let (session, revoked) = (session.clone(), running.revoked());
            Box::pin(async move {
                tokio::select! {
                    _ = session.ended() => {}
                    _ = revoked => {}
                }
            })
        };
        // A body without bytes is never asked for any.
        let state = if body.is_end_stream() {
            running.finish(completion).await;
            State::Done
        } else {
            let running = Box::new(running);
            State::Passing { body, running, completion, _lease: Box::new(lease) }
        };
        Self { state, ended, session }
    }

    fn finish(&mut self, last: Option<Frame<Bytes>>) {
        let state = std::mem::replace(&mut self.state, State::Done);
        if let State::Passing { running, completion, .. } = state {
            let finish = Box::pin((*running).finish(completion));
            self.state = State::Finishing { finish, last };
        }
    }
}

impl Body for ToClient {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        loop {
            match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::Finishing { finish, last } => {
                    ready!(finish.as_mut().poll(cx));
                    let last = last.take();
                    self.state = State::Done;
                    return Poll::Ready(last.map(Ok));
                }
                State::Passing { body, completion, running, .. } => {
                    let frame = match Pin::new(&mut *body).poll_frame(cx) {
                        Poll::Ready(frame) => frame,
                        Poll::Pending => {
                            ready!(self.ended.as_mut().poll(cx));
                            // Dropping what runs records it as aborted.
                            self.state = State::Done;
                            return Poll::Ready(Some(Err(Box::new(Cut))));
                        }
                    };
                    match frame {
                        Some(Ok(frame)) => {
                            let count = frame.data_ref().map_or(0, Bytes::len);
                            let bytes = u64::try_from(count).unwrap_or(u64::MAX);
                            completion.bytes = completion.bytes.saturating_add(bytes);
                            let is_last = body.is_end_stream();
                            let is_revoked = running.is_revoked();
                            self.session.count(usage(Way::ToClient, count));
                            // A target that always has more to say must not outlive the session.
                            if is_revoked || self.session.end_so_far().is_some() {
                                self.state = State::Done;
                                return Poll::Ready(Some(Err(Box::new(Cut))));
                            }
                            if !is_last {
                                return Poll::Ready(Some(Ok(frame)));
                            }
                            self.finish(Some(frame));
                        }
                        Some(Err(error)) => {
                            self.state = State::Done;
                            return Poll::Ready(Some(Err(error)));
                        }
                        None => self.finish(None),
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Passing { .. } | State::Finishing { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Passing { body, .. } => body.size_hint(),
            State::Finishing { last, .. } => {
                let left = last.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX))
            }
            State::Done => SizeHint::with_exact(0),
        }
    }
}
