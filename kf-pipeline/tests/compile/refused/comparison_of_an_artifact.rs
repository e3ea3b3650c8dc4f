#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn fit(model: Output<Model>) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let fitted = p.add(fit());
        p.when(fitted.model.ge(0.95), |_| ());
    });
}
