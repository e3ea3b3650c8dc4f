//! The objects of upstream's custom resources that this crate makes and reads.
