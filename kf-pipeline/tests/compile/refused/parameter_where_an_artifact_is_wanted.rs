#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn evaluate(model: Input<Model>) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        p.add(evaluate("model.bin"));
    });
}
