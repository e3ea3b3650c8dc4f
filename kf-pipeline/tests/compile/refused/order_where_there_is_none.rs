#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn measure() -> bool {
    true
}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let good = p.add(measure());
        p.when(good.output.gt(false), |_| ());
    });
}
