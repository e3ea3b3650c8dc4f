#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn load(data: Output<Dataset>) {}

#[component]
fn show(data: Input<Dataset>) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let loaded = p.add(load());
        p.add(show(loaded.data, loaded.data));
    });
}
