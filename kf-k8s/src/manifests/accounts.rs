//! The namespace, and its service accounts.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Options;
use crate::train::names::MANAGED_BY;

/// Pods beyond the level are refused; of objects that would make such pods, a warning is given.
pub(super) fn namespace(options: &Options) -> Namespace {
    let level = options.pod_security.as_str();
    let label = |mode: &str| (format!("pod-security.kubernetes.io/{mode}"), level.to_owned());
    Namespace {
        metadata: ObjectMeta {
            name: Some(options.namespace.clone()),
            labels: Some(["enforce", "audit", "warn"].map(label).into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Of pods that talk to the API server.
pub(super) fn with_token(options: &Options, name: &str) -> ServiceAccount {
    ServiceAccount { metadata: metadata(options, name), ..ServiceAccount::default() }
}

pub(super) fn task(options: &Options) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(options, &options.task),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Of an object in the namespace.
pub(super) fn metadata(options: &Options, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(options.namespace.clone()),
        labels: Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into()),
        ..ObjectMeta::default()
    }
}
