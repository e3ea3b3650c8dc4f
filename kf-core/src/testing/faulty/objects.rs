//! An object store that fails.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use super::script::Script;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectCall {
    /// An object in one piece.
    Put,
    /// A part of an object in several, or their completion.
    Part,
    /// An object's bytes.
    Get,
    /// An object's size and time.
    Head,
    /// Its removal.
    Delete,
}

/// What goes wrong in a call.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectFault {
    /// It does what it was asked, so much later.
    Late(Duration),
    /// It does nothing and gives an error after which the same call may go through.
    Fails,
    /// It does nothing and gives an error after which the same call fails again.
    Refuses,
    /// It does what it was asked, and then gives an error as if it had not.
    FailsAfter,
    /// It never answers.
    Hangs,
    /// Half of the bytes go through and then there is an error: a put leaves nothing, a get gives the half first.
    Breaks,
    /// Half of the bytes go through and nobody says so. A put stores the half.
    Ends,
    /// A byte is another than it was.
    Changes,
}

/// An object store around another, in which calls fail by rule or at random.
///
/// ```
/// use std::sync::Arc;
/// use kf_core::artifact::ArtifactStore;
/// use kf_core::testing::{FaultyObjects, ObjectCall, ObjectFault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let objects = Arc::new(FaultyObjects::new(Arc::new(object_store::memory::InMemory::new())));
/// let store = ArtifactStore::new(objects.clone(), folder.path())?;
/// objects.next(ObjectCall::Put, ObjectFault::Fails, 1);
/// store.put_bytes("a model".into()).await?;
/// assert_eq!(objects.calls(ObjectCall::Put), 2);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct FaultyObjects {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Script<ObjectCall, ObjectFault>>,
}

impl FaultyObjects {
    /// A store that has no faults yet.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, script: Arc::new(Script::new()) }
    }

    /// The next so many calls of this kind meet this fault, after those that were asked for before.
    pub fn next(&self, call: ObjectCall, fault: ObjectFault, times: usize) {
        self.script.rule(call, fault, times);
    }

    /// Of all other calls, one in so many meets one of these faults. The same seed gives the same for the same
    /// order of calls.
    pub fn at_random(&self, seed: u64, one_in: u64, faults: Vec<ObjectFault>) {
        self.script.at_random(seed, one_in, faults);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.script.heal();
    }

    /// How many calls of this kind were made.
    pub fn calls(&self, call: ObjectCall) -> usize {
        self.script.calls(call)
    }

    /// How many calls met a fault.
    pub fn met(&self) -> usize {
        self.script.met()
    }

    /// What the call meets; waits, fails or hangs here where that is all there is to it.
    async fn before(&self, call: ObjectCall, of: &Path) -> Result<Option<ObjectFault>> {
        match self.script.next(call, Some(of.as_ref())) {
            Some(ObjectFault::Late(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            Some(ObjectFault::Hangs) => std::future::pending().await,
            Some(ObjectFault::Fails) => Err(broken("the connection was refused")),
            Some(ObjectFault::Refuses) => {
                Err(Error::NotImplemented { operation: format!("{call:?}"), implementer: self.to_string() })
            }
            other => Ok(other),
        }
    }
}

impl fmt::Display for FaultyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

/// An error after which the same call may go through.
fn broken(why: &str) -> Error {
    Error::Generic { store: "faulty", source: why.into() }
}

/// What reaches the other side of what was sent.
fn damaged(payload: PutPayload, fault: Option<&ObjectFault>) -> PutPayload {
    let mut bytes = Bytes::from(payload).to_vec();
    match fault {
        Some(ObjectFault::Ends) => bytes.truncate(bytes.len() / 2),
        Some(ObjectFault::Changes) => change(&mut bytes),
        _ => {}
    }
    bytes.into()
}

fn change(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

#[async_trait]
impl ObjectStore for FaultyObjects {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = self.before(ObjectCall::Put, location).await?;
        if fault == Some(ObjectFault::Breaks) {
            return Err(broken("the connection broke after half of the body"));
        }
        let result = self.inner.put_opts(location, damaged(payload, fault.as_ref()), opts).await?;
        match fault {
            Some(ObjectFault::FailsAfter) => Err(broken("the connection broke before the answer")),
            _ => Ok(result),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FaultyUpload { inner, script: Arc::clone(&self.script) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let call = if options.head { ObjectCall::Head } else { ObjectCall::Get };
        let fault = self.before(call, location).await?;
        let result = self.inner.get_opts(location, options).await?;
        match fault {
            Some(ObjectFault::FailsAfter) => Err(broken("the connection broke before the answer")),
            Some(fault) if call == ObjectCall::Get => damage(result, &fault).await,
            _ => Ok(result),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.before(ObjectCall::Get, location).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.script.next(ObjectCall::Delete, None) {
            None => self.inner.delete_stream(locations),
            Some(ObjectFault::Late(time)) => {
                let inner = Arc::clone(&self.inner);
                let late = async move {
                    tokio::time::sleep(time).await;
                    inner.delete_stream(locations)
                };
                stream::once(late).flatten().boxed()
            }
            Some(ObjectFault::FailsAfter) => {
                let lost = stream::once(async { Err(broken("the connection broke before the answer")) });
                let deleted = self.inner.delete_stream(locations).filter(|_| std::future::ready(false));
                deleted.chain(lost).boxed()
            }
            Some(_) => stream::once(async { Err(broken("the connection was refused")) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// What arrives of an object.
async fn damage(result: GetResult, fault: &ObjectFault) -> Result<GetResult> {
    let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let mut bytes = result.bytes().await?.to_vec();
    let mut pieces = Vec::new();
    match fault {
        ObjectFault::Changes => change(&mut bytes),
        _ => bytes.truncate(bytes.len() / 2),
    }
    pieces.push(Ok(Bytes::from(bytes)));
    if *fault == ObjectFault::Breaks {
        pieces.push(Err(broken("the connection broke after half of the body")));
    }
    Ok(GetResult { payload: GetResultPayload::Stream(stream::iter(pieces).boxed()), meta, range, attributes })
}

/// An object that goes up in parts.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    script: Arc<Script<ObjectCall, ObjectFault>>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.script.next(ObjectCall::Part, None);
        let part = match &fault {
            Some(ObjectFault::Fails | ObjectFault::Refuses | ObjectFault::Breaks) => {
                return async { Err(broken("the connection broke after half of the part")) }.boxed();
            }
            Some(ObjectFault::Hangs) => return std::future::pending().boxed(),
            fault => self.inner.put_part(damaged(data, fault.as_ref())),
        };
        async move {
            if let Some(ObjectFault::Late(time)) = fault {
                tokio::time::sleep(time).await;
            }
            part.await?;
            match fault {
                Some(ObjectFault::FailsAfter) => Err(broken("the connection broke before the answer")),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.script.next(ObjectCall::Part, None) {
            Some(ObjectFault::Hangs) => std::future::pending().await,
            Some(ObjectFault::FailsAfter) => {
                self.inner.complete().await?;
                Err(broken("the connection broke before the answer"))
            }
            Some(ObjectFault::Late(time)) => {
                tokio::time::sleep(time).await;
                self.inner.complete().await
            }
            Some(_) => Err(broken("the connection was refused")),
            None => self.inner.complete().await,
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
