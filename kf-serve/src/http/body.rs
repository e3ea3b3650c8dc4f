use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time;

use crate::{Error, Result};

/// How much of a refused body is read and thrown away. A client that still sends when its answer comes may never
/// read it.
const DISCARDED: usize = 256 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The whole body; not copied where it came in one piece.
pub(super) async fn read(body: &mut Body, limit: usize) -> Result<Bytes> {
    if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > limit) {
        return Err(Error::TooLarge { limit });
    }
    let Some(first) = chunk(body).await? else { return Ok(Bytes::new()) };
    if first.len() <= limit && body.is_end_stream() {
        return Ok(first);
    }
    let announced = first.len() + usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(announced.min(limit));
    let mut next = Some(first);
    while let Some(chunk_) = next {
        if chunk_.len() > limit - whole.len() {
            return Err(Error::TooLarge { limit });
        }
        whole.extend_from_slice(&chunk_);
        next = chunk(body).await?;
    }
    Ok(whole.freeze())
}

/// The next bytes of the body; trailers are passed over.
async fn chunk(body: &mut Body) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Error::InvalidInput(format!("the request body broke off: {error}")))?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads on to the end of a body that is refused, within bounds.
pub(super) async fn discard(headers: &HeaderMap, body: &mut Body) {
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let mut left = DISCARDED;
    let _ = time::timeout(DISCARD_TIME, async {
        while let Ok(Some(data)) = chunk(body).await {
            left = left.saturating_sub(data.len());
            if left == 0 {
                break;
            }
        }
    })
    .await;
}

/// An answer's body in several pieces, sent without joining them.
#[derive(Debug)]
pub(super) struct Blobs(VecDeque<Bytes>);

impl Blobs {
    pub(super) fn new(first: Bytes, rest: Vec<Bytes>) -> Self {
        Self(std::iter::once(first).chain(rest).filter(|piece| !piece.is_empty()).collect())
    }
}

impl HttpBody for Blobs {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}
