//! What every [`Runtime`] must do, as a function that a runtime's tests call (feature `testing`).

use std::{sync::Barrier, thread};

use crate::{BoxError, Inputs, Runtime, Tensor};

const THREADS: usize = 4;
const CALLS: usize = 8;

/// Checks a runtime with tensors that it should take: that it gives the outputs its metadata promises, as often as it
/// is asked, from several threads at once, and that its metadata stays the same.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use kf_serve::{Datatype, FnRuntime, ModelMetadata, Tensor, testing::runtime_conforms};
///
/// let metadata = ModelMetadata::new("rust").input("x", Datatype::Bool, [2]).output("x", Datatype::Bool, [2]);
/// let runtime = FnRuntime::new(metadata, |inputs| Ok(inputs.into_tensors()));
/// runtime_conforms(&runtime, vec![Tensor::from_vec("x", [2], vec![true, false])?])?;
/// # }
/// # Ok::<(), kf_serve::BoxError>(())
/// ```
///
/// # Errors
/// What it did wrong first.
pub fn runtime_conforms(runtime: &dyn Runtime, sample: Vec<Tensor>) -> Result<(), BoxError> {
    let metadata = runtime.metadata().clone();
    metadata.check()?;
    let sample = metadata.take_inputs(sample)?;
    let first = runtime.infer(Inputs::new(sample.clone()))?;
    metadata.check_outputs(&first)?;

    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..CALLS {
                        let outputs = runtime.infer(Inputs::new(sample.clone()))?;
                        metadata.check_outputs(&outputs)?;
                    }
                    Ok::<(), BoxError>(())
                })
            })
            .collect();
        // All of them are joined before any is judged: the scope itself panics over one that panicked unjoined.
        let ended: Vec<_> = callers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        ended
            .into_iter()
            .try_for_each(|ended| ended.map_err(|_| "it panicked when called from several threads")?)
    })?;

    if *runtime.metadata() != metadata {
        return Err("its metadata changed".into());
    }
    Ok(())
}
