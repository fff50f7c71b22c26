//! A target's answer that is masked as it passes, whatever masks it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use corral_session::scope::BoxFuture;
use corral_session::{HttpBody, HttpBodyError};
use hyper::body::{Body, Frame};

/// Changes a body piece by piece.
pub(crate) trait Rewrite: Send + Unpin + 'static {
    /// Takes a piece and appends what may pass.
    ///
    /// # Errors
    /// When nothing more may pass: the body ends there.
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), HttpBodyError>;

    /// The body is over.
    ///
    /// # Errors
    /// As above.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), HttpBodyError>;

    /// Accounts what was done, before the last of it passes.
    fn account(&mut self, outcome: Rewritten) -> BoxFuture<'static, ()>;
}

/// How a rewritten body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewritten {
    Whole,
    /// It could not be rewritten.
    Broken,
}

/// A body with its rewriter.
pub(crate) struct RewrittenBody<R> {
    body: HttpBody,
    rewrite: R,
    state: State,
}

enum State {
    Passing,
    Accounting {
        account: BoxFuture<'static, ()>,
        last: Option<Result<Frame<Bytes>, HttpBodyError>>,
    },
    Done,
}

impl<R: Rewrite> RewrittenBody<R> {
    pub(crate) fn new(body: HttpBody, rewrite: R) -> Self {
        Self { body, rewrite, state: State::Passing }
    }

    fn account(&mut self, outcome: Rewritten, last: Option<Result<Frame<Bytes>, HttpBodyError>>) {
        let account = self.rewrite.account(outcome);
        self.state = State::Accounting { account, last };
    }
}

impl<R: Rewrite> Body for RewrittenBody<R> {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        loop {
            match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::Accounting { account, last } => {
                    ready!(account.as_mut().poll(cx));
                    let last = last.take();
                    self.state = State::Done;
                    return Poll::Ready(last);
                }
                State::Passing => {}
            }
            let mut out: Vec<u8> = Vec::new();
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers of an answer could quote what is masked.
                    let Ok(data) = frame.into_data() else { continue };
                    if let Err(error) = self.rewrite.push(&data, &mut out) {
                        self.account(Rewritten::Broken, Some(Err(error)));
                    } else if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out.into()))));
                    }
                }
                Some(Err(error)) => self.account(Rewritten::Broken, Some(Err(error))),
                None => match self.rewrite.finish(&mut out) {
                    Ok(()) => {
                        let last = (!out.is_empty()).then(|| Ok(Frame::data(out.into())));
                        self.account(Rewritten::Whole, last);
                    }
                    Err(error) => self.account(Rewritten::Broken, Some(Err(error))),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_parts::bodies::full;
    use http_body_util::BodyExt;

    /// Turns letters into capitals, and takes no digit.
    struct Capitals;

    impl Rewrite for Capitals {
        fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), HttpBodyError> {
            if piece.iter().any(u8::is_ascii_digit) {
                return Err("a digit".into());
            }
            out.extend(piece.to_ascii_uppercase());
            Ok(())
        }

        fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), HttpBodyError> {
            out.push(b'.');
            Ok(())
        }

        fn account(&mut self, _outcome: Rewritten) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn a_body_passes_rewritten_or_ends() {
        let body = RewrittenBody::new(full("abc"), Capitals);
        assert_eq!(body.collect().await.expect("is whole").to_bytes(), "ABC.");
        let broken = RewrittenBody::new(full("a1"), Capitals);
        assert!(broken.collect().await.is_err());
    }
}
