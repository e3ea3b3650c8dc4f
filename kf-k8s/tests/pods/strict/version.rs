//! Which definitions of Trainer, JobSet and the training operator a cluster has.

use kube::core::Request;
use serde_json::Value as Json;

use super::server::Server;

/// What the definitions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Those of Trainer 2.0, of JobSet 0.8 and of the training operator 1.8.
    Older,
    /// Those of today.
    Newer,
}

/// Fields that the older ones lack, each with the field that it is in.
const LACKING: [(&str, &str); 2] = [("rules", "onJobFailureMessagePatterns"), ("runPolicy", "managedBy")];

impl Version {
    pub(super) async fn of(server: &Server) -> Self {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let request = Request::new(path).get("trainjobs.trainer.kubeflow.org", &Default::default()).unwrap();
        let definition: Json = server.client.request(request).await.unwrap_or_default();
        let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties");
        match spec.is_some_and(|spec| spec["runtimePatches"].is_null()) {
            true => Self::Older,
            false => Self::Newer,
        }
    }

    /// An object without what this version lacks, and the fields that it had of these.
    pub(super) fn fit(self, object: &Json) -> (Json, Vec<&'static str>) {
        let (mut fitting, mut removed) = (object.clone(), Vec::new());
        // Operators that old have no JAXJob: whoever has it, has a newer one.
        if self == Self::Older && object["kind"] != "JAXJob" {
            remove(&mut fitting, "", &mut removed);
        }
        (fitting, removed)
    }
}

fn remove(value: &mut Json, within: &str, removed: &mut Vec<&'static str>) {
    match value {
        Json::Object(fields) => {
            for (_, field) in LACKING.iter().filter(|(parent, _)| *parent == within) {
                removed.extend(fields.remove(*field).map(|_| *field));
            }
            fields.iter_mut().for_each(|(name, field)| remove(field, name, removed));
        }
        Json::Array(items) => items.iter_mut().for_each(|item| remove(item, within, removed)),
        _ => {}
    }
}
