#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn count() -> i64 {
    1
}

#[component]
fn measure() -> f64 {
    1.0
}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let on = p.param("on", true);
        p.when(on, |p| p.add(count()).output).otherwise(|p| p.add(measure()).output);
    });
}
