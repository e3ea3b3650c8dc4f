#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn fit(rate: f64, model: Output<Model>) {}

#[component]
fn best(models: Vec<Input<Model>>) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let fitted = p.add(fit(0.1));
        p.add(best(fitted.model));
    });
}
