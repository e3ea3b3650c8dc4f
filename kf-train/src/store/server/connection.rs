//! One connection: reads requests, has them done, sends the answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use crate::store::table::Connection;
use crate::store::wire::{Answer, Request, RequestReader};

/// What a connection is made of.
pub(in crate::store) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// How long a peer may take to say what it is, to send the whole of a request, or to take a piece of an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a connection may have sent of a request before it has to wait for its turn.
const LARGE: usize = 1 << 20;
/// How many connections may be past that at once.
pub(super) const LARGE_REQUESTS: usize = 8;
/// What a buffer keeps when it is empty.
const BUFFER: usize = 16 << 10;

/// A connection that the table knows of, until it is dropped.
struct Known<'a> {
    shared: &'a Shared,
    number: Connection,
    wake: Arc<Notify>,
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.shared.disconnect(self.number);
    }
}

/// Serves until the peer ends the connection.
pub(super) async fn serve(shared: &Shared, mut stream: impl Stream) -> io::Result<()> {
    let (number, wake) = shared.connect();
    let known = Known { shared, number, wake };
    let mut requests = RequestReader::default();
    let mut buffer = BytesMut::new();
    let mut turn = None;
    // By when the request that is under way must be whole; the first is at once.
    let mut deadline = Some(Instant::now() + PATIENCE);
    loop {
        while let Some(request) = requests.next(&mut buffer).map_err(invalid)? {
            deadline = None;
            // All the keys may be much.
            if request == Request::ListKeys && turn.is_none() {
                turn = shared.large.acquire().await.ok();
            }
            if let Some(answer) = shared.apply(number, request).map_err(invalid)? {
                send(&mut stream, answer).await?;
            }
        }
        let within = requests.is_within();
        if !within {
            turn = None;
            if requests.is_validated() {
                deadline = None;
            }
            if buffer.capacity() > LARGE {
                buffer = BytesMut::new();
            }
        } else if turn.is_none() && requests.kept() + buffer.len() > LARGE {
            turn = shared.large.acquire().await.ok();
            deadline = None;
        }
        if within && deadline.is_none() {
            deadline = Some(Instant::now() + PATIENCE);
        }
        buffer.reserve(BUFFER);
        tokio::select! {
            read = by(deadline, stream.read_buf(&mut buffer)) => match read? {
                0 if within => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => return Ok(()),
                _ => {}
            },
            () = known.wake.notified() => if shared.take_stop(number) {
                send(&mut stream, Answer::Stopped).await?;
            },
        }
    }
}

async fn send(stream: &mut impl Stream, answer: Answer) -> io::Result<()> {
    for piece in answer.encode() {
        by(Some(Instant::now() + PATIENCE), send_piece(stream, piece)).await?;
    }
    Ok(())
}

async fn send_piece(stream: &mut impl Stream, piece: Bytes) -> io::Result<()> {
    stream.write_all(&piece).await?;
    stream.flush().await
}

async fn by<T>(deadline: Option<Instant>, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let Some(deadline) = deadline else { return work.await };
    timeout_at(deadline, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("the peer took more than {PATIENCE:?}")))
    })
}

fn invalid(reason: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}
