#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

struct Fit;

impl Fit {
    #[component]
    fn run(&self, rate: f64) {}
}

fn main() {}
