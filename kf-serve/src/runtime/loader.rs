use std::{path::Path, sync::Arc};

use crate::{BoxError, Runtime};

/// Makes a runtime of a folder of files.
///
/// Every function from a path to a runtime is one, `TorchScript::load` among them. It is called on a blocking thread.
pub trait Loader: Send + Sync + 'static {
    /// Loads the model that lies in `folder`.
    ///
    /// # Errors
    /// Whatever is wrong with the files; a model that was loaded before goes on serving.
    fn load(&self, folder: &Path) -> Result<Arc<dyn Runtime>, BoxError>;
}

impl<F, R, E> Loader for F
where
    F: Fn(&Path) -> Result<R, E> + Send + Sync + 'static,
    R: Runtime,
    E: Into<BoxError>,
{
    fn load(&self, folder: &Path) -> Result<Arc<dyn Runtime>, BoxError> {
        match self(folder) {
            Ok(runtime) => Ok(Arc::new(runtime)),
            Err(error) => Err(error.into()),
        }
    }
}
