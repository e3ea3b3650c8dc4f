//! Kubernetes as one implementation of KF's traits: a program changes the launcher, and its ranks run as pods.

pub mod objects;
pub mod train;
