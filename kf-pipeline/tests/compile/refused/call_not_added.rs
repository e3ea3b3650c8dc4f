#![deny(unused_must_use)]
#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn count(start: i64) {}

fn main() {
    let _ = Pipeline::build("wrong", |_| {
        count(1);
    });
}
