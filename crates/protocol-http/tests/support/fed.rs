//! A body that a test feeds by hand.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc::{Receiver, Sender};

/// It ends when the sender is dropped.
pub(crate) fn fed() -> (Sender<Bytes>, super::Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
    (sender, StreamBody::new(Fed(receiver)).boxed_unsync())
}

/// An empty piece breaks the body.
struct Fed(Receiver<Bytes>);

impl futures_util::Stream for Fed {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = |piece: Bytes| match piece.is_empty() {
            true => Err(std::io::Error::other("gone")),
            false => Ok(Frame::data(piece)),
        };
        self.0.poll_recv(cx).map(|piece| piece.map(frame))
    }
}
