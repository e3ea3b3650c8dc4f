//! Open Inference Protocol V2 as bytes: requests read, answers written, without any HTTP.
//!
//! <https://github.com/kserve/open-inference-protocol>, with Triton's binary tensor data extension.

mod answer;
mod elements;
mod envelope;
mod parameters;
mod request;

pub(crate) use self::{
    answer::{Answer, write_answer},
    request::{Layout, read_request},
};
