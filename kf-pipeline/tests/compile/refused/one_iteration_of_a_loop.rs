#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn fit(rate: f64) -> f64 {
    rate
}

#[component]
fn best(scores: Vec<f64>) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        p.parallel_for(vec![0.1, 0.2], |p, rate| {
            let fitted = p.add(fit(rate));
            p.add(best(fitted.output));
        });
    });
}
