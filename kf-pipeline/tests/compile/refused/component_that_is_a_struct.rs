#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
struct Fit {
    rate: f64,
}

fn main() {}
