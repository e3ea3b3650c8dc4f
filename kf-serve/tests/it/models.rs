//! Models for tests.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use kf_serve::{
    Datatype, Error, FnRuntime, ModelMetadata, ModelRepository, Runtime, Server, ServerHandle, Tensor,
};

/// Gives its input back: FP32, any number of rows of 4.
pub(crate) fn echo() -> impl Runtime {
    identity(Datatype::Fp32, &[-1, 4]).inline()
}

/// Gives its input `IN` back as `OUT`.
pub(crate) fn identity(
    datatype: Datatype,
    shape: &[i64],
) -> FnRuntime<impl Fn(kf_serve::Inputs) -> Result<Vec<Tensor>, kf_serve::BoxError> + Send + Sync + use<>> {
    let metadata = ModelMetadata::new("rust").input("IN", datatype, shape).output("OUT", datatype, shape);
    FnRuntime::new(metadata, |inputs| {
        Ok(inputs.into_tensors().into_iter().map(|tensor| tensor.renamed("OUT")).collect())
    })
}

/// The protocol's customary example: sum and difference of two INT32 rows of 16.
pub(crate) fn simple() -> impl Runtime {
    let shape = [-1, 16];
    let metadata = ModelMetadata::new("rust")
        .input("INPUT0", Datatype::Int32, shape)
        .input("INPUT1", Datatype::Int32, shape)
        .output("OUTPUT0", Datatype::Int32, shape)
        .output("OUTPUT1", Datatype::Int32, shape);
    FnRuntime::new(metadata, |inputs| {
        let (a, b) = (inputs.tensor("INPUT0")?, inputs.tensor("INPUT1")?);
        if a.shape() != b.shape() {
            return Err(Error::invalid_input("INPUT0 and INPUT1 must be of one shape").into());
        }
        let (x, y) = (a.values::<i32>()?, b.values::<i32>()?);
        let each = |f: fn(i32, i32) -> i32| x.iter().zip(&*y).map(|(x, y)| f(*x, *y)).collect::<Vec<i32>>();
        Ok(vec![
            Tensor::from_vec("OUTPUT0", a.shape(), each(i32::wrapping_add))?,
            Tensor::from_vec("OUTPUT1", a.shape(), each(i32::wrapping_sub))?,
        ])
    })
}

/// One INT32 scalar, always the same.
pub(crate) fn constant(value: i32) -> impl Runtime {
    let metadata = ModelMetadata::new("rust").output("OUT", Datatype::Int32, [1]);
    FnRuntime::new(metadata, move |_| Ok(vec![Tensor::from_vec("OUT", [1], vec![value])?]))
}

/// A request for `constant`, or any other model without inputs.
pub(crate) const NO_INPUTS: &str = r#"{"inputs":[]}"#;

/// The FP32 request of the echo model.
pub(crate) const ECHO: &str =
    r#"{"inputs":[{"name":"IN","shape":[1,4],"datatype":"FP32","data":[1.0,2.5,-3.0,4.0]}]}"#;

pub(crate) async fn serve(models: &ModelRepository) -> ServerHandle {
    Server::builder(models.clone()).bind("127.0.0.1:0").await.unwrap()
}

/// Holds a model's calls back until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    inner: Arc<(Mutex<bool>, Condvar)>,
    arrived: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.inner.0.lock().unwrap() = true;
        self.inner.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut open = self.inner.0.lock().unwrap();
        while !*open {
            open = self.inner.1.wait(open).unwrap();
        }
    }

    /// Waits until so many calls have come to the gate.
    pub(crate) async fn arrivals(&self, calls: usize) {
        let arrived = async {
            while self.arrived.load(Ordering::SeqCst) < calls {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(crate::client::PATIENCE, arrived).await.expect("the model wasn't called");
    }

    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }
}

/// One INT32 scalar, once the gate is open.
pub(crate) fn gated(gate: &Gate, value: i32) -> impl Runtime {
    let (gate, metadata) = (gate.clone(), ModelMetadata::new("rust").output("OUT", Datatype::Int32, [1]));
    FnRuntime::new(metadata, move |_| {
        gate.wait();
        Ok(vec![Tensor::from_vec("OUT", [1], vec![value])?])
    })
}
