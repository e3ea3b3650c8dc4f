use std::sync::Arc;

use crate::Runtime;

/// A model as requests meet it.
pub(crate) struct Served {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// How every answer of this model begins: `{"model_name":…,"model_version":…`.
    pub(crate) answer_start: Vec<u8>,
}

impl Served {
    pub(super) fn new(model: &str, version: &str, runtime: Arc<dyn Runtime>) -> Self {
        let names = serde_json::json!({ "model_name": model, "model_version": version });
        let mut answer_start = names.to_string().into_bytes();
        answer_start.pop();
        Self { model: model.to_owned(), version: version.to_owned(), runtime, answer_start }
    }
}
