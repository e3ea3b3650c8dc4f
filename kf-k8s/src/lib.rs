//! Kubernetes as one implementation of KF's traits.

pub mod objects;
