#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component(retry = 3)]
fn fit(rate: f64) {}

fn main() {}
