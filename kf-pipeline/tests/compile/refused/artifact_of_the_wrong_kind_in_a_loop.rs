#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn fit(model: Output<Model>) {}

#[component]
fn read(data: Input<Dataset>) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let models = p.parallel_for(vec![1_i64], |p, _| p.add(fit()).model).collect();
        let _ = p.parallel_for(models, |p, model| p.add(read(model)));
    });
}
