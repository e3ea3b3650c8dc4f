//! The task that owns a client's connection: one exchange after the other, none left half-way.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::server::Stream;
use super::super::wire::{Answer, AnswerReader, MAGIC, Request};

/// How long after a call's time its answer may still come, before the connection counts as lost.
const GRACE: Duration = Duration::from_secs(5);

/// What one call of a client asks of the server.
pub(super) struct Call {
    /// Wait for these keys first.
    pub(super) wait: Option<Request>,
    /// Then ask these together.
    pub(super) requests: Vec<Request>,
    pub(super) deadline: Instant,
    /// Dropped by the caller who gives up.
    pub(super) reply: oneshot::Sender<Vec<Answer>>,
}

/// Why a connection can't be used any more.
pub(super) type Broken = Arc<OnceLock<(io::ErrorKind, String)>>;

/// Carries the calls out, until all clients of the connection are dropped or it breaks.
pub(super) async fn carry(mut wire: Wire<impl Stream>, mut calls: mpsc::Receiver<Call>, broken: Broken) {
    loop {
        let (ended, call) = tokio::select! {
            call = calls.recv() => match call {
                None => return,
                Some(mut call) => (wire.exchange(&mut call).await, Some(call)),
            },
            error = wire.idle() => (Err(error), None),
        };
        match (ended, call) {
            (Ok(answers), Some(call)) => {
                // The caller may have given up.
                answers.and_then(|answers| call.reply.send(answers).err());
            }
            (Ok(_), None) => {}
            (Err(error), _call) => {
                // Known before the callers are told, by their replies being dropped.
                broken.get_or_init(|| (error.kind(), error.to_string()));
                return;
            }
        }
    }
}

pub(super) struct Wire<S> {
    stream: S,
    buffer: BytesMut,
}

impl<S: Stream> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Says what we are, and hears that the other is a store.
    pub(super) async fn greet(&mut self) -> io::Result<()> {
        let nonce = std::process::id();
        let ping = Request::Ping(nonce);
        self.send(&[Request::Validate(MAGIC), ping.clone()]).await?;
        match self.answer(&ping).await? {
            Some(Answer::Pong(back)) if back == nonce => Ok(()),
            other => Err(invalid(format!("{other:?} in answer to a ping of {nonce}: no store"))),
        }
    }

    /// None where the caller gave up on the wait, or before anything was sent.
    async fn exchange(&mut self, call: &mut Call) -> io::Result<Option<Vec<Answer>>> {
        if call.reply.is_closed() {
            return Ok(None);
        }
        let last = call.deadline + GRACE;
        if let Some(wait) = &call.wait {
            within(last, self.send(std::slice::from_ref(wait))).await?;
            tokio::select! {
                answer = self.answer(wait) => match answer? {
                    Some(Answer::Stopped) => {}
                    other => return Err(invalid(format!("{other:?} in answer to a wait"))),
                },
                () = call.reply.closed() => return self.cancel_wait().await,
                () = sleep_until(last) => return self.cancel_wait().await,
            }
        }
        within(last, self.send(&call.requests)).await?;
        let mut answers = Vec::new();
        for request in &call.requests {
            answers.extend(within(last, self.answer(request)).await?);
        }
        Ok(Some(answers))
    }

    /// The wait may have ended before the server learns that it is cancelled; then both answers come.
    async fn cancel_wait(&mut self) -> io::Result<Option<Vec<Answer>>> {
        let last = Instant::now() + GRACE;
        within(last, self.send(&[Request::CancelWait])).await?;
        for _ in 0..2 {
            match within(last, self.answer(&Request::CancelWait)).await? {
                Some(Answer::Canceled) => return Ok(None),
                Some(Answer::Stopped) => {}
                other => return Err(invalid(format!("{other:?} in answer to a cancelled wait"))),
            }
        }
        Err(invalid("a cancelled wait ended twice".into()))
    }

    async fn send(&mut self, requests: &[Request]) -> io::Result<()> {
        let mut out = BytesMut::new();
        requests.iter().for_each(|request| request.encode(&mut out));
        self.stream.write_all(&out).await?;
        self.stream.flush().await
    }

    async fn answer(&mut self, request: &Request) -> io::Result<Option<Answer>> {
        let Some(mut reader) = AnswerReader::of(request) else { return Ok(None) };
        loop {
            if let Some(answer) = reader.next(&mut self.buffer).map_err(|error| invalid(error.to_string()))? {
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
                return Ok(Some(answer));
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(4096);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the server ended the connection")),
            _ => Ok(()),
        }
    }

    /// Nothing is to come while nothing was asked.
    async fn idle(&mut self) -> io::Error {
        match self.read().await {
            Ok(()) => invalid("the server sent what nobody asked for".into()),
            Err(error) => error,
        }
    }
}

async fn within<T>(last: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout_at(last, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer an earlier call"))
    })
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
