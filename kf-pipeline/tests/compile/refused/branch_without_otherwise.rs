#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn count() -> i64 {
    1
}

#[component]
fn show(number: i64) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let number = p.when(p.param("on", true), |p| p.add(count()).output);
        p.add(show(number));
    });
}
