#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn count() -> i64 {
    3
}

#[component]
fn fit(rate: f64) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let counted = p.add(count());
        p.add(fit(counted.output));
        p.add(fit("fast"));
    });
}
