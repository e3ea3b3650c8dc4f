#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn load(data: Output<Dataset>) {}

#[component]
fn fit(train: Input<Dataset>, rate: f64) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let loaded = p.add(load());
        p.add(fit(loaded.data));
    });
}
