//! What all kinds share: how they are named to a server, written and read.

use k8s_openapi::Resource;
use serde::de::{Deserialize, Deserializer, Error, Unexpected};

/// Defines a kind: its struct, what `kube::Api` asks of it, and its form as JSON with `apiVersion` and `kind`.
macro_rules! custom_resource {
    (
        $(#[$doc:meta])*
        $name:ident is $plural:literal of $group:literal $version:literal in $scope:ident {
            spec: $spec:ty,
            $(status: $status:ty,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            /// Name, namespace, labels and what else every object has.
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What is asked for.
            pub spec: $spec,
            $(
                /// How it stands, as its controller last told.
                pub status: Option<$status>,
            )?
        }

        impl $name {
            /// An object of this name, with nothing but what is asked for.
            pub fn new(name: impl Into<String>, spec: $spec) -> Self {
                let mut object = Self { spec, ..Self::default() };
                object.metadata.name = Some(name.into());
                object
            }
        }

        impl k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::Metadata for $name {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use k8s_openapi::Resource as _;
                use serde::ser::SerializeStruct as _;

                let fields = 4 $(+ usize::from(Option::<$status>::is_some(&self.status)))?;
                let mut object = serializer.serialize_struct(Self::KIND, fields)?;
                object.serialize_field("apiVersion", Self::API_VERSION)?;
                object.serialize_field("kind", Self::KIND)?;
                object.serialize_field("metadata", &self.metadata)?;
                object.serialize_field("spec", &self.spec)?;
                $(
                    if let Some(status) = &self.status {
                        object.serialize_field::<$status>("status", status)?;
                    }
                )?
                object.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(rename_all = "camelCase")]
                struct Parts {
                    api_version: Option<String>,
                    kind: Option<String>,
                    #[serde(default)]
                    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
                    #[serde(default)]
                    spec: $spec,
                    $(status: Option<$status>,)?
                }

                let parts = Parts::deserialize(deserializer)?;
                $crate::objects::resource::check_type::<Self, D::Error>(&parts.api_version, &parts.kind)?;
                Ok(Self {
                    metadata: parts.metadata,
                    spec: parts.spec,
                    $(status: Option::<$status>::or(parts.status, None),)?
                })
            }
        }
    };
}

/// Refuses what says that it is something else than a `K`. The items of a list need not say what they are.
pub(super) fn check_type<K: Resource, E: Error>(
    api_version: &Option<String>,
    kind: &Option<String>,
) -> Result<(), E> {
    for (found, expected) in [(api_version, K::API_VERSION), (kind, K::KIND)] {
        if let Some(found) = found.as_deref().filter(|found| *found != expected) {
            return Err(E::invalid_value(Unexpected::Str(found), &expected));
        }
    }
    Ok(())
}

/// Reads a list or a map; null is an empty one, as Go writes one that was never made.
pub(super) fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use kube::Resource as _;
    use kube::core::ObjectList;
    use serde_json::json;

    use crate::objects::{ClusterTrainingRuntime, JobSet, TrainJob};

    #[test]
    fn a_kind_is_found_where_the_server_has_it() {
        assert_eq!(
            TrainJob::url_path(&(), Some("team")),
            "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs"
        );
        assert_eq!(
            ClusterTrainingRuntime::url_path(&(), None),
            "/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes"
        );
    }

    #[test]
    fn an_object_says_what_it_is_and_leaves_out_what_is_not_set() {
        let written = serde_json::to_value(JobSet::new("a", Default::default())).unwrap();
        let expected = json!({
            "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "a"}, "spec": {},
        });
        assert_eq!(written, expected);
    }

    #[test]
    fn another_kind_or_version_is_refused() {
        let read = |api_version, kind| {
            serde_json::from_value::<JobSet>(json!({"apiVersion": api_version, "kind": kind, "spec": {}}))
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("jobset.x-k8s.io/v1alpha2", "JobSet"), Ok(()));
        assert_eq!(
            read("jobset.x-k8s.io/v1alpha2", "TrainJob").unwrap_err(),
            r#"invalid value: string "TrainJob", expected JobSet"#
        );
        assert!(read("jobset.x-k8s.io/v2", "JobSet").unwrap_err().contains("jobset.x-k8s.io/v1alpha2"));
    }

    #[test]
    fn a_list_is_read_with_what_this_crate_does_not_know() {
        let list: ObjectList<TrainJob> = serde_json::from_value(json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJobList",
            "metadata": {"resourceVersion": "7"},
            "items": [
                {"metadata": {"name": "a"}, "spec": {"runtimeRef": {"name": "torch", "later": 1}, "later": {}}},
                {"metadata": {"name": "b"}, "later": []},
            ],
        }))
        .unwrap();
        let names: Vec<_> = list.items.iter().map(|job| job.meta().name.as_deref()).collect();
        assert_eq!(names, [Some("a"), Some("b")]);
        assert_eq!(list.items[0].spec.runtime_ref.name, "torch");
    }
}
